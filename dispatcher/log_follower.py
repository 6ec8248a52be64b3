"""Follows one log of a shard: reads it from where its state was, and says when it was read up to the end.

The inbox log and the dead-letter log are followed so, each by a task of its own; the message log is not, because its
records are fenced and answered (`shard.py`).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from headgate.core.wire.records import Batch, LogName, Record, slices
from headgate.runtime.ports import Log, LogUnavailable, Reader

READ_RECORDS: Final = 2_000
READ_S: Final = 1.0
BEHIND_READ_S: Final = 0.05  # while questions wait: a silent log shows its end only after a read
WAITING: Final = 10_000  # questions that wait until the log has been read


class LogState(Protocol):
    """What the records of a log make; `next_offset` is the one up to which everything was applied."""

    next_offset: int


class FollowerActions(NamedTuple):
    """What is done with a log: `apply` takes records and moves the state's `next_offset`.

    `applied` is called after each slice and each batch of them, `completed` once all that was there is applied.
    """

    apply: Callable[[Sequence[Record]], None]
    applied: Callable[[], None]
    completed: Callable[[], None] = lambda: None


class LogFollower:
    """One reader of one log.

    `is_complete`: the log has been read up to the `end` that it had when the shard's message log had been (`live`).
    While the log is away it is tried every `retry_s` seconds.
    """

    def __init__(
        self,
        log: Log,
        name: LogName,
        number: int,
        live: asyncio.Event,
        state: LogState,
        do: FollowerActions,
        retry_s: float,
    ) -> None:
        self.is_complete = False
        self.end: int | None = None
        self._log = log
        self._name = name
        self._number = number
        self._live = live
        self._state = state
        self._do = do
        self._retry_s = retry_s
        self._waiting: list[Callable[[], None]] = []

    def hold(self, again: Callable[[], None]) -> bool:
        """Calls `again` once complete, in the order of the calls. Returns False when too many wait."""
        if len(self._waiting) >= WAITING:
            return False
        self._waiting.append(again)
        return True

    async def follow(self) -> None:
        """Applies the log's records as they come, until cancelled. Raises OffsetGone and other LogErrors."""
        reader = await self._log.reader(self._name, self._number, self._state.next_offset)
        try:
            while True:
                batch = await self._read(reader)
                if batch is None:
                    await asyncio.sleep(self._retry_s)
                else:
                    await self.take(batch)
        finally:
            await reader.close()

    async def take(self, batch: Batch) -> None:
        """Applies what one read has returned."""
        for records in slices(batch.records):
            self._do.apply(records)
            self._do.applied()
            await asyncio.sleep(0)
        self._state.next_offset = max(self._state.next_offset, batch.next_offset)  # over transaction markers too
        self._do.applied()
        if not self.is_complete and self.end is not None:
            end = self.end if batch.stable is None else min(self.end, batch.stable)
            if self._state.next_offset >= end:
                self.complete()

    def complete(self) -> None:
        """All has been read: calls those that were held."""
        self._do.completed()
        self.is_complete = True
        waiting, self._waiting = self._waiting, []
        for again in waiting:
            again()

    async def _read(self, reader: Reader) -> Batch | None:
        """Returns the next records, None while the log cannot be reached."""
        try:
            if self.end is None and self._live.is_set():
                self.end = (await self._log.bounds(self._name, self._number)).end
            return await reader.read(READ_RECORDS, READ_S if self.is_complete else BEHIND_READ_S)
        except LogUnavailable:
            return None
