"""Reads the inbox log of one shard: which topics its users are members of, and the cursors of their devices."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from dispatcher.log_follower import FollowerActions, LogFollower
from dispatcher.ports import DispatcherMetrics
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.records import LogName, Record
from headgate.runtime.ports import Log

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 0.5


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
        do = FollowerActions(self._take, self._release)
        self.follower = LogFollower(log, LogName.INBOX, number, live, users, do, RETRY_S)
        self._number = number
        self._writer = writer
        self._metrics = metrics
        self._reading: deque[tuple[int, Callable[[], None]]] = deque()  # by offset, in the order of the appends

    @property
    def is_complete(self) -> bool:
        """Whether questions can be answered."""
        return self.follower.is_complete

    def hold(self, again: Callable[[], None]) -> bool:
        """Calls `again` once complete, in the order of the calls. Returns False when too many wait."""
        return self.follower.hold(again)

    def when_applied(self, offset: int, again: Callable[[], None]) -> None:
        """Calls `again` once a record that this shard appended itself is applied. The caller bounds how many wait."""
        if offset < self.users.next_offset:
            again()
        else:
            self._reading.append((offset, again))

    async def follow_log(self) -> None:
        """Applies the log's records as they come, until cancelled. Raises OffsetGone, which parks the shard."""
        await self.follower.follow()

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
