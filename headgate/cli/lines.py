"""Lines of a file or pipe as items of a publish batch."""

import os
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from headgate.core.wire.payload import check_depth, check_utf8, compact, without_lone

BATCH_ITEMS: Final = 1_000
BATCH_BYTES: Final = 7 * 1024 * 1024  # under the 8 MiB that a server takes
MAX_LINE: Final = 1024 * 1024  # far above any payload; a file without line ends must not fill the memory
_READ: Final = 1024 * 1024
_WHY: Final = {"not_utf8": "not UTF-8", "not_json": "not JSON", "too_deep": "nested too deep"}


class Line(NamedTuple):
    """One line: `body` is its item of the batch, or `problem` says why it is none."""

    number: int
    body: bytes
    problem: bytes | None


class Shaper:
    """Turns lines into items. Each item gets an id of its own and keeps it when it is sent again."""

    def __init__(self, run: str, topic_field: str | None) -> None:
        self._run = run
        self._field = topic_field

    def item(self, number: int, line: bytes) -> Line:
        """Returns the item of one line that is not blank."""
        try:
            if len(line) > MAX_LINE:
                raise ValueError("too_large", f"longer than {MAX_LINE} bytes")
            body = self._body(number, line)
        except ValueError as error:
            code, why = error.args
            return Line(number, b"", local_problem(code, f"line {number} is {why}"))
        return Line(number, body, None)

    def _body(self, number: int, line: bytes) -> bytes:
        check_json(line)
        topic = b"" if self._field is None else b'"topic_id":%b,' % msgspec.json.encode(_topic(line, self._field))
        return b'{%b"client_msg_id":"%b-%d","payload":%b}' % (topic, self._run.encode(), number, line)


def check_json(text: bytes) -> None:
    """Raises ValueError (code, why) for text that is not JSON as the protocol takes it."""
    try:
        check_utf8(text)
        check_depth(compact(text))
    except ValueError as error:
        raise ValueError("bad_request", _WHY[error.args[0]]) from None


def local_problem(code: str, detail: str) -> bytes:
    """Returns a problem for what was never sent, in the form of an item's answer."""
    status = 413 if code == "too_large" else 400
    return msgspec.json.encode({"status": status, "code": code, "detail": detail, "retryable": False})


def batches(chunks: Iterable[list[bytes]], shaper: Shaper) -> Iterator[list[Line]]:
    """Yields batches within both bounds. A batch waits for no further input, so a slow pipe is not delayed."""
    number = 0
    for chunk in chunks:
        batch: list[Line] = []
        size = 0
        for line in chunk:
            number += 1
            text = line.strip()
            if not text:
                continue
            item = shaper.item(number, text)
            if len(batch) == BATCH_ITEMS or size + len(item.body) > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(item)
            size += len(item.body) + 1
        if batch:
            yield batch


def chunks(descriptor: int) -> Iterator[list[bytes]]:
    """Yields the complete lines of each read, the last line with or without its newline. Raises OSError."""
    rest = b""
    while data := os.read(descriptor, _READ):
        *lines, last = data.split(b"\n")
        if lines:
            lines[0] = rest + lines[0]
            rest = last
            yield lines
        else:
            rest = (rest + last)[: MAX_LINE + 1]  # the rest of such a line is refused anyway
    if rest:
        yield [rest]


def _topic(line: bytes, field: str) -> str:
    try:
        found = msgspec.json.decode(without_lone(line) if b"\\u" in line else line, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(found[field], type=str)
    except KeyError:
        raise ValueError("bad_request", f"without a member {field}") from None
    except msgspec.DecodeError:
        raise ValueError("bad_request", f"no object with a string in {field}") from None
