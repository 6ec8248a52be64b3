"""Claims of a node, with a group whose word it gets and a log that it shares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

import pytest

from dispatcher import log_end
from dispatcher.assignment import Assignment
from dispatcher.dispatcher import Cluster, Dispatcher
from dispatcher.dispatcher_options import AssignmentOptions
from dispatcher.shard_runner import ShardRunner
from headgate.core.sequencer.claims import Claim, decode_claim, encode_claim
from headgate.core.wire.ids import make_epoch
from headgate.core.wire.link_hello import Owner
from headgate.core.wire.records import Batch, LogName
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import Reader
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.dispatcher.bed import dispatcher_of, node_of, shell_of

CLOCK = SystemClock()
OTHER = encode_claim(Claim("other", "run", "other:1"))


class ToldGroup:
    """A membership that says what the test says."""

    def __init__(self, assigned: frozenset[int] | None) -> None:
        self.changed = asyncio.Event()
        self._assigned = assigned
        self.left = False

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.left = True

    def assigned(self) -> frozenset[int] | None:
        return self._assigned

    def tell(self, assigned: frozenset[int] | None) -> None:
        self._assigned = assigned
        self.changed.set()


class SlowReader:
    """Gives nothing out until the test lets it go on."""

    def __init__(self, reader: Reader, go: asyncio.Event) -> None:
        self._reader = reader
        self._go = go

    async def read(self, max_records: int, wait_s: float) -> Batch:
        batch = await self._reader.read(1, wait_s)
        await self._go.wait()
        return batch

    async def close(self) -> None:
        await self._reader.close()


class SlowClaims(FaultyLog):
    """A log whose claims are read one a turn, once `go` is set."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.go = asyncio.Event()

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> Reader:  # type: ignore[override]
        reader = await super().reader(log, shard, offset, background=background)
        return SlowReader(reader, self.go) if log is LogName.OWNERSHIP else reader


async def claims(log: FaultyLog) -> list[str]:
    first, end = await log.bounds(LogName.OWNERSHIP, 0)
    reader = await FaultyLog.reader(log, LogName.OWNERSHIP, 0, first)
    batch = await reader.read(end - first, 0.0) if end > first else Batch((), first, end)
    return [claim.node for record in batch.records if (claim := decode_claim(record.value)) is not None]


@asynccontextmanager
async def owning(
    log: FaultyLog, group: ToldGroup, name: str = "me", final_s: float = 10.0
) -> AsyncIterator[Assignment]:
    shell = shell_of()
    dispatcher = dispatcher_of(shell, log, name)
    dispatcher.log_was_read(Cluster("c", 1, 1))
    node = node_of(log, dispatcher, shell)

    def runner(shard: int, epoch: int) -> ShardRunner:
        return ShardRunner(shard, epoch, node, dispatcher)

    mine = Claim(name, "run-1", f"{name}:1")
    ownership = Assignment(log, group, mine, dispatcher, runner, AssignmentOptions(final_s=final_s))
    tasks: list[asyncio.Task[None]] = []

    async def run() -> None:
        async with asyncio.TaskGroup() as started:
            started.create_task(ownership.watch(0))
            await ownership.run(started)

    tasks.append(asyncio.create_task(run()))
    try:
        yield ownership
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def opened(log: FaultyLog) -> FaultyLog:
    await log.open()
    return log


async def until(shown: list[str], log: FaultyLog) -> None:
    async with asyncio.timeout(5):
        while await claims(log) != shown:
            await asyncio.sleep(0.01)


async def test_nothing_is_claimed_before_all_old_claims_are_read() -> None:
    log = SlowClaims(MemoryStore(CLOCK, SystemRng(), 1))
    await log.open()
    for _ in range(20):
        log.append(LogName.OWNERSHIP, 0, b"0", OTHER)
    async with owning(log, ToldGroup(frozenset({0}))):
        await asyncio.sleep(0.3)
        assert await claims(log) == ["other"] * 20, "it claimed, and did not know yet what stands"
        log.go.set()
        await until(["other"] * 20 + ["me"], log)


async def test_only_the_first_claim_of_a_process_is_news() -> None:
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    told: list[tuple[str, bool]] = []

    def claimed(_dispatcher: Dispatcher, claim: Owner, *, is_known: bool) -> None:
        told.append((claim.address, is_known))

    with mock.patch.object(Dispatcher, "claimed", claimed):
        async with owning(log, ToldGroup(None)), asyncio.timeout(5):
            for run in ("run", "run", "run-2", "run"):  # it was restarted; the last is heard late
                await log.append(LogName.OWNERSHIP, 0, b"0", encode_claim(Claim("other", run, "other:1")))
            while len(told) < 4:
                await asyncio.sleep(0.01)
    assert told == [("other:1", False), ("other:1", True), ("other:1", False), ("other:1", False)]


async def test_a_node_that_is_no_member_claims_nothing_back_and_stops() -> None:
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    group = ToldGroup(frozenset({0}))
    async with owning(log, group) as ownership:
        await until(["me"], log)
        async with asyncio.timeout(5):
            while not ownership._runners:
                await asyncio.sleep(0.01)
        group.tell(None)
        await asyncio.sleep(0.1)
        assert ownership._runners, "it serves on while nobody else has claimed"
        log.append(LogName.OWNERSHIP, 0, b"0", OTHER)
        async with asyncio.timeout(5):
            while ownership._runners:
                await asyncio.sleep(0.01)
        await asyncio.sleep(2.5)
        assert await claims(log) == ["me", "other"]


@pytest.mark.parametrize("happens", ["another node claims", "a drain"])
async def test_a_shard_is_not_started_by_a_plan_that_is_no_longer_true(happens: str) -> None:
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    mine = encode_claim(Claim("me", "run-1", "me:1"))
    started: list[int] = []
    async with owning(log, ToldGroup(frozenset({0}))) as ownership:
        async with asyncio.timeout(5):
            while ownership._dispatcher.api(0) is None:
                await asyncio.sleep(0.01)
        stop, new_runner = ownership.stop, ownership._new_runner

        async def slow(shard: int, *, final: bool = False) -> None:
            await stop(shard, final=final)
            if happens == "a drain":
                ownership.draining = True
                return
            ownership._group.tell(None)  # type: ignore[attr-defined]
            log.append(LogName.OWNERSHIP, 0, b"0", OTHER)
            async with asyncio.timeout(5):
                while ownership._newest[0].claim.node != "other":
                    await asyncio.sleep(0.01)

        def noted(shard: int, epoch: int) -> ShardRunner:
            started.append(epoch)
            return new_runner(shard, epoch)

        with mock.patch.object(ownership, "stop", slow), mock.patch.object(ownership, "_new_runner", noted):
            log.append(LogName.OWNERSHIP, 0, b"0", mine)  # a newer claim of its own: it would begin again under it
            async with asyncio.timeout(5):
                while ownership._runners:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
        assert started == []


async def test_a_shard_that_went_to_another_node_during_a_slow_release_is_not_claimed_back() -> None:
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    group = ToldGroup(frozenset({0}))
    async with owning(log, group) as ownership:
        async with asyncio.timeout(5):
            while ownership._dispatcher.api(0) is None:
                await asyncio.sleep(0.01)
        stop = ownership.stop

        async def slow(shard: int, *, final: bool = False) -> None:
            await stop(shard, final=final)
            group.tell(frozenset())

        ownership._claim_again.clear()  # it has claimed nothing for long
        with mock.patch.object(ownership, "stop", slow):
            log.append(LogName.OWNERSHIP, 0, b"0", OTHER)
            async with asyncio.timeout(5):
                while ownership._runners:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
        assert await claims(log) == ["me", "other"]


async def test_two_nodes_one_of_which_fell_out_do_not_claim_in_turns() -> None:
    store = MemoryStore(CLOCK, SystemRng(), 1)
    first, second = await opened(FaultyLog(store)), await opened(FaultyLog(store))
    old, new = ToldGroup(frozenset({0})), ToldGroup(frozenset())
    async with owning(first, old, "old"), owning(second, new, "new"):
        await until(["old"], first)
        old.tell(None)
        new.tell(frozenset({0}))
        await until(["old", "new"], first)
        await asyncio.sleep(4.5)
        assert await claims(first) == ["old", "new"]


async def test_a_drain_leaves_the_group_in_time_whatever_the_final_snapshots_take() -> None:
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    group = ToldGroup(frozenset({0}))
    async with owning(log, group, final_s=0.2) as ownership:
        async with asyncio.timeout(5):
            while ownership._dispatcher.api(0) is None:
                await asyncio.sleep(0.01)
        log.latency = lambda name, _shard: 60.0 if name is LogName.SNAPSHOTS else 0.0
        async with asyncio.timeout(2):
            await ownership.drain()
        assert group.left


async def test_after_a_pause_the_old_assignment_is_not_believed_until_the_group_gives_one() -> None:
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    group = ToldGroup(frozenset({0}))
    async with owning(log, group) as ownership:
        await until(["me"], log)
        lease = ownership._dispatcher.lease
        lease.beat()
        lease.renew()  # it has just asked
        log.append(LogName.OWNERSHIP, 0, b"0", OTHER)
        await asyncio.sleep(2.5)
        assert await claims(log) == ["me", "other"]
        group.tell(frozenset({0}))
        await until(["me", "other", "me"], log)


async def test_records_that_were_read_count_as_lag_until_they_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_end, "LOOK_S", 0.05)
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    async with owning(log, ToldGroup(frozenset({0}))) as ownership:
        async with asyncio.timeout(5):
            while ownership._dispatcher.api(0) is None:
                await asyncio.sleep(0.01)
        assert ownership.lag() == 0
        run_on = asyncio.Event()
        with mock.patch.object(ownership._dispatcher.lease, "wait", run_on.wait):
            for _ in range(300):  # more than one slice
                log.append(LogName.MESSAGES, 0, b"t", b"no message")
            await asyncio.sleep(0.1)
            assert ownership.lag() > 200, "they are in the hands of the shard, and nobody has got them"
            for _ in range(1_000):
                log.append(LogName.MESSAGES, 0, b"t", b"no message")
            async with asyncio.timeout(5):
                while ownership.lag() < 1_200:  # it reads nothing, and its log grows
                    await asyncio.sleep(0.01)
            run_on.set()
        async with asyncio.timeout(5):
            while ownership.lag():
                await asyncio.sleep(0.01)


async def test_a_partition_that_somebody_added_is_no_shard() -> None:
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    async with owning(log, ToldGroup(frozenset({0, 1}))) as ownership, asyncio.timeout(5):
        while ownership.not_live() is not None:
            await asyncio.sleep(0.01)


async def test_an_ownership_log_that_went_back_is_passed_by_claims() -> None:
    """Gateways know an epoch above its end: claims of the only node have to pass it, or the shard is never served."""
    log = await opened(FaultyLog(MemoryStore(CLOCK, SystemRng(), 1)))
    known = make_epoch(1, (await log.bounds(LogName.OWNERSHIP, 0)).end + 3)
    async with owning(log, ToldGroup(frozenset({0}))) as ownership:
        await until(["me"], log)
        ownership._dispatcher.newer_epochs.note(0, known)
        async with asyncio.timeout(2):
            while "went back" not in (ownership.not_live() or ""):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            while ownership._dispatcher.api(0) is None:
                await asyncio.sleep(0.01)
        assert await claims(log) == ["me"] * 5
        assert ownership._serving()[0] == known + 1
        assert ownership.not_live() is None


async def test_a_claim_of_another_that_is_not_read_yet_is_waited_for() -> None:
    log = SlowClaims(MemoryStore(CLOCK, SystemRng(), 1))
    await log.open()
    log.go.set()
    async with owning(log, ToldGroup(frozenset({0}))) as ownership:
        async with asyncio.timeout(5):
            while ownership._dispatcher.api(0) is None:
                await asyncio.sleep(0.01)
        log.go.clear()
        other = await log.append(LogName.OWNERSHIP, 0, b"0", OTHER)
        ownership._dispatcher.newer_epochs.note(0, make_epoch(1, other.offset))
        await asyncio.sleep(2.5)
        assert await claims(log) == ["me", "other"]
        assert "went back" not in (ownership.not_live() or "")
