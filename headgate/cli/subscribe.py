"""`headgate subscribe`: prints the messages of topics as they come, over lost connections and restarts."""

from typing import Annotated, Final

import typer

from headgate.cli.invocation import Json, StreamUrl, Token, Url, WrongCommand, of
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.position import from_query

FORMS: Final = "live, earliest, EPOCH:SEQ, seq:N, ts:MS or last:N"


def subscribe(
    context: typer.Context,
    *,
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC", help="The topics' ids.")],
    start: Annotated[str, typer.Option("--from", metavar="FORM", help=f"Where to begin: {FORMS}.")] = "live",
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many messages.", show_default=False)
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="Print every frame, not only messages.")] = False,
    presence: Annotated[
        bool, typer.Option("--presence", help="Print who is there and who comes and goes, beside the messages.")
    ] = False,
    url: Url = None,
    stream_url: StreamUrl = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints messages as they come, and goes on where it was after a lost connection. Ctrl-C ends it."""
    short = {"client.url": url, "client.stream_url": stream_url, "client.token": token}
    settings = of(context).settings(short)
    try:
        from_query(start)
        wanted = list(dict.fromkeys(map(check_topic_id, topics)))
    except Refusal as error:
        known = "" if error.code != "bad_request" or start == "cursor" else f"--from {start} is none of {FORMS}"
        raise WrongCommand(known or error.detail) from None
    from headgate.cli.following import Follower, run  # noqa: PLC0415  the client costs every other command 0.2 s

    follower = Follower(settings, as_json=as_json, frames=frames, count=count)
    return run(follower, wanted, start, presence)
