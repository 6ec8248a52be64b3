"""`headgate history`: prints what a topic keeps, one item a line."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted, topic_path
from headgate.cli.invocation import Json, Token, Url, of
from headgate.cli.output import Output, compact, fields, note

_PAGE: Final = 1_000  # the most the server answers at once


def history(
    context: typer.Context,
    *,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's id.")],
    after_seq: Annotated[
        int | None, typer.Option(metavar="N", help="The oldest messages above N; else the newest.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most so many.", show_default="100")] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints a topic's messages in order."""
    output = Output(as_json)
    with Client.of(of(context).settings({"client.url": url, "client.token": token})) as client:
        for frame in _frames(client, topic, after_seq, limit):
            output.raw(frame, message_line, flush=False)
    output.flush()
    return 0


def message_line(frame: dict[str, Any]) -> Text:
    """Returns a `message` frame for a person."""
    kind = "redacted" if frame.get("redacted") else frame.get("kind")
    return fields(
        (f"#{frame['seq']}" if "seq" in frame else "", "green"),
        (frame.get("topic_id"), "bold"),
        (frame.get("publisher_id"), "cyan"),
        (kind, "magenta"),
        (compact(frame.get("payload")), ""),
    )


class _Head(msgspec.Struct):
    seq: int


class _Page(msgspec.Struct):
    messages: list[msgspec.Raw]
    complete: bool = True


def _frames(client: Client, topic: str, after_seq: int | None, limit: int | None) -> Iterator[bytes]:
    """Yields up to `limit` frames; above a page only where there is a place to go on from."""
    left = limit
    while True:
        asked = left if left is None or after_seq is None else min(left, _PAGE)
        answer = client.get(topic_path(topic, "/messages"), {"after_seq": after_seq, "limit": asked})
        page = msgspec.json.decode(accepted(answer), type=_Page)
        if not page.complete:
            note("the index is still being rebuilt: older messages may be missing")
        yield from map(bytes, page.messages)
        if left is None or after_seq is None or len(page.messages) < _PAGE or left <= _PAGE:
            return
        left -= len(page.messages)
        after_seq = msgspec.json.decode(page.messages[-1], type=_Head).seq
