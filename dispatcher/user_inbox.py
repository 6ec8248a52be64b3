"""Reads the inbox log of one shard: which topics its users are members of, and the cursors of their devices."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from dispatcher.ports import DispatcherMetrics
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.records import Batch, LogName, Record, slices
from headgate.runtime.ports import Log, LogUnavailable, Reader

logger = structlog.get_logger("dispatcher")

READ_RECORDS: Final = 2_000
READ_S: Final = 1.0
BEHIND_READ_S: Final = 0.05  # while questions wait: a silent log shows its end only after a read
RETRY_S: Final = 0.5
WAITING: Final = 10_000  # questions that wait until the log has been read


class UserInbox:
    """The users of one shard, kept up to date by `follow_log`, which is a task of its own.

    Questions about users wait until `is_complete`: the inbox log has been read up to the end it had when the shard's
    message log had been (`live`).
    """

    def __init__(
        self,
        log: Log,
        number: int,
        users: UserTopics,
        writer: SnapshotWriter,
        live: asyncio.Event,
        metrics: DispatcherMetrics,
    ) -> None:
        self.users = users
        self.is_complete = False
        self._log = log
        self._number = number
        self._writer = writer
        self._live = live
        self._metrics = metrics
        self._end: int | None = None  # where the log ended when the shard was live
        self._waiting: list[Callable[[], None]] = []
        self._reading: deque[tuple[int, Callable[[], None]]] = deque()  # by offset, in the order of the appends

    def hold(self, again: Callable[[], None]) -> bool:
        """Calls `again` once complete, in the order of the calls. Returns False when too many wait."""
        if len(self._waiting) >= WAITING:
            return False
        self._waiting.append(again)
        return True

    def when_applied(self, offset: int, again: Callable[[], None]) -> None:
        """Calls `again` once a record that this shard appended itself is applied. The caller bounds how many wait."""
        if offset < self.users.next_offset:
            again()
        else:
            self._reading.append((offset, again))

    async def follow_log(self) -> None:
        """Applies the log's records as they come, until cancelled. Raises OffsetGone, which parks the shard."""
        reader = await self._log.reader(LogName.INBOX, self._number, self.users.next_offset)
        try:
            while True:
                batch = await self._read(reader)
                if batch is None:
                    await asyncio.sleep(RETRY_S)
                else:
                    await self._take_batch(batch)
        finally:
            await reader.close()

    async def _read(self, reader: Reader) -> Batch | None:
        """Returns the next records, None while the log cannot be reached."""
        try:
            if self._end is None and self._live.is_set():
                self._end = (await self._log.bounds(LogName.INBOX, self._number)).end
            return await reader.read(READ_RECORDS, READ_S if self.is_complete else BEHIND_READ_S)
        except LogUnavailable:
            return None

    async def _take_batch(self, batch: Batch) -> None:
        for records in slices(batch.records):
            self._take(records)
            self._release()
            await asyncio.sleep(0)
        self.users.next_offset = max(self.users.next_offset, batch.next_offset)  # over transaction markers too
        if not self.is_complete and self._end is not None:
            end = self._end if batch.stable is None else min(self._end, batch.stable)
            if self.users.next_offset >= end:
                self._complete()

    def _take(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                changed = self.users.apply(record)
            except CorruptRecord as error:
                self._metrics.inbox_skipped()
                logger.warning("inbox record skipped", shard=self._number, offset=record.offset, why=str(error))
                continue
            for key in changed:
                self._writer.touch(PairKey(key))

    def _release(self) -> None:
        """Calls those whose records are applied."""
        while self._reading and self._reading[0][0] < self.users.next_offset:
            self._reading.popleft()[1]()

    def _complete(self) -> None:
        self.is_complete = True
        waiting, self._waiting = self._waiting, []
        for again in waiting:
            again()
