"""A memory log that can be slow, unreachable, silent, frozen or crashed.

All waiting is loop timers, so a run on a virtual-time loop with a given clock and rng repeats exactly.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from headgate.core.wire.records import Appended, Bounds, LogName
from headgate.runtime.logs.embedded import APPEND_WAIT_S, Place, fail, failed, record_bytes, resolve
from headgate.runtime.logs.memory_group import Coordinator, MemoryGroup
from headgate.runtime.logs.memory_log import MemoryLog, MemoryReader
from headgate.runtime.logs.memory_store import LogPart, MemoryStore
from headgate.runtime.ports import AppendUnknown, LogUnavailable, OwnerGroup

Latency = Callable[[LogName, int], float]  # seconds from hand-over to the place in the log


class Reach(enum.Enum):
    """How a node reaches the log."""

    OK = "ok"
    REFUSED = "refused"  # the node knows that the log is away: nothing is handed over
    SILENT = "silent"  # appends vanish and end with AppendUnknown, reads find nothing


@dataclass(slots=True)
class _Flight:
    """An append between hand-over and the log."""

    future: "asyncio.Future[Appended]"
    expiry: asyncio.TimerHandle
    key: bytes | None
    value: bytes | None
    lost: bool  # it never reaches the log


class FaultyGroup(MemoryGroup):
    """A membership that can freeze or crash. While `frozen`, it sends no heartbeat and learns nothing."""

    def __init__(self, coordinator: Coordinator, node: str) -> None:
        super().__init__(coordinator, node)
        self.frozen = False

    def crash(self) -> None:
        """Stops the heartbeats without leaving the group."""
        self._stop_heartbeats()

    def _heartbeat(self) -> None:
        if not self.frozen:
            super()._heartbeat()


class FaultyLog(MemoryLog):
    """One node's handle. Tests set `reach` and `latency` at any time.

    `latency` None: an append is in the log when the call returns. Otherwise it arrives after that many seconds, in
    the order of the calls within a part, and fails with AppendUnknown when that takes longer than 6 s.
    """

    def __init__(self, store: MemoryStore, latency: Latency | None = None) -> None:
        super().__init__(store)
        self.reach = Reach.OK
        self.latency = latency
        self._flights: dict[Place, deque[_Flight]] = {}
        self._due: dict[Place, float] = {}
        self._thawed: asyncio.Event | None = None  # exists while frozen
        self._unseen: list[tuple[asyncio.Future[Appended], Appended]] = []  # acknowledged while frozen
        self._groups: list[FaultyGroup] = []

    async def open(self) -> None:
        """Opens the handle. Raises LogUnavailable."""
        if self.reach is not Reach.OK:
            raise LogUnavailable(f"{self.address} is unreachable")
        await super().open()

    async def close(self) -> None:
        """Waits for the appends that were handed over; readers that wait return."""
        self._opened = False
        waiting = [flight.future for flights in self._flights.values() for flight in flights]
        if waiting:
            await asyncio.wait(waiting)
        await super().close()

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Appends one record; see the port."""
        part = self._store.parts[log, shard]
        if self._opened and self.reach is Reach.REFUSED:
            return failed(LogUnavailable(f"{self.address} is unreachable"))
        refused = self._refusal(log, record_bytes(key, value))
        if refused is not None:
            return failed(refused)
        if self.latency is not None or self.reach is Reach.SILENT or (log, shard) in self._flights:
            return self._hand_over((log, shard), key, value)
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._acknowledge(future, part.add(self._store.clock.wall_ms(), key, value))
        return future

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> MemoryReader:
        """Opens a position. Raises LogUnavailable."""
        self._check_answers()
        return await super().reader(log, shard, offset, background=background)

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns the offsets that a part holds. Raises LogUnavailable."""
        self._check_answers()
        return await super().bounds(log, shard)

    async def truncate_before(self, log: LogName, shard: int, offset: int) -> None:
        """Forgets all records of a part before `offset`. Raises LogUnavailable."""
        self._check_answers()
        await super().truncate_before(log, shard, offset)

    def _member(self, coordinator: Coordinator, node: str) -> OwnerGroup:
        group = FaultyGroup(coordinator, node)
        self._groups.append(group)
        return group

    # Faults.

    def crash(self, kept: Callable[[int], int] | None = None) -> None:
        """Ends the node without a goodbye: no acknowledgement arrives, no heartbeat leaves, nothing works again.

        Appends under way still reach the log. `kept` limits them: for each part it gets their number and returns how
        many of them, the first ones, survive.
        """
        self._opened = False
        self.reach = Reach.REFUSED
        self._unseen.clear()
        for group in self._groups:
            group.crash()
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
        """Ends `freeze`: the node now sees the acknowledgements and records that it missed."""
        for group in self._groups:
            group.frozen = False
        if self._thawed is not None:
            self._thawed.set()
            self._thawed = None
        unseen, self._unseen = self._unseen, []
        for future, place in unseen:
            resolve(future, place)

    # For the reader.

    def check_open(self) -> None:
        """Raises LogUnavailable when the log is closed or known to be unreachable."""
        super().check_open()
        if self.reach is Reach.REFUSED:
            raise LogUnavailable(f"{self.address} is unreachable")

    async def ready(self, part: LogPart, offset: int, wait_s: float) -> bool:
        """Waits until there is a record at `offset`; returns False after `wait_s` seconds or when the log closes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while part.end == offset or self._thawed is not None or self.reach is Reach.SILENT:
            left = deadline - loop.time()
            if left <= 0 or not self._opened:
                return False
            if self._thawed is not None:
                await self._thawed.wait()
            else:
                await part.grown(left)
        return True

    # Private.

    def _check_answers(self) -> None:
        self.check_open()
        if self.reach is Reach.SILENT:
            raise LogUnavailable(f"{self.address} does not answer")

    def _hand_over(self, place: Place, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Appended] = loop.create_future()
        expiry = loop.call_later(APPEND_WAIT_S, fail, future, AppendUnknown(f"no answer in {APPEND_WAIT_S} s"))
        flights = self._flights.setdefault(place, deque())
        flights.append(_Flight(future, expiry, key, value, self.reach is Reach.SILENT))
        delay_s = self.latency(*place) if self.latency is not None else 0.0
        due = self._due[place] = max(self._due.get(place, 0.0), loop.time() + delay_s)
        loop.call_at(due, self._arrive, place)  # equal timers fire in any order, so each takes the oldest flight
        return future

    def _arrive(self, place: Place) -> None:
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
            self._unseen.append((future, place))
        else:
            resolve(future, place)
