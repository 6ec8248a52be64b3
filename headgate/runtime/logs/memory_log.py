"""The log in memory: for tests and for `headgate dev` without a folder."""

import asyncio

from headgate.core.wire.records import Appended, Batch, Bounds, LogName
from headgate.runtime.logs.embedded import EmbeddedLog, counter_of, failed, record_bytes
from headgate.runtime.logs.memory_group import Coordinator, MemoryGroup
from headgate.runtime.logs.memory_store import LogPart, MemoryStore
from headgate.runtime.ports import LogUnavailable, OwnerGroup


class MemoryLog(EmbeddedLog):
    """A node's handle of a memory log; implements the port `Log`. An append is in the log when the call returns."""

    durable = False

    def __init__(self, store: MemoryStore) -> None:
        super().__init__("memory:", store.keep_ms)
        self._store = store

    async def open(self) -> None:
        """Opens the handle."""
        self._opened = True
        self._loop = asyncio.get_running_loop()  # once for all appends: each look is a system call (getpid)

    async def close(self) -> None:
        """Closes the handle; readers that wait return."""
        self._opened = False
        for part in self._store.parts.values():
            part.wake()

    @property
    def shards(self) -> int:
        """The number of parts of the message log."""
        return self._store.shards

    @property
    def cluster_id(self) -> str:
        """The identity of the store."""
        return self._store.cluster_id

    def above_limit(self) -> bool:
        """Whether it is time to truncate messages behind a snapshot."""
        return self._store.above_limit()

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Appends one record; see the port."""
        part = self._store.parts[log, shard]
        refused = self._refusal(log, record_bytes(key, value))
        if refused is not None:
            return failed(refused)
        future: asyncio.Future[Appended] = self._loop.create_future()
        future.set_result(part.add(self._store.clock.wall_ms(), key, value))
        return future

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> "MemoryReader":
        """Opens a position. Raises LogUnavailable."""
        self.check_open()
        return MemoryReader(self, self._store.parts[log, shard], counter_of(log, background=background), offset)

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns the offsets that a part holds. Raises LogUnavailable."""
        self.check_open()
        part = self._store.parts[log, shard]
        return Bounds(part.first, part.end)

    async def truncate_before(self, log: LogName, shard: int, offset: int) -> None:
        """Forgets all records of a part before `offset`. Raises LogUnavailable."""
        self.check_open()
        self._store.parts[log, shard].truncate_before(offset)

    def group(self, node: str) -> OwnerGroup:
        """Returns this node's membership in the store's group; without a group, of the only member."""
        coordinator = self._store.coordinator
        return super().group(node) if coordinator is None else self._member(coordinator, node)

    async def ready(self, part: LogPart, offset: int, wait_s: float) -> bool:
        """Waits until there is a record at `offset`; returns False after `wait_s` seconds or when the log closes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while part.end == offset:
            left = deadline - loop.time()
            if left <= 0 or not self._opened:
                return False
            await part.grown(left)
        return True

    def _member(self, coordinator: Coordinator, node: str) -> OwnerGroup:
        return MemoryGroup(coordinator, node)

    def _full(self, log: LogName) -> LogUnavailable | None:
        if not self._store.is_full(log):
            return None
        return LogUnavailable(f"{self.address} is full: raise log.memory_bytes or keep less")


class MemoryReader:
    """A position in one part."""

    def __init__(self, log: MemoryLog, part: LogPart, counter: str, offset: int) -> None:
        self._log = log
        self._part = part
        self._counter = counter
        self._offset = offset
        self._end = part.end

    async def read(self, max_records: int, wait_s: float) -> Batch:
        """Returns the next records; see the port."""
        self._log.check_open()
        self._part.check(self._offset)
        if not await self._log.ready(self._part, self._offset, wait_s):
            self._log.check_open()
            return Batch((), self._offset, self._end)
        batch = self._part.slice(self._offset, max_records)
        self._log.records_read[self._counter] += len(batch.records)
        self._offset = batch.next_offset
        self._end = batch.end
        return batch

    async def close(self) -> None:
        """Gives up the position."""
