"""Standard output: readable and coloured for a person, otherwise one JSON object a line."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from headgate.core.wire.errors import HeadgateError


class ReaderGone(HeadgateError):
    """Nobody reads standard output any more: the command ends, without an error."""


class Output:
    """Prints a command's results. `lines`: NDJSON only, because it was asked for or there is no terminal."""

    def __init__(self, as_json: bool, *, go_on: bool = False) -> None:
        """With `go_on` the command goes on after its reader has gone."""
        self.lines = as_json or not sys.stdout.isatty()
        self._go_on = go_on
        self._console = Console(highlight=False, soft_wrap=True)

    def raw(self, item: bytes, human: Callable[[Any], Text], *, flush: bool = True) -> None:
        """Prints one JSON text as it came, or what `human` makes of the object. Raises ReaderGone."""
        if not self.lines:
            self._console.print(_shown(item, human))
            return
        with self._reader():
            sys.stdout.buffer.write(item.replace(b"\n", b" ") + b"\n")  # no JSON string holds a bare newline
            if flush:
                sys.stdout.buffer.flush()

    def item(self, item: dict[str, Any], human: Callable[[Any], Text]) -> None:
        """Prints one object. Raises ReaderGone."""
        self.raw(msgspec.json.encode(item), human)

    def flush(self) -> None:
        """Writes what `raw` has buffered. Raises ReaderGone."""
        with self._reader():
            sys.stdout.flush()

    @contextlib.contextmanager
    def _reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            let_go()
            if not self._go_on:
                raise ReaderGone("nobody reads standard output") from None


def let_go() -> None:
    """Discards the output that is not written yet, so that the interpreter's last flush raises nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Writes one line for the person to standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is where commands speak


def fields(*parts: tuple[Any, str]) -> Text:
    """Returns one line of (value, style) pairs; values that are None or empty are left out."""
    shown = [Text(str(value), style) for value, style in parts if value not in (None, "")]
    return Text("  ").join(shown)


def compact(value: Any) -> str:
    """Returns a value as JSON on one line."""
    return msgspec.json.encode(value).decode()


def _shown(item: bytes, human: Callable[[Any], Text]) -> Text:
    """Returns an object for a person; as it came where it is JSON that Python has no value for (`1e999`)."""
    try:
        found = msgspec.json.decode(item)
    except msgspec.DecodeError:
        return Text(item.decode("utf-8", "replace"))
    return human(found)
