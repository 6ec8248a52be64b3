"""`headgate direct`: the topic of the caller and another user, made where they have none yet."""

from typing import Annotated

import msgspec
import typer

from headgate.cli.client import Client, accepted
from headgate.cli.invocation import Json, Token, Url, of
from headgate.cli.output import Output
from headgate.cli.topics import topic_line


def direct(
    context: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="The other user; yourself for a talk with yourself.")],
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints the private topic of the caller and USER, and makes it where there is none."""
    with Client.of(of(context).settings({"client.url": url, "client.token": token})) as client:
        answer = accepted(client.post("/api/v1/direct", msgspec.json.encode({"user_id": user})))
    Output(as_json).raw(answer, topic_line)
    return 0
