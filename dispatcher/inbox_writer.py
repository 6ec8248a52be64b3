"""Writes cursors and read marks of a shard's users to its inbox log: those of a loop turn in as few records as can be.

One counts as stored once this shard has read it back: who is told so, and asks then, is given it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

import structlog

from headgate.core.wire.errors import Refusal
from headgate.core.wire.records import Appended, LogName
from headgate.runtime.ports import Log, LogError

logger = structlog.get_logger("dispatcher")

WAITING: Final = 10_000  # requests that are not stored yet
WAITING_BYTES: Final = 8 * 1024 * 1024  # of their entries
RETRY_MS: Final = 1_000

RecordsOf = Callable[[Iterable[bytes]], Iterator[tuple[bytes, int]]]  # as `records_of_cursors`
WhenApplied = Callable[[int, Callable[[], None]], None]  # as `UserInbox.when_applied`
Stored = Callable[[Refusal | None], None]  # None: all of it is stored


class _Write:
    """One request; `missing` of its entries are not stored yet."""

    __slots__ = ("missing", "size", "stored")

    def __init__(self, missing: int, size: int, stored: Stored) -> None:
        self.missing = missing
        self.size = size
        self.stored: Stored | None = stored


class InboxWriter:
    """The cursors, or the read marks, of one shard on their way to the log. `what` names them in plain words."""

    def __init__(self, log: Log, number: int, what: str, records_of: RecordsOf, when_applied: WhenApplied) -> None:
        self._log = log
        self._number = number
        self._what = what
        self._records_of = records_of
        self._when_applied = when_applied
        self._open: deque[tuple[bytes, _Write]] = deque()  # entries of this loop turn
        self._writes: dict[_Write, None] = {}
        self._bytes = 0
        self._handle: asyncio.Handle | None = None

    def write(self, entries: list[bytes], stored: Stored) -> None:
        """Writes entries as bytes; calls `stored` once, with the reason where they may not be in the log.

        Raises Refusal `overloaded` where too much waits.
        """
        if not entries:
            stored(None)
            return
        size = sum(map(len, entries))
        if len(self._writes) >= WAITING or self._bytes + size > WAITING_BYTES:
            why = f"too many {self._what} of this shard wait for the log"
            raise Refusal("overloaded", why, retry_after_ms=RETRY_MS)
        write = _Write(len(entries), size, stored)
        self._writes[write] = None
        self._bytes += size
        self._open += [(entry, write) for entry in entries]
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._append)

    def close(self) -> None:
        """The shard is released: what waits is refused, and is in the log later: merging it is harmless."""
        if self._handle is not None:
            self._handle.cancel()
            self._append()
        for write in list(self._writes):
            self._end(write, Refusal("not_ready", f"shard {self._number} was given up"))

    def _append(self) -> None:
        self._handle = None
        taken, self._open = self._open, deque()
        for value, count in self._records_of([entry for entry, _ in taken]):
            writes = [taken.popleft()[1] for _ in range(count)]
            future = self._log.append(LogName.INBOX, self._number, None, value)
            future.add_done_callback(partial(self._appended, writes))

    def _appended(self, writes: list[_Write], done: "asyncio.Future[Appended]") -> None:
        error = None if done.cancelled() else done.exception()
        if error is None and not done.cancelled():
            self._when_applied(done.result().offset, partial(self._applied, writes))
            return
        if error is not None and not isinstance(error, LogError):
            logger.error("inbox records cannot be written", shard=self._number, what=self._what, why=str(error))
        refusal = Refusal("not_ready", f"the log cannot take {self._what} now: {error}", retry_after_ms=RETRY_MS)
        for write in writes:
            self._end(write, refusal)

    def _applied(self, writes: list[_Write]) -> None:
        for write in writes:
            write.missing -= 1
            if not write.missing:
                self._end(write, None)

    def _end(self, write: _Write, refusal: Refusal | None) -> None:
        """Answers a request once."""
        if write.stored is None:
            return
        stored, write.stored = write.stored, None
        del self._writes[write]
        self._bytes -= write.size
        stored(refusal)
