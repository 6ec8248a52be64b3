"""The log in memory: for tests, for `headgate dev` without a folder, and for the simulation; knows no thread or socket.

Several `MemoryLog` handles ("nodes") may share one `MemoryStore`, which then stands for the Kafka cluster. All waiting
is loop timers, so a run on a virtual-time loop with a given clock and rng repeats exactly. The faults a simulation
plants are members of the handle: `latency`, `reach`, `crash`, `freeze` and `thaw`.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from headgate.core.wire.records import Appended, Batch, Bounds, LogName
from headgate.runtime.logs.embedded import (
    APPEND_WAIT_S,
    MAX_RECORD_BYTES,
    EmbeddedGroup,
    Place,
    counter_of,
    fail,
    failed,
    read_counts,
    record_bytes,
    resolve,
    too_large,
)
from headgate.runtime.logs.memory_group import MemoryGroup
from headgate.runtime.logs.memory_store import LogPart, MemoryStore
from headgate.runtime.ports import AppendUnknown, LogError, LogUnavailable, OwnerGroup

Latency = Callable[[LogName, int], float]  # seconds from hand-over to the place in the log


class Reach(enum.Enum):
    """How a node reaches the log."""

    OK = "ok"
    REFUSED = "refused"  # it is known not to be there: nothing is handed over
    SILENT = "silent"  # what is sent vanishes: appends end with AppendUnknown, reads find nothing


@dataclass(slots=True)
class _Append:
    """An append between hand-over and the log."""

    future: "asyncio.Future[Appended]"
    expiry: asyncio.TimerHandle
    key: bytes | None
    value: bytes | None
    lost: bool  # it will never get there


class MemoryLog:
    """A node's handle of a memory log; implements the port `Log`.

    `latency` None: an append stands in the log when the call returns. Otherwise it lands after that many seconds, in
    the order of the calls within a part, and fails with AppendUnknown when that is later than the wait of 6 s.
    """

    durable = False
    address = "memory:"

    def __init__(self, store: MemoryStore, latency: Latency | None = None) -> None:
        self.reach = Reach.OK
        self.latency = latency
        self.records_read: dict[str, int] = read_counts()
        self.keep_ms = store.keep_ms
        self._store = store
        self._opened = False
        self._flights: dict[Place, deque[_Append]] = {}
        self._due: dict[Place, float] = {}
        self._thawed: asyncio.Event | None = None  # exists while frozen
        self._held_back: list[tuple[asyncio.Future[Appended], Appended]] = []
        self._groups: list[MemoryGroup] = []

    async def open(self) -> None:
        """Opens the handle. Raises LogUnavailable."""
        if self.reach is not Reach.OK:
            raise LogUnavailable(f"{self.address} is unreachable")
        self._opened = True

    async def close(self) -> None:
        """Waits for what was handed over; readers that wait return."""
        self._opened = False
        waiting = [flight.future for flights in self._flights.values() for flight in flights]
        if waiting:
            await asyncio.wait(waiting)
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
        if self.latency is not None or self.reach is Reach.SILENT or (log, shard) in self._flights:
            return self._hand_over((log, shard), key, value)
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._acknowledge(future, part.add(self._store.clock.wall_ms(), key, value))
        return future

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> "MemoryReader":
        """Opens a position."""
        self._check_answers()
        return MemoryReader(self, self._store.parts[log, shard], counter_of(log, background=background), offset)

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns what a part holds."""
        self._check_answers()
        part = self._store.parts[log, shard]
        return Bounds(part.first, part.end)

    async def truncate_before(self, log: LogName, shard: int, offset: int) -> None:
        """Forgets all records of a part before `offset`."""
        self._check_answers()
        self._store.parts[log, shard].truncate_before(offset)

    def group(self, node: str) -> OwnerGroup:
        """Returns this node's membership: real when the store is coordinated, else the only member's."""
        if self._store.coordinator is None:
            return EmbeddedGroup(self.shards)
        group = MemoryGroup(self._store.coordinator, node)
        self._groups.append(group)
        return group

    # What a simulation does to a node.

    def crash(self, kept: Callable[[int], int] | None = None) -> None:
        """Takes the node away without a goodbye: no acknowledgement arrives, no heartbeat leaves, nothing works again.

        What it handed over still lands when its time has come. `kept` may say, given the number of appends of a part
        that are on their way, how many of them (the first ones) survive; all do by default.
        """
        self._opened = False
        self.reach = Reach.REFUSED
        self._held_back.clear()
        for group in self._groups:
            group.vanish()
        for flights in self._flights.values():
            survivors = len(flights) if kept is None else kept(len(flights))
            for index, flight in enumerate(flights):
                flight.lost = flight.lost or index >= survivors
                flight.expiry.cancel()
                flight.future.cancel()

    def freeze(self, *, io: bool = True) -> None:
        """Stops the node's heartbeats; with `io` also its reads and the acknowledgements it would see (SIGSTOP)."""
        for group in self._groups:
            group.frozen = True
        if io and self._thawed is None:
            self._thawed = asyncio.Event()

    def thaw(self) -> None:
        """Lets a frozen node go on, with what it missed."""
        for group in self._groups:
            group.frozen = False
        if self._thawed is not None:
            self._thawed.set()
            self._thawed = None
        held_back, self._held_back = self._held_back, []
        for future, place in held_back:
            resolve(future, place)

    # For the reader.

    def check_reachable(self) -> None:
        """Raises LogUnavailable when the log is closed or known to be unreachable."""
        if not self._opened or self.reach is Reach.REFUSED:
            raise LogUnavailable(f"{self.address} is {'unreachable' if self._opened else 'closed'}")

    async def ready(self, part: LogPart, offset: int, wait_s: float) -> bool:
        """Waits until something can be read at `offset`; False when the time is over or the log was closed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while not self._readable(part, offset):
            left = deadline - loop.time()
            if left <= 0 or not self._opened:
                return False
            await self._wait(part, left)
        return True

    # Private.

    def _readable(self, part: LogPart, offset: int) -> bool:
        return part.end != offset and self._thawed is None and self.reach is not Reach.SILENT

    async def _wait(self, part: LogPart, left: float) -> None:
        if self._thawed is not None:
            await self._thawed.wait()
            return
        waiter = part.waiter()
        timer = asyncio.get_running_loop().call_later(left, _give_up, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            part.forget(waiter)

    def _check_answers(self) -> None:
        self.check_reachable()
        if self.reach is Reach.SILENT:
            raise LogUnavailable(f"{self.address} does not answer")

    def _refusal(self, log: LogName, size: int) -> LogError | None:
        if not self._opened or self.reach is Reach.REFUSED:
            return LogUnavailable(f"{self.address} is {'unreachable' if self._opened else 'closed'}")
        if size > MAX_RECORD_BYTES:
            return too_large(size)
        if self._store.is_full(log):
            return LogUnavailable(f"{self.address} is full: raise log.memory_bytes or keep less")
        return None

    def _hand_over(self, place: Place, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Appended] = loop.create_future()
        expiry = loop.call_later(APPEND_WAIT_S, fail, future, AppendUnknown(f"no answer in {APPEND_WAIT_S} s"))
        flights = self._flights.setdefault(place, deque())
        flights.append(_Append(future, expiry, key, value, self.reach is Reach.SILENT))
        delay_s = self.latency(*place) if self.latency is not None else 0.0
        due = self._due[place] = max(self._due.get(place, 0.0), loop.time() + delay_s)
        loop.call_at(due, self._land, place)  # equal timers fire in any order, so each takes the oldest flight
        return future

    def _land(self, place: Place) -> None:
        flights = self._flights[place]
        flight = flights.popleft()
        if not flights:
            del self._flights[place]
        if flight.lost:
            return
        appended = self._store.parts[place].add(self._store.clock.wall_ms(), flight.key, flight.value)
        if self.reach is Reach.OK:
            flight.expiry.cancel()
            self._acknowledge(flight.future, appended)

    def _acknowledge(self, future: "asyncio.Future[Appended]", place: Appended) -> None:
        if self._thawed is not None:
            self._held_back.append((future, place))
        else:
            resolve(future, place)


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
        self._log.check_reachable()
        self._part.check(self._offset)
        if not await self._log.ready(self._part, self._offset, wait_s):
            self._log.check_reachable()
            return Batch((), self._offset, self._end)
        batch = self._part.slice(self._offset, max_records)
        self._log.records_read[self._counter] += len(batch.records)
        self._offset = batch.next_offset
        self._end = batch.end
        return batch

    async def close(self) -> None:
        """Gives up the position; nothing is held."""


def _give_up(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
