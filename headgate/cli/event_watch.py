"""`headgate events`: prints what happens to messages, from the server's stream of lifecycle events."""

from typing import Annotated

import typer

from headgate.cli.client import Client
from headgate.cli.invocation import Json, Token, Url, WrongCommand, of
from headgate.cli.output import Output
from headgate.core.wire.errors import Refusal
from headgate.core.wire.event_names import EventName
from headgate.core.wire.ids import check_topic_id


def events(
    context: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Connect again when the stream ends or is lost.")] = False,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="Only of this topic; may be repeated.", show_default=False)
    ] = None,
    event: Annotated[
        list[EventName] | None,
        typer.Option(metavar="NAME", help=f"Only these; may be repeated: {', '.join(EventName)}.", show_default=False),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many events.", show_default=False)
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints lifecycle events as they happen. Needs a token with the claim admin. Ctrl-C ends it."""
    settings = of(context).settings({"client.url": url, "client.token": token})
    try:
        query = {"topic_id": [check_topic_id(one) for one in topic or ()], "event": [str(one) for one in event or ()]}
    except Refusal as error:
        raise WrongCommand(error.detail) from None
    from headgate.cli.event_following import Watch  # noqa: PLC0415  the client costs every other command 0.2 s

    with Client.of(settings) as client:
        watch = Watch(client, query, Output(as_json), count)
        try:
            return watch.run(follow=follow)
        except KeyboardInterrupt:
            return 0
