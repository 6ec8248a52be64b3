"""Reads the server's stream of lifecycle events for `headgate events`, again and again where it is asked to."""

import random
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from rich.text import Text

from headgate.cli.client import Client, ServerRefused, Unreachable
from headgate.cli.invocation import CommandFailed
from headgate.cli.output import Output, fields
from headgate.core.wire.timestamps import rfc3339
from headgate_client.reconnection import LOST, Backoff, after_close

_HEALS: Final = frozenset({408, 429, 500, 502, 503, 504})  # also where a proxy says it


class _Ending(msgspec.Struct):
    """The `disconnect` of a stream."""

    code: int = LOST
    reason: str = ""
    reconnect: bool | None = None
    retry_after_ms: int | None = None


class Watch:
    """One call of the command; `left` are the events that are still to be printed, None for no bound."""

    def __init__(self, client: Client, query: dict[str, list[str]], output: Output, left: int | None) -> None:
        self._client = client
        self._query = query
        self._output = output
        self._left = left
        self._reached = False
        self._backoff = Backoff(random.random)

    def run(self, *, follow: bool) -> int:
        """Reads one stream, or one after the other. Returns the exit status. Raises CommandFailed."""
        while True:
            last: _Ending | None = None
            try:
                last = self._read()
            except Unreachable:
                if not (follow and self._reached):
                    raise
            except ServerRefused as refused:
                if not (follow and self._reached and refused.status in _HEALS):
                    raise
                last = _Ending(retry_after_ms=refused.retry_after_ms)
            if self._left == 0:
                return 0
            end = last or _Ending()
            if not follow or after_close(end.code, reconnect=end.reconnect) == "stop":
                raise CommandFailed(f"{self._client.url} ended the stream: {end.code} {end.reason}".rstrip())
            time.sleep(self._backoff.next_s(end.retry_after_ms))

    def _read(self) -> _Ending | None:
        """Prints one stream to its end; returns its `disconnect`, None where there was none."""
        for name, data in _blocks(self._lines()):
            if name == "disconnect":
                return msgspec.json.decode(data, type=_Ending)
            self._backoff.reset()
            self._output.raw(data, _line)
            if name == "" and self._left is not None:
                self._left -= 1
                if not self._left:
                    return None
        return None

    def _lines(self) -> Iterator[bytes]:
        for line in self._client.lines("/api/v1/events", self._query):
            self._reached = True  # also where nothing happens for long
            yield line


def _blocks(lines: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yields the (event, data) of Server-Sent Events; ours have one line of data."""
    name, data = "", b""
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"event":
            name = value.decode()
        elif field == b"data":
            data = value
        elif not field and data:
            yield name, data
            name, data = "", b""


def _line(event: dict[str, Any]) -> Text:
    if event["event"] == "gap":
        return fields(("gap", "yellow"), (event.get("count") or "some", "yellow"), (event.get("reason"), "yellow"))
    known = ("event", "at", "topic", "seq", "id", "subscriber", "attempts", "status", "epoch")
    rest = " ".join(
        f"{name}={msgspec.json.encode(value).decode()}" for name, value in event.items() if name not in known
    )
    return fields(
        (rfc3339(int(event["at"] * 1_000)), "dim"),
        (event["event"], "magenta"),
        (event.get("topic"), "bold"),
        (f"#{event['seq']}" if "seq" in event else event.get("id"), "green"),
        (event.get("subscriber"), "cyan"),
        (f"attempt {event['attempts']}" if event.get("attempts") else None, ""),
        (rest, ""),
    )
