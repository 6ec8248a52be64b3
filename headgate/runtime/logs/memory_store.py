"""The records of a memory log. Several handles (nodes) may share one store, which then stands for a Kafka cluster."""

import asyncio
from collections.abc import Mapping
from typing import Final

from headgate.core.wire.records import Appended, Batch, LogName, Record
from headgate.runtime.logs.embedded import (
    EMBEDDED_SHARDS,
    KEEP_MS,
    RECORD_OVERHEAD,
    Place,
    all_places,
    config_record,
    new_cluster_id,
    record_bytes,
)
from headgate.runtime.logs.memory_group import Coordinator
from headgate.runtime.ports import Clock, OffsetGone, Rng
from headgate.runtime.tracing import APPENDING

MEMORY_BYTES: Final = 256 << 20
HARD_LIMIT: Final = 2  # times memory_bytes: above it publishes are refused, so a log nobody truncates stays bounded
DEAD_LETTERS_SHARE: Final = 8  # dead letters take at most this part of memory_bytes: the oldest leave by themselves
_STATE: Final = frozenset({LogName.SNAPSHOTS, LogName.OWNERSHIP})  # grows with topics and claims, not with traffic
_EXEMPT: Final = _STATE | {LogName.DEAD_LETTERS, LogName.INBOX}  # must be writable for the others to shrink


class Usage:
    """Bytes that all parts of a store hold together, about: of `state`, and of all other logs (`traffic`)."""

    def __init__(self) -> None:
        self.state = 0
        self.traffic = 0


class LogPart:
    """One part of one log: records ascending and dense from `first`. Above `most` bytes the oldest half goes."""

    def __init__(self, first: int, usage: Usage, *, state: bool = False, most: int | None = None) -> None:
        self.first = first
        self.end = first
        self._records: list[Record] = []
        self._usage = usage
        self._state = state
        self._most = most
        self._bytes = 0
        self._waiters: list[asyncio.Future[None]] = []

    def add(self, ts: int, key: bytes | None, value: bytes | None) -> Appended:
        """Appends a record and wakes all waiters."""
        self._records.append(Record(self.end, ts, key, value, APPENDING.get()))
        self._count(_size(key, value))
        self.end += 1
        if self._most is not None and self._bytes > self._most:
            self.truncate_before(self.first + (len(self._records) + 1) // 2)
        self.wake()
        return Appended(self.end - 1, ts)

    def truncate_before(self, offset: int) -> None:
        """Forgets the records before `offset`."""
        gone = max(0, min(offset, self.end) - self.first)
        self._count(-sum(_size(r.key, r.value) for r in self._records[:gone]))
        del self._records[:gone]
        self.first += gone

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._state:
            self._usage.state += size
        else:
            self._usage.traffic += size

    def slice(self, offset: int, max_records: int) -> Batch:
        """Returns at most `max_records` records from `offset`. Raises OffsetGone."""
        self.check(offset)
        at = offset - self.first
        records = self._records[at : at + max_records]
        return Batch(records, offset + len(records), self.end)

    def check(self, offset: int) -> None:
        """Raises OffsetGone unless `offset` is from `first` to `end`."""
        if not self.first <= offset <= self.end:
            raise OffsetGone(self.first, self.end)

    async def grown(self, wait_s: float) -> None:
        """Waits for the next append or `wake`, at most `wait_s` seconds."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(wait_s, _end, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """Wakes all waiters."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _end(waiter)


def _end(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _size(key: bytes | None, value: bytes | None) -> int:
    return record_bytes(key, value) + RECORD_OVERHEAD


class MemoryStore:
    """All logs; a fresh one has a config record first in each part of the message log.

    With `coordinated` its handles are members of one group, as several nodes need.
    """

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        shards: int = EMBEDDED_SHARDS,
        memory_bytes: int = MEMORY_BYTES,
        keep_ms: Mapping[LogName, int] = KEEP_MS,
        *,
        coordinated: bool = False,
    ) -> None:
        self.clock = clock
        self.shards = shards
        self.cluster_id = new_cluster_id(rng)
        self.coordinator = Coordinator(shards) if coordinated else None
        self.keep_ms = keep_ms
        self._memory_bytes = memory_bytes
        self._usage = Usage()
        first = clock.wall_ms()
        self.parts: dict[Place, LogPart] = {}
        for log, shard in all_places(shards):
            most = memory_bytes // DEAD_LETTERS_SHARE // shards if log is LogName.DEAD_LETTERS else None
            self.parts[log, shard] = LogPart(first, self._usage, state=log in _STATE, most=most)
        for shard in range(shards):
            key, value = config_record(self.cluster_id, shards, shard)
            self.parts[LogName.MESSAGES, shard].add(first, key, value)

    def above_limit(self) -> bool:
        """Whether more than `memory_bytes` are held: time to truncate messages behind a snapshot.

        State counts for at most half of it: truncating messages does not make it smaller, and truncating must end.
        """
        return self._usage.traffic + min(self._usage.state, self._memory_bytes // 2) > self._memory_bytes

    def is_full(self, log: LogName) -> bool:
        """Whether a log takes no record until something is truncated."""
        return log not in _EXEMPT and self._usage.traffic > HARD_LIMIT * self._memory_bytes
