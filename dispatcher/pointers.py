"""Writes to the inbox log how far the topics of a shard are: one pointer bundle a shard with members and flush.

Topics that moved are collected and flushed together FLUSH_S after the first, later where many heads were written: a
topic that moves ten times a second is then written once a second.
The heads are read when a bundle is made, so topics wait and never messages. At most one round is under way to each
shard of users; what the log refuses is tried again. A snapshot waits for the pointers before it (`safe`): after a crash
the records above the snapshot are applied again, and move their topics again. Repeats and order do not matter.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import structlog

from headgate.core.sequencer.effects import TopicDeleted
from headgate.core.sequencer.heat import Heat
from headgate.core.sequencer.members import Members
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.topic_changes import MemberChanged
from headgate.core.sequencer.user_shards import UserShards
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.inbox_record import HeadEntry, encode_head, records_of_heads
from headgate.core.wire.records import Appended, LogName
from headgate.runtime.ports import Log, LogError, RecordTooLarge

logger = structlog.get_logger("dispatcher")

FLUSH_S: Final = 0.1
FLUSH_MAX_S: Final = 1.0
HEADS_PER_S: Final = 200  # of one shard's topics, above which the flush is stretched; hot topics do not wait for that
RETRY_S: Final = 1.0
MOVED: Final = 20_000  # topics that are flushed without waiting any longer
WAITING: Final = 250_000  # topics x shards of users that are not in the log yet; at it the shard reads no further
ROUND: Final = 1_000  # topics of one round to one shard of users: below 200 KB
SLICE: Final = 2_000  # members or shards that are looked at, or entries that are written, in one loop turn: some ms
TIMES: Final = 20_000  # topics whose newest append time is known

Due = bytes | HeadEntry  # a topic that moved, by its key, or the end of one that was deleted


class _PointerLane:
    """What goes to one shard of users: each with the number of the flush since which it waits, oldest first."""

    __slots__ = ("due", "flying", "is_paused", "records", "refused", "shard")

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.due: OrderedDict[Due, int] = OrderedDict()
        self.flying: dict[Due, int] = {}
        self.records = 0  # of the round that is under way
        self.refused = False  # one of them was
        self.is_paused = False

    @property
    def oldest(self) -> int | None:
        """The number of the flush since which something waits."""
        return next(iter(self.flying.values()), None) or next(iter(self.due.values()), None)


class Pointers:
    """The pointers of one shard of a log with `shards` shards. `rows` and `members` are by topic key."""

    def __init__(
        self,
        log: Log,
        number: int,
        shards: int,
        rows: Mapping[bytes, Row],
        members: Mapping[bytes, Members],
        written: Callable[[int], None] = lambda records: None,
    ) -> None:
        """`members` are of topics that have had others than their creator. `written` counts records in the log."""
        self._log = log
        self._number = number
        self._rows = rows
        self._members = members
        self._written = written
        self._shards = UserShards(shards)
        self._lanes = [_PointerLane(shard) for shard in range(shards)]
        self._moved: dict[bytes, int] = {}  # the append time of the newest record, 0 where it is not known
        self._hot: dict[bytes, None] = {}  # in order, so that a run can be repeated
        self._urgent: dict[bytes, None] = {}  # they have just switched
        self._times: OrderedDict[bytes, int] = OrderedDict()
        self._flush = 0  # the number of the newest one
        self._waiting = 0
        self._flushed_at = float("-inf")  # all of them
        self._heads = 0  # written since then, of which a bundle has one at least
        self._timer: asyncio.Handle | None = None
        self._writing: asyncio.Handle | None = None
        self._changed = asyncio.Event()
        self._closed = False

    # -- what a record makes

    def moved(self, key: bytes, ts: int) -> None:
        """A durable topic has a new seq; `ts` is the record's append time."""
        self._moved[key] = ts
        if self._timer is None:
            self._plan(FLUSH_S)

    def deleted(self, key: bytes, gone: TopicDeleted) -> None:
        """A topic was deleted: all memberships of its epoch have ended."""
        shards = self._shards.of_gone(key, gone.owner_id, gone.members)
        self._moved.pop(key, None)
        self._times.pop(key, None)
        self._hot.pop(key, None)
        self._flush += 1
        self._add(HeadEntry(gone.topic_id, gone.epoch, 0, 0, gone=True), shards)
        self._write_soon()

    def switched(self, key: bytes, is_hot: bool) -> None:
        """A topic went to the inbox or came back: its members' inboxes are told at once."""
        self._hot.pop(key, None)
        if is_hot:
            self._hot[key] = None
        self._moved.setdefault(key, 0)
        self._urgent[key] = None
        self._plan(0.0)

    def member_changed(self, key: bytes, change: MemberChanged) -> None:
        """A membership came, changed or ended."""
        if change.now is None:
            self._shards.forget(key)
        else:
            self._shards.joined(key, change.user_id)

    # -- how much waits

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no further records should be read."""
        return self._waiting >= WAITING

    async def room(self) -> None:
        """Flushes early where very many topics have moved, and waits while `is_full`."""
        if len(self._moved) >= MOVED:
            await self._collect(list(self._moved))
        while self.is_full:
            await self._change()

    async def safe(self) -> None:
        """Waits until the log has the heads of all records so far: no snapshot may end behind a missing one."""
        await self._collect(list(self._moved))
        last = self._flush
        while any(lane.oldest is not None and lane.oldest <= last for lane in self._lanes):
            await self._change()

    def close(self) -> None:
        """Writes no more: the shard's next owner makes again what is not in the log."""
        self._closed = True
        for handle in (self._timer, self._writing):
            if handle is not None:
                handle.cancel()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # -- which topics go where

    def _plan(self, after_s: float) -> None:
        """Has what moved flushed so soon; a flush that was planned for later comes then."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(after_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if now >= self._flushed_at + min(self._heads / HEADS_PER_S, FLUSH_MAX_S):
            self._flushed_at, self._heads = now, 0
            keys = list(self._moved)
        else:
            keys = [key for key in self._hot | self._urgent if key in self._moved]
        self._urgent.clear()
        self._collect_slice(keys, 0)
        if self._moved:
            self._plan(FLUSH_S)

    def _collect_slice(self, keys: list[bytes], at: int) -> None:
        """Finds where a part of the topics goes; the others are found in later loop turns, or when there is room."""
        if self._closed:
            return
        at = self._take(keys, at)
        if at < len(keys) and not self.is_full:
            asyncio.get_running_loop().call_soon(self._collect_slice, keys, at)
        self._write_soon()

    async def _collect(self, keys: list[bytes]) -> None:
        """Does the same, and returns when all of them are found; while it is full it waits."""
        at = self._take(keys, 0)
        while at < len(keys):
            self._write_soon()
            await (self._change() if self.is_full else asyncio.sleep(0))
            at = self._take(keys, at)
        if keys:
            self._write_soon()

    def _take(self, keys: list[bytes], at: int) -> int:
        """Takes topics from `at` on, until SLICE members were looked at, or as many shards; returns where it ended."""
        self._flush += 1
        looked_at = 0
        while at < len(keys) and looked_at < SLICE and not self.is_full:
            key = keys[at]
            at += 1
            looked_at += self._take_topic(key)
        return at

    def _take_topic(self, key: bytes) -> int:
        """Returns how many members were looked at, or shards, of which there are more."""
        ts = self._moved.pop(key, None)
        row = self._rows.get(key)
        if ts is None or row is None or row.ephemeral:
            return 1
        if 0 < ts <= MAX_INTEGER:  # else it is not known: a bundle with another time would be refused by all
            self._times[key] = ts
            if len(self._times) > TIMES:
                self._times.popitem(last=False)
        if row.heat == Heat.INBOX:
            self._hot[key] = None
        members = self._members.get(key)
        cost = self._shards.cost(key, members)
        shards = self._shards.of_topic(key, row, members)
        self._add(key, shards)
        return max(cost, len(shards))

    def _add(self, due: Due, shards: Iterable[int]) -> None:
        for shard in shards:
            waiting = self._lanes[shard].due
            if due not in waiting:
                waiting[due] = self._flush  # where it is flying too, that is older
                self._waiting += 1

    # -- to the log

    def _write_soon(self) -> None:
        if self._writing is None and not self._closed:
            self._writing = asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        """Begins a round to each shard of users that has none, as many as fit a loop turn."""
        self._writing = None
        encoded: dict[Due, bytes] = {}
        entries = 0
        for lane in self._lanes:
            if not lane.due or lane.flying or lane.is_paused:
                continue
            if entries >= SLICE:
                self._write_soon()
                break
            entries += min(len(lane.due), ROUND)
            self._begin_round(lane, encoded)

    def _begin_round(self, lane: _PointerLane, encoded: dict[Due, bytes]) -> None:
        """Hands a round to the log."""
        lane.flying = dict(lane.due.popitem(last=False) for _ in range(min(len(lane.due), ROUND)))
        entries = [entry for due in lane.flying if (entry := self._encode(due, encoded))]
        self._heads += len(entries)
        values = [value for value, _ in records_of_heads(self._number, entries)]
        lane.records, lane.refused = len(values), False
        if not values:  # topics that are gone meanwhile
            self._end_round(lane)
        for value in values:
            future = self._log.append(LogName.INBOX, lane.shard, None, value)
            future.add_done_callback(partial(self._done, lane))

    def _encode(self, due: Due, encoded: dict[Due, bytes]) -> bytes:
        found = encoded.get(due)
        if found is None:
            head = due if isinstance(due, HeadEntry) else self._head(due)
            found = encoded[due] = b"" if head is None else encode_head(head)
        return found

    def _head(self, key: bytes) -> HeadEntry | None:
        row = self._rows.get(key)
        if row is None:
            return None
        return HeadEntry(row.topic_id, row.epoch, row.seq, row.n, self._times.get(key, 0), row.heat == Heat.INBOX)

    def _done(self, lane: _PointerLane, done: "asyncio.Future[Appended]") -> None:
        error = None if done.cancelled() else done.exception()
        if error is None and not done.cancelled():
            self._written(1)
        elif error is None or (isinstance(error, LogError) and not isinstance(error, RecordTooLarge)):
            lane.refused = True
        else:  # it would fail for ever, and stop every snapshot
            logger.error("pointers cannot be written", shard=self._number, to=lane.shard, why=str(error))
        lane.records -= 1
        if not lane.records:
            self._end_round(lane)

    def _end_round(self, lane: _PointerLane) -> None:
        flying, lane.flying = lane.flying, {}
        before = len(lane.due) + len(flying)
        if lane.refused:
            for due, flush in reversed(flying.items()):
                lane.due[due] = flush
                lane.due.move_to_end(due, last=False)
            self._pause(lane)
        elif lane.due:
            self._write_soon()
        self._waiting += len(lane.due) - before
        self._changed.set()

    def _pause(self, lane: _PointerLane) -> None:
        """Hands nothing to the lane's shard for RETRY_S seconds."""
        if not self._closed:
            lane.is_paused = True
            asyncio.get_running_loop().call_later(RETRY_S, self._resume, lane)

    def _resume(self, lane: _PointerLane) -> None:
        lane.is_paused = False
        if lane.due:
            self._write_soon()
