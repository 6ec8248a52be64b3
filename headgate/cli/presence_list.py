"""`headgate presence`: lists who follows a topic, over HTTP."""

from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted
from headgate.cli.invocation import Json, Token, Url, WrongCommand, of
from headgate.cli.output import Output, fields, note
from headgate.cli.paging import pages
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id


def presence(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's id.")],
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Lists the users who follow a topic on all gateways, one a line, and says on standard error how many there are."""
    try:
        path = f"/api/v1/topics/{check_topic_id(topic)}/subscribers"
    except Refusal as error:
        raise WrongCommand(error.detail) from None
    output = Output(as_json)
    with Client.of(of(context).settings({"client.url": url, "client.token": token})) as client:
        for user in pages(client, path, "subscribers"):
            output.raw(user, _line, flush=False)
        count = msgspec.json.decode(accepted(client.get(path, {"limit": 1})), type=_Count).count
    output.flush()
    note(f"{topic}: {count} {'user' if count == 1 else 'users'}")
    return 0


class _Count(msgspec.Struct):
    count: int


def _line(user: dict[str, Any]) -> Text:
    connections = user.get("connections")
    return fields(
        (user.get("user_id"), "bold"),
        (user.get("state"), "cyan"),
        (f"{connections} connection{'' if connections == 1 else 's'}", ""),
        (user.get("since"), "dim"),
    )
