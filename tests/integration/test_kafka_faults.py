"""The Kafka adapter through frozen and restarted brokers, and with group members that go, and large logs."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from headgate.core.wire.control import PROBE_KEY
from headgate.core.wire.records import LogName, Record
from headgate.runtime.appender import Appender
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.ports import AppendUnknown, Log, LogError, LogUnavailable, OwnerGroup
from tests.contract.log_suite import SystemClock, fill, read_from
from tests.kafka.cluster import KafkaCluster
from tests.opened_log import opened_log

MESSAGES = LogName.MESSAGES


@pytest.fixture(scope="module")
def broken_often(kafka_jars: None) -> Iterator[KafkaCluster]:
    """Yields one broker for all tests that stop it."""
    with KafkaCluster() as cluster:
        yield cluster


@pytest.fixture
async def cluster(broken_often: KafkaCluster) -> KafkaCluster:
    """The broker, when it serves again after the fault of the test before."""
    options = LogOptions(f"kafka://{broken_often.bootstrap}", f"probe-{secrets.token_hex(4)}", shards=1)
    async with asyncio.timeout(60):
        while True:
            try:
                await init_kafka(options)
            except LogError:
                await asyncio.sleep(0.2)
            else:
                return broken_often


@asynccontextmanager
async def opened(bootstrap: str, prefix: str, shards: int = 2) -> AsyncIterator[KafkaLog]:
    options = LogOptions(f"kafka://{bootstrap}", prefix, shards=shards)
    await init_kafka(options)
    async with opened_log(options) as log:
        yield log


async def everything(log: Log, shard: int) -> list[Record]:
    first, end = await log.bounds(MESSAGES, shard)
    return await read_from(log, MESSAGES, shard, first + 1, end - first - 1)  # the config record stands first


async def until(group: OwnerGroup, shards: frozenset[int], patience_s: float) -> float:
    """Waits for an assignment; returns how long it took."""
    start = time.monotonic()
    async with asyncio.timeout(patience_s):
        while group.assigned() != shards:
            group.changed.clear()
            await group.changed.wait()
    return time.monotonic() - start


class Publishers:
    """Publishes numbers at 50 a second and remembers how each ended."""

    def __init__(self, appender: Appender) -> None:
        self.ended: dict[bytes, type[Exception] | int] = {}
        self.refused_after_s: list[float] = []  # while the circuit was open
        self._appender = appender
        self._tasks: list[asyncio.Task[None]] = []

    async def load(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._tasks.append(asyncio.ensure_future(self._publish(len(self._tasks))))
            await asyncio.sleep(0.02)

    async def finish(self) -> None:
        await asyncio.gather(*self._tasks)

    async def _publish(self, number: int) -> None:
        value = b"%d" % number
        start = time.monotonic()
        was_open = number % 2 in self._appender.open_shards()  # one circuit opens a moment before the other
        try:
            self.ended[value] = (await self._appender.append(number % 2, b"k", value)).offset
        except AppendUnknown:
            self.ended[value] = AppendUnknown
            assert time.monotonic() - start < 6.9
        except LogUnavailable:
            self.ended[value] = LogUnavailable
            if was_open:
                self.refused_after_s.append(time.monotonic() - start)

    def check(self, in_log: list[bytes]) -> None:
        """Asserts P3 (refused never appears), P4 (acked-before-sent keeps order), and that nothing acked is lost."""
        assert len(in_log) == len(set(in_log)), "nothing twice"
        refused = {value for value, end in self.ended.items() if end is LogUnavailable}
        acked = [value for value, end in self.ended.items() if isinstance(end, int)]
        assert not refused & set(in_log)
        assert not set(acked) - set(in_log)
        for shard in range(2):
            mine = [value for value in in_log if value in set(acked) and int(value) % 2 == shard]
            assert mine == sorted(mine, key=int)


async def test_a_frozen_broker_504_then_503_then_on_without_a_restart(cluster: KafkaCluster, log_prefix: str) -> None:
    async with opened(cluster.bootstrap, log_prefix) as log:
        appender = Appender(log, SystemClock())
        await asyncio.gather(*(fill(log, MESSAGES, shard, 50) for shard in range(2)))  # warm
        publishers = Publishers(appender)
        await publishers.load(1.0)
        cluster.nodes[0].sigstop()
        try:
            await publishers.load(10.0)
            assert appender.open_shards() == [0, 1]
        finally:
            cluster.nodes[0].sigcont()
        async with asyncio.timeout(20):
            while appender.open_shards():
                await asyncio.sleep(0.05)
        await publishers.load(0.5)
        await publishers.finish()
        await appender.stop()
        records = [record for shard in range(2) for record in await everything(log, shard)]
    ends = list(publishers.ended.values())
    assert AppendUnknown in ends, "what was under way"
    assert LogUnavailable in ends, "what came later"
    assert isinstance(publishers.ended[b"%d" % (len(ends) - 1)], int), "the last one, after the thaw"
    assert max(publishers.refused_after_s) < 0.1
    publishers.check([record.value or b"" for record in records if record.key == b"k"])


async def test_readers_wake_up_again_after_a_broker_was_restarted(cluster: KafkaCluster, log_prefix: str) -> None:
    async with opened(cluster.bootstrap, log_prefix) as log:
        reader = await log.reader(MESSAGES, 0, (await log.bounds(MESSAGES, 0)).end)
        assert not (await reader.read(10, 0.1)).records
        await asyncio.to_thread(cluster.nodes[0].kill9)
        assert not (await reader.read(10, 0.5)).records, "silence, not an error"
        with pytest.raises((AppendUnknown, LogUnavailable)):
            await log.append(MESSAGES, 0, b"k", b"lost")
        with pytest.raises(LogUnavailable):
            await log.bounds(MESSAGES, 0)
        await asyncio.to_thread(cluster.nodes[0].restart)
        deadline = time.monotonic() + 30
        while True:
            try:
                appended = await log.append(MESSAGES, 0, b"k", b"back")
                break
            except (AppendUnknown, LogUnavailable):
                assert time.monotonic() < deadline
        seen: list[Record] = []
        while not seen or seen[-1].offset < appended.offset:
            assert time.monotonic() < deadline
            seen += (await reader.read(100, 1.0)).records
        assert seen[-1].value == b"back"
        await reader.close()


async def test_a_close_while_the_broker_is_frozen_ends(cluster: KafkaCluster, log_prefix: str) -> None:
    options = LogOptions(f"kafka://{cluster.bootstrap}", log_prefix, shards=2)
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    group = log.group("a")
    await group.start()
    await until(group, frozenset({0, 1}), 20)
    reader = await log.reader(MESSAGES, 0, 1)
    await reader.read(1, 0.1)
    cluster.nodes[0].sigstop()
    try:
        future = log.append(MESSAGES, 0, b"k", b"v")
        async with asyncio.timeout(25):
            await group.stop()
            await log.close()
        assert isinstance(future.exception(), AppendUnknown)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left"
    finally:
        cluster.nodes[0].sigcont()


async def test_two_members_share_and_take_over(kafka_bootstrap: str, log_prefix: str) -> None:
    everyone = frozenset(range(6))
    log = partial(opened, kafka_bootstrap, log_prefix, shards=6)
    async with log() as log_a, log() as log_b:
        a, b = log_a.group("a"), log_b.group("b")
        await a.start()
        await until(a, everyone, 20)
        await b.start()
        async with asyncio.timeout(20):
            while len(a.assigned() or ()) != 3 or len(b.assigned() or ()) != 3:
                await asyncio.sleep(0.05)
        assert (a.assigned() or frozenset()) | (b.assigned() or frozenset()) == everyone
        start = time.monotonic()
        await a.stop()
        assert a.assigned() is None
        await until(b, everyone, 5)
        assert time.monotonic() - start < 3, "a drain does not wait for a session"
        await b.stop()


async def test_the_shards_of_a_member_that_vanished_move_after_its_session(
    kafka_bootstrap: str, log_prefix: str
) -> None:
    everyone = frozenset(range(4))
    async with opened(kafka_bootstrap, log_prefix, shards=4) as log:
        a, b = log.group("a"), log.group("b")
        await a.start()
        await b.start()
        async with asyncio.timeout(20):
            while len(a.assigned() or ()) != 2 or len(b.assigned() or ()) != 2:
                await asyncio.sleep(0.05)
        heartbeats = a._consumer._coordinator._heartbeat_task  # type: ignore[attr-defined]  # kill -9, for the group
        heartbeats.cancel()
        a._task.cancel()  # type: ignore[attr-defined]  # nor does it poll
        took = await until(b, everyone, 15)
        assert 4 < took < 10
        assert len(a.assigned() or ()) == 2, "it believes what it last heard"
        await a.stop()
        await b.stop()


async def test_a_restoring_reader_does_not_delay_a_live_one(kafka_bootstrap: str, log_prefix: str) -> None:
    async with opened(kafka_bootstrap, log_prefix) as log:
        value = bytes(1000)
        for _ in range(10):
            await asyncio.gather(*(log.append(MESSAGES, 0, b"k", value) for _ in range(3000)))
        live = await log.reader(MESSAGES, 1, (await log.bounds(MESSAGES, 1)).end)
        await live.read(1, 0.1)
        restoring = await log.reader(MESSAGES, 0, 0)
        await restoring.read(1, 5.0)  # and no more: its buffer is full and paused
        delays = []
        for number in range(20):
            start = time.monotonic()
            await log.append(MESSAGES, 1, b"k", b"%d" % number)
            batch = await live.read(10, 5.0)
            delays.append(time.monotonic() - start)
            assert [record.value for record in batch.records] == [b"%d" % number]
        assert sorted(delays)[10] < 0.2
        taken = 1
        while taken < 30_001:  # the config record too
            batch = await restoring.read(2000, 5.0)
            assert batch.records
            taken += len(batch.records)
        assert batch.next_offset == batch.end == 30_001
        await log.append(MESSAGES, 0, b"k", b"on")
        assert [r.value for r in (await restoring.read(10, 5.0)).records] == [b"on"], "it went over to the live side"
        await live.close()
        await restoring.close()


async def test_refused_probes_are_not_left_in_the_log(kafka_bootstrap: str, log_prefix: str) -> None:
    async with opened(kafka_bootstrap, log_prefix) as log:
        await fill(log, MESSAGES, 0, 3)
        assert [record.key for record in await everything(log, 0) if record.key == PROBE_KEY] == []
