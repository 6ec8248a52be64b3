"""Reads the format of event streams (HTML standard, "Server-sent events") from bytes in any pieces. Pure."""

import re
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the end may be half of a CRLF


class EventParser:
    """Returns the data of events that are whole. Their `id` and `retry` are not needed: frames have their seq."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: of one event."""
        self._max_bytes = max_bytes
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def push(self, piece: bytes) -> list[bytes]:
        """Returns the data of each event that ends in this piece. Raises ValueError where one is too long."""
        lines = _LINE_END.split(self._rest + piece)
        self._rest = lines.pop()
        events = []
        for line in lines:
            name, _, value = line.partition(b":")
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
            elif name == b"data":
                self._data.append(value.removeprefix(b" "))
                self._size += len(value)
        if len(self._rest) + self._size > self._max_bytes:
            raise ValueError(f"an event is longer than {self._max_bytes} bytes")
        return events
