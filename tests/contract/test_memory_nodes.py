"""Several handles of one memory log on virtual time: what a simulation can do to a node."""

import asyncio
import random
from collections.abc import Callable

import pytest

from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_group import HEARTBEAT_S, SESSION_S, sticky
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import AppendUnknown, LogUnavailable
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.contract.virtual import SeededRng, VirtualLoop, run

INBOX = LogName.INBOX


def store_on(loop: VirtualLoop, shards: int = 4, memory_bytes: int = 1 << 20) -> MemoryStore:
    return MemoryStore(loop, SeededRng(1), shards, memory_bytes, coordinated=True)


async def values(log: FaultyLog, shard: int = 0) -> list[bytes | None]:
    first = (await log.bounds(INBOX, shard)).first
    reader = await log.reader(INBOX, shard, first)
    return [record.value for record in (await reader.read(1000, 0)).records]


async def opened(store: MemoryStore, latency: Callable[[LogName, int], float] | None = None) -> FaultyLog:
    log = FaultyLog(store, latency)
    await log.open()
    return log


def test_a_late_append_lands_in_order_and_is_seen_by_others() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        rng = random.Random(3)
        slow, other = await opened(store, lambda _log, _shard: rng.random() * 3), await opened(store)
        futures = [slow.append(INBOX, 0, None, b"%d" % i) for i in range(20)]
        assert await values(other) == []
        await asyncio.gather(*futures)
        assert await values(other) == [b"%d" % i for i in range(20)]

    run(loop, main())


def test_an_append_slower_than_the_wait_is_unknown_and_still_lands() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        log = await opened(store, lambda _log, _shard: 9.0)
        with pytest.raises(AppendUnknown):
            await log.append(INBOX, 0, None, b"late")
        assert await values(log) == []
        await asyncio.sleep(4)
        assert await values(log) == [b"late"]

    run(loop, main())


@pytest.mark.parametrize(("kept", "expected"), [(None, 3), (lambda waiting: waiting - 1, 2), (lambda _: 0, 0)])
def test_what_a_crashed_node_handed_over_lands_as_far_as_it_got(
    kept: Callable[[int], int] | None, expected: int
) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        node, other = await opened(store, lambda _log, _shard: 1.0), await opened(store)
        futures = [node.append(INBOX, 0, None, b"%d" % i) for i in range(3)]
        node.crash(kept)
        assert all(future.cancelled() for future in futures)
        with pytest.raises(LogUnavailable):
            await node.append(INBOX, 0, None, b"dead")
        await asyncio.sleep(2)
        assert await values(other) == [b"%d" % i for i in range(expected)]

    run(loop, main())


def test_a_silent_log_takes_appends_nowhere_and_gives_readers_nothing() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        node, other = await opened(store), await opened(store)
        reader = await node.reader(INBOX, 0, (await node.bounds(INBOX, 0)).end)
        node.reach = Reach.SILENT
        start = loop.time()
        lost = node.append(INBOX, 0, None, b"lost")
        await other.append(INBOX, 0, None, b"x")
        assert not (await reader.read(10, 1.0)).records
        with pytest.raises(AppendUnknown):
            await lost
        assert loop.time() - start == pytest.approx(6.0)
        with pytest.raises(LogUnavailable):
            await node.bounds(INBOX, 0)
        node.reach = Reach.OK
        assert [record.value for record in (await reader.read(10, 1.0)).records] == [b"x"]

    run(loop, main())


def test_a_refused_log_takes_nothing_over() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        node, other = await opened(store), await opened(store)
        node.reach = Reach.REFUSED
        with pytest.raises(LogUnavailable):
            await node.append(INBOX, 0, None, b"no")
        assert await values(other) == []

    run(loop, main())


def test_a_frozen_node_sees_neither_records_nor_acks_until_it_thaws() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        node, other = await opened(store, lambda _log, _shard: 0.1), await opened(store)
        reader = await node.reader(INBOX, 0, (await node.bounds(INBOX, 0)).end)
        pending = node.append(INBOX, 0, None, b"mine")
        node.freeze()
        reading = asyncio.ensure_future(reader.read(10, 0.5))
        await asyncio.sleep(3)
        assert await values(other) == [b"mine"]
        assert not pending.done()
        assert not reading.done()
        node.thaw()
        await pending
        assert [record.value for record in (await reading).records] == [b"mine"]

    run(loop, main())


def test_members_share_the_shards_and_a_drained_one_hands_over_within_a_heartbeat() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop, shards=8)
        a, b = (await opened(store)).group("a"), (await opened(store)).group("b")
        await a.start()
        assert a.assigned() == frozenset(range(8))
        before = a.assigned()
        await b.start()
        await asyncio.sleep(HEARTBEAT_S)
        assert len(a.assigned() or ()) == len(b.assigned() or ()) == 4
        assert (a.assigned() or frozenset()) | (b.assigned() or frozenset()) == before
        b.changed.clear()
        await a.stop()
        async with asyncio.timeout(HEARTBEAT_S * 2):
            await b.changed.wait()
        assert b.assigned() == frozenset(range(8))
        assert a.assigned() is None
        await b.stop()

    run(loop, main())


def test_a_crashed_members_shards_move_after_its_session() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        log_a, log_b = await opened(store), await opened(store)
        a, b = log_a.group("a"), log_b.group("b")
        await a.start()
        await b.start()
        await asyncio.sleep(1)
        log_a.crash()
        await asyncio.sleep(SESSION_S - 2 * HEARTBEAT_S)
        assert len(b.assigned() or ()) == 2
        await asyncio.sleep(3 * HEARTBEAT_S)
        assert b.assigned() == frozenset(range(4))
        await b.stop()

    run(loop, main())


def test_a_zombie_believes_its_old_assignment_until_it_thaws() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = store_on(loop)
        log_a, log_b = await opened(store), await opened(store)
        a, b = log_a.group("a"), log_b.group("b")
        await a.start()
        await b.start()
        await asyncio.sleep(1)
        old = a.assigned()
        log_a.freeze(io=False)
        await asyncio.sleep(SESSION_S + 1)
        assert a.assigned() == old
        assert b.assigned() == frozenset(range(4))
        await log_a.append(INBOX, 0, None, b"a zombie writes")
        log_a.thaw()
        await asyncio.sleep(2 * HEARTBEAT_S)
        assert len(a.assigned() or ()) == len(b.assigned() or ()) == 2
        await a.stop()
        await b.stop()

    run(loop, main())


def test_sticky_moves_only_what_must() -> None:
    before = {"a": frozenset({0, 1, 2}), "b": frozenset({3, 4, 5}), "c": frozenset({6, 7})}
    gone = {node: shards for node, shards in before.items() if node != "c"}
    after = sticky(gone, 8)
    assert before["a"] <= after["a"]
    assert before["b"] <= after["b"]
    joined = sticky({**after, "d": frozenset()}, 8)
    assert sorted(len(shards) for shards in joined.values()) == [2, 3, 3]
    assert frozenset().union(*joined.values()) == frozenset(range(8))


def test_a_log_over_its_limit_says_so_and_refuses_publishes_before_snapshots() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log = await opened(store_on(loop, memory_bytes=100_000))
        assert not log.above_limit()
        for _ in range(3):
            await log.append(LogName.MESSAGES, 0, b"k", bytes(90_000))
        assert log.above_limit()
        with pytest.raises(LogUnavailable, match="full"):
            await log.append(LogName.MESSAGES, 0, b"k", b"v")
        await log.append(LogName.SNAPSHOTS, 0, b"k", b"v")  # without which nothing is truncated
        await log.append(LogName.DEAD_LETTERS, 0, b"k", b"v")  # without which no snapshot is written
        await log.truncate_before(LogName.MESSAGES, 0, (await log.bounds(LogName.MESSAGES, 0)).end)
        assert not log.above_limit()
        await log.append(LogName.MESSAGES, 0, b"k", b"v")

    run(loop, main())


def test_the_same_seed_gives_the_same_run() -> None:
    def once() -> list[object]:
        loop = VirtualLoop()
        seen: list[object] = []

        async def main() -> None:
            rng = random.Random(7)
            store = store_on(loop)
            nodes = [await opened(store, lambda _log, _shard: rng.random()) for _ in range(3)]
            seen.append(store.cluster_id)
            futures = [node.append(INBOX, rng.randrange(4), None, b"%d" % i) for i in range(50) for node in nodes]
            await asyncio.gather(*futures)
            seen.extend([await values(nodes[0], shard) for shard in range(4)])
            seen.append(loop.time())

        run(loop, main())
        return seen

    assert once() == once()
