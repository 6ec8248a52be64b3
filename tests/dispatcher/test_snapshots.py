"""When snapshots are written, what happens when they cannot be, and which are kept."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from typing import Any
from unittest import mock

import pytest
import structlog

from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from dispatcher.recovery import RecoveredShard, ShardLost, recover, restore_in_slices
from dispatcher.shard import ShardOwner
from dispatcher.snapshots import OLD_S, RETRY_MAX_S, Snapshots
from headgate.core.sequencer.snapshot import HEADER, NAME_BYTES, read_chunk
from headgate.core.wire.errors import NewerSnapshot
from headgate.core.wire.link_stats import TopicDelivered
from headgate.core.wire.records import LogName
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.logs.embedded import failed
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import LogError, LogUnavailable, RecordTooLarge
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.core.snapshot_bed import CONFIG, bundle, configured
from tests.dispatcher.bed import dispatcher_of, node_of, shell_of

DEFAULT = SnapshotOptions()
SNAPSHOTS, MESSAGES = LogName.SNAPSHOTS, LogName.MESSAGES


class Faulty(MemoryLog):
    """`refuse` is asked at each append to the snapshots, with their number so far and the value."""

    refuse: Callable[[int, bytes], LogError | None] = staticmethod(lambda n, value: None)
    tries = 0

    def append(self, log: LogName, shard: int, key: Any, value: Any) -> Any:
        if log is SNAPSHOTS:
            self.tries += 1
            error = self.refuse(self.tries, value)
            if error is not None:
                return failed(error)
        return super().append(log, shard, key, value)


class Node:
    """A shard as its owner has it; `apply` puts records in without a log of messages."""

    def __init__(self, loop: VirtualLoop, log: Faulty, found: RecoveredShard, options: SnapshotOptions) -> None:
        self.loop = loop
        self.log = log
        self.metrics = Metrics({"dispatcher"})
        shell = shell_of(loop, self.metrics)
        node = node_of(log, dispatcher_of(shell), shell, ShardOptions(snapshots=options))
        self.owner = ShardOwner(found, 1, node, lambda topic_id, user_id="": None, None)
        self.snapshots = Snapshots(self.owner, node)
        self.offset = 2
        self.fresh = 0
        self.owner.shard.next_offset = 0
        self.owner.take(configured())

    def messages(self, count: int, size: int = 1_000) -> None:
        for _ in range(count // size):
            self.owner.take([bundle(self.offset, self.fresh, size)])
            self.offset += 1
            self.fresh += size

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.snapshots.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def chunks(self) -> list[Any]:
        part = self.log._store.parts[SNAPSHOTS, 0]
        return [c for r in part.slice(part.first, 1 << 30).records if (c := read_chunk(r.offset, r.value))]

    def ends(self) -> list[tuple[bool, int]]:
        return [(c.is_base, c.offset) for c in self.chunks() if c.is_end]

    def failures(self) -> int:
        return sum(self.metrics._snapshot_failures.values.values())


def on_a_virtual_loop(main: Callable[[Node], Any], options: SnapshotOptions = DEFAULT) -> Callable[[], None]:
    def test() -> None:
        loop = VirtualLoop()

        async def body() -> None:
            log = Faulty(MemoryStore(loop, SeededRng(1), 1, 1 << 30))
            await log.open()
            found = await recover(log, 0, lambda work, seconds: None)
            await main(Node(loop, log, found, options))

        run(loop, body())

    test.__name__, test.__doc__ = main.__name__, main.__doc__
    return test


# When


@on_a_virtual_loop
async def test_a_snapshot_is_due_after_20000_messages_whatever_the_records(node: Node) -> None:
    async with node.running():
        await asyncio.sleep(2)
        assert len(node.ends()) == 0, "the topic's creation waits for its 30 s"
        node.messages(20_000)
        await asyncio.sleep(2)
        assert node.ends() == [(True, node.offset)]
        for _ in range(5):
            node.messages(20_000)
            await asyncio.sleep(0.3)
        assert len(node.ends()) <= 3, "about one a second at most"


@on_a_virtual_loop
async def test_one_change_is_written_within_30_seconds_and_an_idle_shard_writes_nothing(node: Node) -> None:
    async with node.running():
        await asyncio.sleep(DEFAULT.interval_s + 1)
        assert len(node.ends()) == 1
        node.messages(1, 1)
        await asyncio.sleep(DEFAULT.interval_s + 1)
        assert [base for base, _ in node.ends()] == [True, False]
        tries = node.log.tries
        await asyncio.sleep(3_000)
        assert node.log.tries == tries
        assert node.snapshots.age() == 0


@on_a_virtual_loop
async def test_c1_batches_then_idle_stop_growing_within_60_seconds(node: Node) -> None:
    async with node.running():
        for _ in range(100):
            node.messages(1_000)
            await asyncio.sleep(0.05)
        await asyncio.sleep(60)
        tries = node.log.tries
        await asyncio.sleep(600)
        assert (node.log.tries, node.failures()) == (tries, 0)
        chain = await newest_chain(node.log, 0)
        assert chain[-1].offset == node.offset


@on_a_virtual_loop
async def test_statistics_alone_are_written_within_30_seconds_and_at_a_drain(node: Node) -> None:
    node.messages(1_000)
    async with node.running():
        await asyncio.sleep(60)
    row = next(iter(node.owner.rows.values()))
    told = TopicDelivered(row.topic_id, row.epoch, 5, 100)
    for expected, draining in [(5, False), (10, True)]:
        node.owner.tallies.delivered(told)
        if draining:
            await node.snapshots.final()
        else:
            async with node.running():
                await asyncio.sleep(31)
        chain = await newest_chain(node.log, 0, [])
        _, rows = await restore_in_slices(chain)
        tally = next(iter(rows.values())).tally
        assert tally is not None and tally.delivered == expected
    count = (await node.log.bounds(SNAPSHOTS, 0)).end
    async with node.running():
        await asyncio.sleep(60)
    assert (await node.log.bounds(SNAPSHOTS, 0)).end == count, "nothing changed"


@on_a_virtual_loop
async def test_a_drain_writes_a_delta_and_nothing_where_nothing_changed(node: Node) -> None:
    async with node.running():
        node.messages(20_000)
        await asyncio.sleep(2)
    node.messages(5_000)
    await node.snapshots.final()
    assert [base for base, _ in node.ends()] == [True, False]
    assert node.ends()[-1][1] == node.offset
    tries = node.log.tries
    await node.snapshots.final()
    assert node.log.tries == tries


# When it fails


class Steady:
    """A clock by which everything takes 5 ms."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        self._now += 0.005
        return self._now

    def wall_ms(self) -> int:
        return 1


@on_a_virtual_loop
async def test_between_two_slices_it_rests_for_as_long_as_one_took_but_not_at_a_drain(node: Node) -> None:
    node.messages(20_000)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    node.snapshots._clock = Steady()
    with mock.patch("dispatcher.snapshots.asyncio.sleep", sleep):
        await node.snapshots._write_due(0)
        assert len(slept) > 10
        assert set(slept[1:]) == {0.005}, "the first is that of the marks"
        slept.clear()
        node.messages(20_000)
        await node.snapshots.final()
        assert set(slept) == {0}


def outage(until: float, loop: VirtualLoop) -> Callable[[int, bytes], LogError | None]:
    return lambda n, value: LogUnavailable("away") if loop.now() < until else None


@on_a_virtual_loop
async def test_a_failing_snapshot_backs_off_is_counted_and_said_once_a_minute(node: Node) -> None:
    node.log.refuse = outage(node.loop.now() + 3_600, node.loop)
    node.messages(20_000)
    with structlog.testing.capture_logs() as said:
        async with node.running():
            await asyncio.sleep(3_600)
            assert node.log.tries < 3_600 / RETRY_MAX_S + 8
            assert node.failures() == node.log.tries
            lines = [line for line in said if line["event"] == "snapshot failed"]
            assert 50 < len(lines) <= 62
            assert lines[-1]["reason"] == "log"
            assert "away" in lines[-1]["why"]
            assert node.snapshots.age() > 3_590
            await asyncio.sleep(RETRY_MAX_S + 2)
            assert node.ends() == [(True, node.offset)]
            assert node.snapshots.age() == 0


@on_a_virtual_loop
async def test_readiness_says_when_changes_have_waited_too_long_for_a_snapshot(node: Node) -> None:
    node.log.refuse = outage(node.loop.now() + 700, node.loop)
    node.messages(1_000)
    async with node.running():
        await asyncio.sleep(OLD_S - 5)
        assert node.snapshots.overdue() is None
        await asyncio.sleep(10)
        assert "shard 0: no snapshot" in str(node.snapshots.overdue())
        await asyncio.sleep(200)
        assert node.snapshots.overdue() is None


@on_a_virtual_loop
async def test_behind_a_base_that_fails_deltas_go_on(node: Node) -> None:
    """The chain is where it was: a fail-over never reads more than about 20,000 messages again."""
    async with node.running():
        node.messages(20_000)
        await asyncio.sleep(2)
        node.owner.writer.delta_bytes = 1 << 30  # so that every next one wants to be a base

        def refuse(n: int, value: bytes) -> LogError | None:
            chunk = read_chunk(n, value)
            return RecordTooLarge("one byte too many") if chunk and chunk.is_base and chunk.is_end else None

        node.log.refuse = refuse
        for _ in range(20):
            node.messages(20_000)
            await asyncio.sleep(3)
        assert 3 <= node.failures() <= 8
        assert node.metrics._snapshot_failures.values["too_large",] == node.failures()
        assert [base for base, _ in node.ends()].count(False) >= 12
        assert (await newest_chain(node.log, 0))[-1].offset >= node.offset - 20


@on_a_virtual_loop
async def test_bases_that_fail_where_there_is_no_chain_leave_no_litter(node: Node) -> None:
    node.messages(100_000)
    node.log.refuse = lambda n, value: LogUnavailable("away") if n % 3 == 0 else None
    async with node.running():
        await asyncio.sleep(900)
    assert node.failures() > 10
    assert len(node.chunks()) <= 4


@pytest.mark.parametrize("fail_at", range(6))
def test_a_snapshot_that_fails_at_any_chunk_is_recovered_without_it(fail_at: int) -> None:
    @on_a_virtual_loop
    async def body(node: Node) -> None:
        async with node.running():
            node.messages(60_000)
            await asyncio.sleep(2)
        first = node.offset
        node.messages(60_000)
        node.log.tries = 0
        node.log.refuse = lambda n, value: LogUnavailable("away") if n > fail_at else None
        with suppress(LogError):
            await node.snapshots.final()
        whole = node.ends()[-1][1]
        assert whole in (first, node.offset)
        node.log._store.parts[MESSAGES, 0].first = 0  # its records are only those that `take` was given
        chain = await newest_chain(node.log, 0)
        assert chain[-1].offset == whole

    body()


@on_a_virtual_loop
async def test_m3_a_base_that_is_not_what_was_written_is_an_error_and_nothing_is_dropped(node: Node) -> None:
    async with node.running():
        node.messages(20_000)
        await asyncio.sleep(2)
        kept, safe = len(node.chunks()), node.owner.snapshot_offset
        node.owner.rows[b"t"].name = "changed behind the writer's back"
        node.owner.writer._dirty.clear()
        real = node.owner.writer.base

        def wrong(*args: Any, **named: Any) -> Any:
            yield from real(*args, **named)
            node.owner.rows[b"t"].name = "and once more"

        reached: list[int] = []
        forget = node.owner.writer.forget

        def noting() -> None:
            reached.append(node.owner.snapshot_offset)
            forget()

        node.owner.writer.base = wrong  # type: ignore[method-assign]
        node.owner.writer.forget = noting  # type: ignore[method-assign]
        node.owner.writer.delta_bytes = 1 << 30
        node.messages(20_000)
        node.owner.writer._dirty.clear()
        await asyncio.sleep(3)
        assert node.metrics._snapshot_failures.values["content",] >= 1
        assert len(node.chunks()) > kept
        assert reached == [safe], "messages may be dropped behind what was checked alone"


def test_a_quiet_shard_has_a_base_a_day() -> None:
    on_a_virtual_loop(a_quiet_hour, DEFAULT._replace(base_s=300.0))()


async def a_quiet_hour(node: Node) -> None:
    async with node.running():
        for _ in range(20):
            node.messages(1, 1)
            await asyncio.sleep(60)
        assert 3 <= sum(1 for base, _ in node.ends() if base) <= 5


async def bases(node: Node, count: int) -> list[int]:
    """Writes bases with a delta after each; returns the message-log offsets at which the bases end."""
    found = []
    for _ in range(count):
        node.messages(3_000)
        await node.snapshots._write_base()
        found.append(node.offset)
        node.messages(3_000)
        await node.snapshots._write_delta()
    return found


# What a next owner does


@on_a_virtual_loop
async def test_a_snapshot_older_than_the_log_parks_and_says_what_to_do(node: Node) -> None:
    await bases(node, 1)
    part = node.log._store.parts[MESSAGES, 0]
    part.truncate_before(part.end)
    with pytest.raises(ShardLost, match=r"ends at offset 8 .* begins at \d+.*docs/operations.md"):
        await recover(node.log, 0, lambda work, seconds: None)


@on_a_virtual_loop
async def test_m10_a_chain_of_newer_logic_parks(node: Node) -> None:
    await bases(node, 1)
    newest = bytearray(node.chunks()[-1].value[:-NAME_BYTES])
    newest[4:6] = (99).to_bytes(2, "big")
    value = bytes(newest) + blake2b(newest, digest_size=NAME_BYTES).digest()
    await node.log.append(SNAPSHOTS, 0, None, value)
    with pytest.raises(NewerSnapshot, match="logic 99"):
        await recover(node.log, 0, lambda work, seconds: None)
    assert HEADER.size == 44


def test_the_shard_of_these_tests_is_that_of_the_store() -> None:
    assert (CONFIG.shards, CONFIG.shard) == (1, 0)
