"""Standard output: readable and coloured for a person, otherwise one JSON object a line.

What others wrote (names, payloads, errors) is shown to a person without control characters: a terminal obeys them.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

import msgspec
from rich.console import Console
from rich.text import Text

from headgate.cli.invocation import CommandFailed, WrongCommand, reason_of
from headgate.core.wire.errors import HeadgateError

_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}  # C0, DEL and C1


class ReaderGone(HeadgateError):
    """Nobody reads standard output any more: the command ends, without an error."""


class Output:
    """Prints a command's results. `lines`: NDJSON only, because it was asked for or there is no terminal."""

    def __init__(self, as_json: bool, *, go_on: bool = False) -> None:
        """With `go_on` the command goes on after its reader has gone. Raises WrongCommand without standard output."""
        self.lines = as_json or not opened().isatty()
        self._go_on = go_on
        self._console = Console(highlight=False, soft_wrap=True)

    def raw(self, item: bytes, human: Callable[[Any], Text], *, flush: bool = True) -> None:
        """Prints one JSON text as it came, or what `human` makes of the object. Raises ReaderGone, CommandFailed."""
        with self._reader():
            if not self.lines:
                self._console.print(_shown(item, human))
                return
            sys.stdout.buffer.write(item.replace(b"\n", b" ") + b"\n")  # no JSON string holds a bare newline
            if flush:
                sys.stdout.buffer.flush()

    def item(self, item: dict[str, Any], human: Callable[[Any], Text]) -> None:
        """Prints one object. Raises ReaderGone, CommandFailed."""
        self.raw(msgspec.json.encode(item), human)

    def flush(self) -> None:
        """Writes what `raw` has buffered. Raises ReaderGone, CommandFailed."""
        with self._reader():
            sys.stdout.flush()

    @contextlib.contextmanager
    def _reader(self) -> Iterator[None]:
        try:
            with writing():
                yield
        except BrokenPipeError:
            let_go()
            if not self._go_on:
                raise ReaderGone("nobody reads standard output") from None


def opened() -> TextIO:
    """Returns standard output. Raises WrongCommand where the caller has closed it."""
    if sys.stdout is None:
        raise WrongCommand("standard output is closed")
    return sys.stdout


def say(line: str) -> None:
    """Writes one line to standard output, for whoever reads it. Raises WrongCommand, CommandFailed."""
    stream = opened()
    with writing():
        stream.write(line + "\n")
        stream.flush()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Raises CommandFailed where standard output cannot be written, and BrokenPipeError where nobody reads it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise not_written(error) from None


def standard_input() -> TextIO:
    """Returns standard input. Raises WrongCommand where the caller has closed it."""
    if sys.stdin is None:
        raise WrongCommand("standard input is closed")
    return sys.stdin


def not_written(error: OSError) -> CommandFailed:
    """Returns the failure of a command whose output cannot be written, for instance to a full disk."""
    let_go()
    return CommandFailed(f"standard output: {reason_of(error)}")


def let_go() -> None:
    """Discards the output that is not written yet, so that the interpreter's last flush raises nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Writes one line for the person to standard error."""
    if sys.stderr is not None:
        print(harmless(text), file=sys.stderr, flush=True)  # noqa: T201 - this is where commands speak


def harmless(text: str) -> str:
    """Returns a text with its control characters written out, as `\\x1b`."""
    return text.translate(_ESCAPES)


def fields(*parts: tuple[Any, str]) -> Text:
    """Returns one line of (value, style) pairs; values that are None or empty are left out."""
    shown = [Text(harmless(str(value)), style) for value, style in parts if value not in (None, "")]
    return Text("  ").join(shown)


def compact(value: Any) -> str:
    """Returns a value as JSON on one line."""
    return msgspec.json.encode(value).decode()


def _shown(item: bytes, human: Callable[[Any], Text]) -> Text:
    """Returns an object for a person; as it came where it is JSON that Python has no value for (`1e999`)."""
    try:
        found = msgspec.json.decode(item)
    except msgspec.DecodeError:
        return Text(harmless(item.decode("utf-8", "replace")))
    return human(found)
