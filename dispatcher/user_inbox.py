"""Reads the inbox log of one shard: its users' memberships, the heads of their topics, cursors and read marks."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from dispatcher.inbox_writer import InboxWriter
from dispatcher.log_follower import FollowerActions, LogFollower
from dispatcher.ports import DispatcherMetrics
from dispatcher.shard_time import ShardTime
from headgate.core.inbox.users import InboxChanges, UserTopics
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import records_of_cursors, records_of_marks
from headgate.core.wire.records import LogName, Record
from headgate.runtime.ports import Log

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 0.5

Listener = Callable[[InboxChanges], None]


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
        time: ShardTime,
        metrics: DispatcherMetrics,
    ) -> None:
        self.users = users
        do = FollowerActions(self._take, self._release)
        self.follower = LogFollower(log, LogName.INBOX, number, live, users, do, RETRY_S)
        self._number = number
        self._writer = writer
        self._time = time
        self._metrics = metrics
        self.cursor_writer = InboxWriter(log, number, "cursors", records_of_cursors, self.when_applied)
        self.mark_writer = InboxWriter(log, number, "read marks", records_of_marks, self.when_applied)
        self._listeners: list[Listener] = []
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

    def listen(self, listener: Listener) -> None:
        """Calls `listener` with what each record changes from now on, once everything before has been read."""
        self._listeners.append(listener)

    def close(self) -> None:
        """The shard is released: what waits for the log is refused, and nobody is told of anything any longer."""
        self._listeners.clear()
        self.cursor_writer.close()
        self.mark_writer.close()

    async def follow_log(self) -> None:
        """Applies the log's records as they come, until cancelled. Raises OffsetGone, which parks the shard."""
        await self.follower.follow()

    def _take(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                changes = self.users.apply(record)
            except CorruptRecord as error:
                self._metrics.inbox_skipped()
                logger.warning("inbox record skipped", shard=self._number, offset=record.offset, why=str(error))
                continue
            self._metrics.inbox_applied()
            for key in changes.keys:
                self._writer.touch(PairKey(key))
            if self.is_complete:
                for listener in self._listeners:
                    listener(changes)
        if records:
            self._time.read(records[-1].ts, len(records))

    def _release(self) -> None:
        """Calls those whose records are applied."""
        while self._reading and self._reading[0][0] < self.users.next_offset:
            self._reading.popleft()[1]()
