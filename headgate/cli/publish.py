"""`headgate publish`: one payload, or the lines of a file or pipe in batches."""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from headgate.cli.client import Client, topic_path
from headgate.cli.invocation import CommandFailed, Json, Token, Url, WrongCommand, of
from headgate.cli.lines import Line, Shaper, batches, check_json, chunks
from headgate.cli.output import Output, fields, standard_input
from headgate.cli.sender import Sender


class _Status(msgspec.Struct):
    status: int = 200  # an answer of a single publish has none


def publish(
    context: typer.Context,
    *,
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="The topic's id.", show_default=False)] = None,
    payload: Annotated[
        str | None,
        typer.Argument(metavar="PAYLOAD|-", help="JSON; or - to publish standard input line by line."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="F", help="Publish this file line by line; each line is one JSON payload.")
    ] = None,
    topic_field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The member of each line that names its topic, in place of TOPIC."),
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Publishes a JSON payload, or every line of a file or of standard input.

    headgate publish hello '{"text":"hi"}'
    headgate publish hello --file lines.ndjson
    headgate publish --topic-field symbol - < ticks.ndjson
    """
    words = [word for word in (topic, payload) if word is not None]
    topic_id, text = _what(words, file, topic_field)
    settings = of(context).settings({"client.url": url, "client.token": token})
    output = Output(as_json, go_on=True)
    shaper = Shaper(uuid.uuid4().hex, topic_field)
    single = None if text is None else _single(shaper, text)
    path = "/api/v1/publish/batch" if topic_id is None else topic_path(topic_id, "/publish/batch")
    with Client.of(settings) as client:
        sender = Sender(client, path)
        if single is None:
            with _source(file) as descriptor:
                name = "standard input" if file is None else str(file)
                return _publish_lines(descriptor, name, shaper, sender, output)
        (answer,) = sender.send([single])
        output.raw(answer, _line)
        return int(_refused(answer))


def _what(words: list[str], file: Path | None, topic_field: str | None) -> tuple[str | None, bytes | None]:
    """Returns the topic (None: in each line) and the one payload (None: lines). Raises WrongCommand."""
    topic = None
    if topic_field is None:
        if not words:
            raise WrongCommand("headgate publish needs a TOPIC, or --topic-field")
        topic, words = words[0], words[1:]
    if file is not None:
        if words:
            raise WrongCommand(f"with --file there is no PAYLOAD, and there is {words[0]!r}")
        return topic, None
    if len(words) > 1 or (words and topic is None and words != ["-"]):
        raise WrongCommand(f"{words[-1]!r} is an argument too many")
    if not words:
        raise WrongCommand("headgate publish needs a PAYLOAD, --file F, or - for standard input")
    return topic, None if words == ["-"] else os.fsencode(words[0])


def _single(shaper: Shaper, payload: bytes) -> Line:
    try:
        check_json(payload)
    except ValueError as error:
        raise WrongCommand(f"PAYLOAD is {error.args[1]}") from None
    return shaper.item(1, payload.replace(b"\n", b" ").strip())


@contextlib.contextmanager
def _source(file: Path | None) -> Iterator[int]:
    if file is None or str(file) == "-":
        yield standard_input().fileno()
        return
    with _readable(str(file)):
        descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandFailed(f"cannot read {name}: {error.strerror}") from None


def _publish_lines(descriptor: int, name: str, shaper: Shaper, sender: Sender, output: Output) -> int:
    counts = {"published": 0, "refused": 0}
    began = time.monotonic()
    with _progress(descriptor) as advance:
        for batch in batches(_counted(descriptor, name, advance), shaper):
            answers = sender.send(batch)
            refused = [answer for answer in answers if _refused(answer)]
            counts["refused"] += len(refused)
            counts["published"] += len(answers) - len(refused)
            for answer in answers if output.lines else refused:
                output.raw(answer, _line, flush=False)
            output.flush()
    if sys.stderr is not None and sys.stderr.isatty():
        seconds = max(time.monotonic() - began, 1e-6)
        rate = counts["published"] / seconds
        text = f"{counts['published']:,} published, {counts['refused']:,} refused in {seconds:.1f} s ({rate:,.0f}/s)"
        Console(stderr=True, highlight=False).print(text, style="red" if counts["refused"] else "green")
    return 1 if counts["refused"] else 0


def _counted(descriptor: int, name: str, advance: Callable[[int], None]) -> Iterator[list[bytes]]:
    """Yields chunks; reports the bytes of a chunk when all of it was sent. Raises CommandFailed."""
    found = chunks(descriptor)
    while True:
        with _readable(name):  # a folder can be opened: only reading it fails
            chunk = next(found, None)
        if chunk is None:
            return
        yield chunk
        advance(sum(map(len, chunk)) + len(chunk))


@contextlib.contextmanager
def _progress(descriptor: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal; its length is the file's, where there is one."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    size = os.fstat(descriptor).st_size
    columns = (TextColumn("publishing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=True) as progress:
        task = progress.add_task("publish", total=size or None)
        yield lambda count: progress.advance(task, count)


def _refused(answer: bytes) -> bool:
    return msgspec.json.decode(answer, type=_Status).status != 200


def _line(answer: dict[str, Any]) -> Text:
    if answer.get("status", 200) != 200:
        return fields((f"{answer['status']} {answer.get('code')}", "bold red"), (answer.get("detail"), ""))
    return fields(
        ("dropped" if answer.get("dropped") else "accepted", "green"),
        (answer.get("topic_id"), "bold"),
        (answer.get("message_id"), "dim"),
        (f"delivered to {answer.get('delivered_to', 0)}", ""),
    )
