"""Writes the memberships that a shard's records make to the inbox log, to the shards of their users.

No output is dropped because many wait. Instead the shard reads no further while too many wait (`room`), and a snapshot
waits for the outputs before it (`safe`): after a crash the records above the snapshot are applied again and make their
outputs again. Order and repeats do not matter: readers keep the newest by (epoch, offset of the source), so a record
that failed may come after a later one of the same user.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Final

import msgspec
import structlog

from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.topic_changes import MemberChanged
from headgate.core.wire.direct_topics import is_direct
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, shard_of
from headgate.core.wire.inbox_record import MembershipRecord, encode_inbox
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.ports import Log, LogError

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 1.0
WAITING: Final = 10_000  # outputs of single records that are not in the log yet; at it the shard reads no further
FLYING: Final = 1_000  # handed to the log and not acknowledged: about 200 KB
SLICE: Final = 50  # handed over in one loop turn: about 1 ms

_OFFSET: Final = (1 << EPOCH_OFFSET_BITS) - 1


class InboxOutput(msgspec.Struct, frozen=True, gc=False):
    """A membership and whose it is."""

    user_id: str
    membership: MembershipRecord


class _Group:
    """Many outputs that one record made. They are created only when they are handed to the log."""

    __slots__ = ("flying", "is_taken", "outputs")

    def __init__(self, outputs: Iterator[InboxOutput]) -> None:
        self.outputs = outputs
        self.flying = 0
        self.is_taken = False


class Outputs:
    """The outputs of one shard of a log with `shards` shards."""

    def __init__(self, log: Log, number: int, shards: int) -> None:
        self._log = log
        self._number = number
        self._shards = shards
        # By the number of a record, until the log has all that it made; None for a record of one output.
        self._waiting: OrderedDict[int, _Group | None] = OrderedDict()
        self._added = 0
        self._singles: deque[tuple[int, InboxOutput]] = deque()
        self._large: deque[tuple[int, _Group]] = deque()
        self._again: deque[tuple[int, InboxOutput]] = deque()  # refused by the log
        self._flying = 0
        self._handle: asyncio.Handle | None = None
        self._pauses = False  # the log has just refused
        self._moved = asyncio.Event()
        self._closed = False

    # -- what a record makes

    def created(self, row: Row, members: Iterable[tuple[str, Membership]]) -> None:
        """Adds the memberships with which a topic began: its creator's, or both of a direct topic."""
        for user_id, found in members:
            self._add(_first(row, user_id, found))

    def changed(self, record: Record, change: MemberChanged) -> None:
        """Adds a membership that came, changed or ended."""
        now = change.now
        if now is None:
            ended = MembershipRecord(change.topic_id, change.epoch, record.offset, joined_at=record.ts)
            self._add(InboxOutput(change.user_id, ended))
            return
        found = MembershipRecord(change.topic_id, change.epoch, record.offset, now.role, *now[1:])
        self._add(InboxOutput(change.user_id, found))

    def known(self, rows: Mapping[bytes, Row]) -> None:
        """Adds the creators of all topics: nobody wrote them down while the shard had its first logic."""
        self._add_large(_creators(list(rows), rows))

    # -- how much waits

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no further records should be read."""
        return len(self._waiting) >= WAITING

    async def room(self) -> None:
        """Waits while `is_full`."""
        while self.is_full:
            await self._change()

    async def safe(self) -> None:
        """Waits until the outputs of all records so far are in the log: no snapshot may end behind a missing one."""
        last = self._added
        while self._waiting and next(iter(self._waiting)) <= last:
            await self._change()

    def close(self) -> None:
        """Writes no more: the shard's next owner makes again what is not in the log."""
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()

    async def _change(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    # -- to the log

    def _add(self, output: InboxOutput) -> None:
        self._singles.append((self._wait_for(None), output))
        self._continue()

    def _add_large(self, outputs: Iterator[InboxOutput]) -> None:
        group = _Group(outputs)
        self._large.append((self._wait_for(group), group))
        self._continue()

    def _wait_for(self, group: _Group | None) -> int:
        self._added += 1
        self._waiting[self._added] = group
        return self._added

    def _write(self) -> None:
        """Hands outputs to the log: at most SLICE a turn and FLYING at once."""
        self._handle = None
        self._pauses = False
        for _ in range(SLICE):
            if self._flying >= FLYING:
                return  # `_done` continues
            taken = self._next()
            if taken is None:
                return
            self._hand_over(*taken)
        self._continue()

    def _next(self) -> tuple[int, InboxOutput] | None:
        """Takes the next output: of a single record, then one that was refused, then one of many."""
        if self._singles:
            return self._singles.popleft()
        return self._again.popleft() if self._again else self._next_of_many()

    def _next_of_many(self) -> tuple[int, InboxOutput] | None:
        while self._large:
            number, group = self._large[0]
            output = next(group.outputs, None)
            if output is not None:
                group.flying += 1
                return number, output
            self._large.popleft()
            group.is_taken = True
            if not group.flying:
                self._ended(number)
        return None

    def _hand_over(self, number: int, output: InboxOutput) -> None:
        self._flying += 1
        key = output.user_id.encode()
        future = self._log.append(LogName.INBOX, shard_of(key, self._shards), key, encode_inbox(output.membership))
        future.add_done_callback(partial(self._done, number, output))

    def _done(self, number: int, output: InboxOutput, done: "asyncio.Future[Appended]") -> None:
        self._flying -= 1
        error = None if done.cancelled() else done.exception()
        if isinstance(error, LogError):
            self._again.append((number, output))
            self._pause()
            return
        if error is not None:  # it would fail for ever, and stop every snapshot
            logger.error("a membership cannot be written", shard=self._number, user=output.user_id, why=str(error))
        group = self._waiting[number]
        if group is not None:
            group.flying -= 1
        if group is None or (group.is_taken and not group.flying):
            self._ended(number)
        self._continue()

    def _ended(self, number: int) -> None:
        del self._waiting[number]
        self._moved.set()

    def _continue(self) -> None:
        if self._handle is None and not self._closed and (self._again or self._singles or self._large):
            self._handle = asyncio.get_running_loop().call_soon(self._write)

    def _pause(self) -> None:
        """Hands over nothing for RETRY_S seconds."""
        if self._pauses or self._closed:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._pauses = True
        self._handle = asyncio.get_running_loop().call_later(RETRY_S, self._write)


def _first(row: Row, user_id: str, found: Membership) -> InboxOutput:
    created = row.epoch & _OFFSET  # the offset of the create record
    return InboxOutput(user_id, MembershipRecord(row.topic_id, row.epoch, created, found.role, *found[1:]))


def _creators(keys: Iterable[bytes], rows: Mapping[bytes, Row]) -> Iterator[InboxOutput]:
    for key in keys:
        row = rows.get(key)
        if row is not None and not is_direct(row.topic_id):  # those were never without their outputs
            yield _first(row, row.owner_id, Shard.creator_of(row))
