"""`headgate inbox`: what is unread in your topics, what a device has missed, and how far you have come, over HTTP."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final, Literal

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Answer, Client, accepted
from headgate.cli.history import MessagePage, message_line, read_page
from headgate.cli.invocation import CommandFailed, Json, Token, Url, WrongCommand, of
from headgate.cli.output import Output, fields, note
from headgate.cli.paging import pages
from headgate.core.wire.ids import PRINTABLE_ASCII
from headgate.core.wire.payload import without_lone

PATH: Final = "/api/v1/inbox"
PAGE: Final = 1_000  # the most messages that the server answers at once
DEFAULT: Final = 100  # without --ack
PATIENCE_S: Final = 300.0  # for the rate of reads, which an acknowledgement counts to

app = typer.Typer(help="Lists your topics and what is unread, and gets what a device has missed.")

Device = Annotated[
    str | None, typer.Option("--device", metavar="ID", help="The device, else default.", show_default=False)
]
_LIMIT_HELP: Final = "At most so many messages; above 1000 only with --ack."
_ACK_HELP: Final = "Acknowledge what was printed, and go on until nothing is left."


class _MissedPage(MessagePage, kw_only=True):
    more: bool


class _FramePlace(msgspec.Struct):
    topic_id: str
    seq: int


@app.callback(invoke_without_command=True)
def inbox(
    context: typer.Context,
    *,
    device: Device = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many topics.", show_default="all")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Lists the topics that you are a member of, and how much of each is unread."""
    if context.invoked_subcommand is not None:
        if as_json or (device, limit, url, token) != (None, None, None, None):
            raise WrongCommand(f"options of headgate inbox {context.invoked_subcommand} stand behind its name")
        return 0
    output = Output(as_json)
    with _client(context, url, token) as client:
        for topic in islice(pages(client, PATH, "topics", {"device_id": _device(device)}), limit):
            output.raw(topic, _line, flush=False)
    output.flush()
    return 0


@app.command()
def messages(
    context: typer.Context,
    *,
    device: Device = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help=_LIMIT_HELP, show_default="100; all with --ack")
    ] = None,
    ack: Annotated[bool, typer.Option("--ack", help=_ACK_HELP)] = False,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints what a device has missed, topic by topic. Without --ack the next call prints it again."""
    if limit is not None and limit > PAGE and not ack:
        raise WrongCommand(f"--limit is at most {PAGE} without --ack")
    output, device = Output(as_json), _device(device)
    left = limit or (PAGE if ack else DEFAULT)
    with _client(context, url, token) as client:
        while True:
            page = _page(client, device, min(left, PAGE))
            frames = list(map(bytes, page.messages))
            for frame in frames:
                output.raw(frame, message_line, flush=False)
            output.flush()
            if ack:
                _acknowledge(client, device, frames)
            if not page.more:
                return 0
            if not frames:
                raise CommandFailed("there is more that cannot be read now; try again in a few seconds")
            left -= len(frames) if limit or not ack else 0
            if not ack or left <= 0:
                note("there is more: " + ("call again" if ack else "acknowledge this (--ack) to get the rest"))
                return 0


@app.command("ack")
def acknowledge(
    context: typer.Context,
    *,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's id.")],
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=0, help="The last message that you have.")],
    kind: Annotated[
        Literal["delivered", "read"], typer.Option(help="delivered: the device has it; read: you have read it.")
    ] = "delivered",
    device: Device = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Says how far a device has got a topic, or how far you have read it. It never moves back."""
    device = _device(device)
    with _client(context, url, token) as client:
        accepted(client.post(f"{PATH}/ack", _ack_body(device, topic, seq, kind)))
    done = {"topic_id": topic, "seq": seq, "kind": kind}
    Output(as_json).item(done, lambda _: fields((topic, "bold"), (f"#{seq}", "green"), (kind, "")))
    return 0


def _page(client: Client, device: str | None, limit: int) -> _MissedPage:
    query = {"device_id": device, "limit": limit}
    return read_page(_patiently(partial(client.get, f"{PATH}/messages", query)), _MissedPage)


def _acknowledge(client: Client, device: str | None, frames: Iterable[bytes]) -> None:
    """Moves the device's cursor in each topic to the last of these messages."""
    last: dict[str, int] = {}
    for frame in frames:
        place = msgspec.json.decode(without_lone(frame), type=_FramePlace)
        last[place.topic_id] = place.seq
    for topic, seq in last.items():
        body = _ack_body(device, topic, seq, "delivered")
        _patiently(partial(client.post, f"{PATH}/ack", body))


def _patiently(ask: Callable[[], Answer]) -> bytes:
    """Returns the body of an answer; waits, as long as the server says, where the rate is used up."""
    left = PATIENCE_S
    while True:
        answer = ask()
        wait = max(1.0, answer.retry_after_s)
        if answer.status != 429 or wait > left:
            return accepted(answer)
        time.sleep(wait)
        left -= wait


def _ack_body(device: str | None, topic: str, seq: int, kind: str) -> bytes:
    body = {"topic_id": topic, "seq": seq, "kind": kind}
    return msgspec.json.encode(body if device is None else {**body, "device_id": device})


def _device(device: str | None) -> str | None:
    if device is not None and PRINTABLE_ASCII.fullmatch(device) is None:
        raise WrongCommand("--device is 1 to 128 printable ASCII characters")
    return device


def _client(context: typer.Context, url: str | None, token: str | None) -> Client:
    return Client.of(of(context).settings({"client.url": url, "client.token": token}))


def _line(topic: dict[str, Any]) -> Text:
    unread = topic["unread"]
    return fields(
        (topic["topic_id"], "bold"),
        (f"{unread} unread", "green" if unread else "dim"),
        (f"head #{topic['head_seq']}", ""),
        (f"device at #{topic['cursor_seq']}", ""),
        (f"read to #{topic['read_seq']}", ""),
        ("inbox" if topic["mode"] == "inbox" else None, "magenta"),
    )
