"""`headgate top`: lists the first topics and users of an installation, over HTTP."""

from typing import Any, Final

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted
from headgate.cli.invocation import Json, Token, Url, of
from headgate.cli.output import Output, fields, note

LISTS: Final = ("topic_members", "topic_messages_per_hour", "topic_failures", "inbox_backlog")


def top(context: typer.Context, url: Url = None, token: Token = None, as_json: Json = False) -> int:
    """Lists the topics with most members, messages and failures an hour, and the users with most unread messages.

    Needs a token with the claim admin.
    """
    output = Output(as_json)
    with Client.of(of(context).settings({"client.url": url, "client.token": token})) as client:
        answer: dict[str, Any] = msgspec.json.decode(accepted(client.get("/api/v1/top")))
    for name in LISTS:
        for rank, entry in enumerate(answer.get(name, []), 1):
            output.item({"list": name, "rank": rank, **entry}, _line)
    if not answer.get("complete"):
        note("the owner of a shard did not answer: the lists are not complete")
    return 0


def _line(entry: dict[str, Any]) -> Text:
    return fields(
        (entry["list"], "cyan"),
        (entry["rank"], ""),
        (entry.get("topic_id", entry.get("user_id")), "bold"),
        (entry.get("count"), ""),
        (f"or {entry['error']} more" if entry.get("error") else None, "dim"),
    )
