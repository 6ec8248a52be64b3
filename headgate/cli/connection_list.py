"""`headgate connections`: lists a user's live connections, over HTTP."""

from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted
from headgate.cli.invocation import Json, Token, Url, of
from headgate.cli.output import Output, fields


def connections(
    context: typer.Context,
    user: Annotated[
        str | None, typer.Option(help="Another user; needs a token with the claim admin.", show_default=False)
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Lists the live connections of the caller on all gateways, with their subscriptions."""
    output = Output(as_json)
    with Client.of(of(context).settings({"client.url": url, "client.token": token})) as client:
        answer = accepted(client.get("/api/v1/connections", {"user_id": user}))
        for connection in msgspec.json.decode(answer, type=_Connections).connections:
            output.raw(bytes(connection), _line, flush=False)
    output.flush()
    return 0


class _Connections(msgspec.Struct):
    connections: list[msgspec.Raw]


def _line(connection: dict[str, Any]) -> Text:
    topics = [subscription.get("topic_id", "") for subscription in connection.get("subscriptions", [])]
    return fields(
        (connection.get("connection_id"), "bold"),
        (connection.get("device_id"), ""),
        (connection.get("transport"), "cyan"),
        (connection.get("gateway"), ""),
        (connection.get("connected_at"), "dim"),
        (" ".join(topics) or None, ""),
    )
