"""`headgate history`: prints what a topic keeps, one item a line."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted, topic_path
from headgate.cli.invocation import Json, Token, Url, WrongCommand, of
from headgate.cli.output import Output, compact, fields, note
from headgate.core.wire.payload import parts, without_lone

_PAGE: Final = 1_000  # the most the server answers at once


class MessagePage(msgspec.Struct):
    """An answer with messages, each as it came."""

    messages: list[msgspec.Raw]


Page = TypeVar("Page", bound=MessagePage)


def history(
    context: typer.Context,
    *,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's id.")],
    after_seq: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Begin after seq N; without it: the newest messages.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most so many messages; above 1000 only with --after-seq.")
    ] = 100,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints a topic's messages in order."""
    if limit > _PAGE and after_seq is None:
        raise WrongCommand(f"--limit is at most {_PAGE} without --after-seq")
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


def read_page(body: bytes, kind: type[Page]) -> Page:
    """Reads a page whose messages stay as they came, also those that msgspec refuses."""
    stand_in = without_lone(body) if b"\\u" in body else body
    page = msgspec.json.decode(stand_in, type=kind)
    if stand_in != body:
        (listed,) = (part for part in parts(body) if part.startswith(b'"messages"'))
        page.messages = [msgspec.Raw(text) for text in parts(listed.partition(b":")[2])]
    return page


class _FrameHead(msgspec.Struct):
    seq: int


class _HistoryPage(MessagePage, kw_only=True):
    last_seq: int
    complete: bool = True


def _frames(client: Client, topic: str, after_seq: int | None, limit: int) -> Iterator[bytes]:
    """Yields up to `limit` frames. Only `last_seq` marks the end: the server ends a page by bytes too."""
    left, told = limit, False
    asked = left if after_seq is None else min(left, _PAGE)  # the newest are one page; the server refuses more
    while True:
        answer = client.get(topic_path(topic, "/messages"), {"after_seq": after_seq, "limit": asked})
        page = read_page(accepted(answer), _HistoryPage)
        if not (page.complete or told):
            note("the index is still being rebuilt: older messages may be missing")
            told = True
        yield from map(bytes, page.messages)
        left -= len(page.messages)
        if left <= 0 or not page.messages:
            return
        after_seq = _seq(bytes(page.messages[-1]))
        if after_seq >= page.last_seq:
            return
        asked = min(left, _PAGE)


def _seq(frame: bytes) -> int:
    return msgspec.json.decode(without_lone(frame), type=_FrameHead).seq
