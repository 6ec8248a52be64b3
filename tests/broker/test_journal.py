"""AsyncBroker with the project's log: acknowledged first, ids from the log, restarts, replay, dead letters, faults."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dispatcher.dead_letters import DeadLetters
from headgate.broker import AsyncBroker, Backpressure, Message, OnFull, Refusal, fixed, journal
from headgate.core.sequencer.effects import Unusable
from headgate.core.wire.envelope import Item, encode_bundle
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.records import LogName, Record
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import AppendUnknown, LogUnavailable, OffsetGone
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.broker.recorder import Recorder, failing
from tests.sim.loop import SimLoop, SimRng, run

SHARDS = 2
Scene = Callable[[MemoryStore], Awaitable[None]]


def play(scene: Scene) -> None:
    loop = SimLoop()
    store = MemoryStore(loop, SimRng("journal"), SHARDS)

    async def main() -> None:
        await scene(store)

    run(loop, main())
    assert loop.complaints == []


def test_publish_returns_when_the_log_has_it_and_delivery_follows_the_logs_order() -> None:
    async def scene(store: MemoryStore) -> None:
        recorder = Recorder()
        async with AsyncBroker(log=FaultyLog(store, lambda log, shard: 0.5)) as broker:
            broker.subscribe("orders", recorder)
            publishing = asyncio.gather(*(broker.publish("orders", n) for n in range(5)))
            await asyncio.sleep(0.49)
            assert not publishing.done()
            assert recorder.payloads == [], "not before the log has it"
            receipts = await publishing
            await broker.drained()
        assert recorder.payloads == [0, 1, 2, 3, 4]
        assert [m.id for m in recorder.messages] == [r.id for r in receipts] == sorted(r.id for r in receipts)
        part = store.parts[LogName.MESSAGES, shard_of(topic_key("orders"), SHARDS)]
        assert receipts[-1].id == part.end - 1, "an id is an offset"

    play(scene)


def test_a_restart_goes_on_from_the_position_and_gets_what_was_missed() -> None:
    async def scene(store: MemoryStore) -> None:
        before, after, new = Recorder("billing"), Recorder("billing"), Recorder("new")
        async with AsyncBroker(log=FaultyLog(store)) as broker:
            subscription = broker.subscribe("orders", before)
            await broker.publish("orders", {"n": 1}, key="k")
            await broker.publish("else", "where")
            await broker.drained()
            position = subscription.position
        async with AsyncBroker(log=FaultyLog(store)) as broker:  # another process, while billing is away
            await broker.publish("orders", {"n": 2}, key="k", trace="00-a-b-01")
            await broker.publish("orders", {"n": 3})
        async with AsyncBroker(log=FaultyLog(store), max_queue_size=1) as broker:
            subscription = broker.subscribe("orders", after)
            newcomer = broker.subscribe("orders", new)
            assert await broker.replay(subscription, position + 1) == 2
            assert await broker.replay(newcomer) == 3
            await broker.drained()
            await broker.publish("orders", {"n": 4})
            await broker.drained()
        assert before.payloads == [{"n": 1}]
        assert after.payloads == [{"n": 2}, {"n": 3}, {"n": 4}]
        assert new.payloads == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
        assert (after.messages[0].key, after.messages[0].trace) == ("k", "00-a-b-01")

    play(scene)


def test_a_replay_waits_for_room_and_ends_when_its_subscriber_leaves() -> None:
    async def scene(store: MemoryStore) -> None:
        async with AsyncBroker(log=FaultyLog(store), max_queue_size=2) as broker:
            for n in range(6):
                await broker.publish("orders", n)
            pull = broker.subscribe_pull("orders", "worker")
            replay = asyncio.ensure_future(broker.replay(pull))
            await asyncio.sleep(1.0)
            assert broker.metrics("orders").queue_length == 2
            with pytest.raises(Refusal, match="queue_full"):
                await broker.publish("orders", "no room")
            assert pull.take() is not None
            pull.ack()
            await asyncio.sleep(1.0)
            assert broker.metrics("orders").queue_length == 2
            pull.unsubscribe()
            assert await asyncio.wait_for(replay, 1.0) == 3
            assert broker.metrics("orders").queue_length == 0

    play(scene)


def test_a_group_shares_a_replay_and_keeps_the_order_of_a_key() -> None:
    async def scene(store: MemoryStore) -> None:
        one, two = Recorder("one"), Recorder("two")
        async with AsyncBroker(log=FaultyLog(store)) as broker:
            for n in range(8):
                await broker.publish("orders", n, key=f"k{n % 4}")
            first = broker.subscribe("orders", one, group="g")
            broker.subscribe("orders", two, group="g")
            await broker.replay(first)
            await broker.drained()
        assert sorted([*one.messages, *two.messages], key=lambda m: m.id) != one.messages
        for recorder in (one, two):
            for key in "k0", "k1", "k2", "k3":
                ids = [m.id for m in recorder.messages if m.key == key]
                assert (ids == sorted(ids), len(ids) in (0, 2)) == (True, True)

    play(scene)


def test_what_a_server_or_any_kafka_producer_wrote_can_be_replayed() -> None:
    async def scene(store: MemoryStore) -> None:
        log = FaultyLog(store)
        recorder = Recorder()
        async with AsyncBroker(log=log) as broker:
            shard, key = shard_of(topic_key("orders"), SHARDS), topic_key("orders")
            items = [Item(bytes(16), 0, b'"message_id":"x","payload":%d,"publisher_id":"p"}' % n) for n in (1, 2)]
            for value in (b'{"foreign":true}', encode_bundle(items, 0), b"not json", b"\xffHG\x00\x01", None):
                await log.append(LogName.MESSAGES, shard, key, value)
            assert await broker.replay(broker.subscribe("orders", recorder)) == 3
            await broker.drained()
        assert recorder.payloads == [{"foreign": True}, 1, 2]

    play(scene)


def test_dead_letters_and_dedup_keys_survive_a_restart() -> None:
    async def scene(store: MemoryStore) -> None:
        store.parts[LogName.DEAD_LETTERS, 0].add(0, b"orders", b'{"of":"somebody else"}')
        async with AsyncBroker(log=FaultyLog(store), retry=fixed(1)) as broker:
            broker.subscribe("orders", failing(9), name="legacy")
            for n in (1, 2, 3):
                first = await broker.publish("orders", n, dedup_key=f"key-{n}")
            await broker.drained()
            broker.purge_dead_letters("nothing here")
            broker.replay_dead_letter(broker.dead_letters()[0])
            await broker.drained()  # fails again: buried again
            letters = broker.dead_letters()
            assert len(letters) == 3
        async with AsyncBroker(log=FaultyLog(store)) as broker:
            assert broker.dead_letters() == letters
            again = await broker.publish("orders", 3, dedup_key="key-3")
            assert (again.duplicate, again.id) == (True, first.id)
            broker.purge_dead_letters()
            assert broker.journal_errors == 0
        async with AsyncBroker(log=FaultyLog(store)) as broker:
            assert broker.dead_letters() == []

    play(scene)


def test_a_dispatchers_dead_letters_in_the_same_log_are_skipped() -> None:
    async def scene(store: MemoryStore) -> None:
        log = MemoryLog(store)
        async with AsyncBroker(log=log, retry=fixed(1)) as broker:
            record = Record(offset=7, ts=1, key=b"orders", value=b"unreadable")
            DeadLetters(log, 0).add(record, Unusable(1, "corrupt", "not a record"))
            broker.subscribe("orders", failing(1), name="legacy")
            await broker.publish("orders", 1)
            await broker.drained()
            letters = broker.dead_letters()
        parts = [store.parts[LogName.DEAD_LETTERS, shard] for shard in range(SHARDS)]
        assert sum(part.end - part.first for part in parts) == 2, "both wrote one"
        async with AsyncBroker(log=MemoryLog(store)) as broker:
            assert broker.dead_letters() == letters
            assert len(letters) == 1

    play(scene)


def test_refused_never_appears_and_an_unknown_outcome_is_said() -> None:
    async def scene(store: MemoryStore) -> None:
        log = FaultyLog(store)
        recorder = Recorder()
        async with AsyncBroker(log=log, max_queue_size=2) as broker:
            broker.subscribe("other", recorder)
            log.reach = Reach.REFUSED
            with pytest.raises(LogUnavailable):
                await broker.publish("other", "refused")
            log.reach = Reach.SILENT
            with pytest.raises(AppendUnknown):
                await broker.publish("other", "unknown")
            with pytest.raises(LogUnavailable):
                await broker.replay(broker.subscribe_pull("orders", "worker"))
            log.reach = Reach.OK
            with pytest.raises(TypeError):
                await broker.publish("other", object())
            for n in (1, 2, 3):
                await broker.publish("other", n)
                await broker.drained()
            assert recorder.payloads == [1, 2, 3], "the places of the failed ones are free again"
            assert broker.metrics("other").published_count == 3

    play(scene)


def test_the_bound_counts_what_is_on_its_way_into_the_log() -> None:
    async def scene(store: MemoryStore) -> None:
        async with AsyncBroker(log=FaultyLog(store, lambda log, shard: 1.0), max_queue_size=3) as broker:
            broker.subscribe_pull("orders", "worker")
            answers = await asyncio.gather(*(broker.publish("orders", n) for n in range(5)), return_exceptions=True)
            assert [isinstance(answer, Refusal) for answer in answers] == [False] * 3 + [True] * 2
            part = store.parts[LogName.MESSAGES, shard_of(topic_key("orders"), SHARDS)]
            assert part.end - part.first == 1 + 3, "a refused one is not in the log"

    play(scene)


def test_two_publishers_with_one_key_at_the_same_time_make_one_message() -> None:
    async def scene(store: MemoryStore) -> None:
        recorder = Recorder()
        async with AsyncBroker(log=FaultyLog(store, lambda log, shard: 1.0)) as broker:
            broker.subscribe("orders", recorder)
            receipts = await asyncio.gather(*(broker.publish("orders", n, dedup_key="k") for n in (1, 2)))
            await broker.drained()
            assert [receipt.duplicate for receipt in receipts] == [False, True]
            assert recorder.payloads == [1]
            await broker.replay(broker.subscribe("orders", Recorder("late")))
            assert broker.metrics("orders").queue_length == 1, "nor in a replay, though the log has two records"

    play(scene)


def test_a_publisher_who_stops_waiting_takes_nothing_back() -> None:
    async def scene(store: MemoryStore) -> None:
        recorder = Recorder()
        async with AsyncBroker(log=FaultyLog(store, lambda log, shard: 1.0)) as broker:
            broker.subscribe("orders", recorder)
            publish = asyncio.ensure_future(broker.publish("orders", 1))
            await asyncio.sleep(0.5)
            publish.cancel()
            await asyncio.sleep(1.0)
            await broker.drained()
        assert recorder.payloads == [1]

    play(scene)


def test_s2_qa_5_the_log_is_cut_behind_the_newest_records() -> None:
    async def scene(store: MemoryStore) -> None:
        async with AsyncBroker(log=FaultyLog(store), keep_records=20, on_full=OnFull.DROP_OLDEST) as broker:
            for n in range(100):
                await broker.publish("orders", n)
            await asyncio.sleep(0)
            part = store.parts[LogName.MESSAGES, shard_of(topic_key("orders"), SHARDS)]
            assert 20 <= part.end - part.first <= 24
            with pytest.raises(OffsetGone):
                await broker.replay(broker.subscribe_pull("orders", "late"), part.first - 1)

    play(scene)


def test_without_a_log_there_is_nothing_to_replay() -> None:
    async def scene(store: MemoryStore) -> None:
        async with AsyncBroker() as broker:
            with pytest.raises(HeadgateError, match="log"):
                await broker.replay(broker.subscribe("orders", print))
            assert broker.journal_errors == 0

    play(scene)


async def test_on_sqlite_messages_and_dead_letters_survive_the_process(tmp_path: Path) -> None:
    def log() -> SqliteLog:
        return SqliteLog(tmp_path / "log.db", SystemClock(), SystemRng())

    async with AsyncBroker(log=log(), retry=fixed(1)) as broker:
        broker.subscribe("orders", failing(1), name="legacy")
        receipts = [await broker.publish("orders", {"n": n}) for n in range(50)]
        await asyncio.wait_for(broker.drained(), 10)
    seen: list[Message] = []
    async with AsyncBroker(log=log()) as broker:
        assert [letter.payload for letter in broker.dead_letters()] == [{"n": 0}]
        await broker.replay(broker.subscribe("orders", seen.append, name="audit"))
        await asyncio.wait_for(broker.drained(), 10)
    assert [(m.id, m.payload) for m in seen] == [(r.id, {"n": n}) for n, r in enumerate(receipts)]
    assert threading.active_count() < 20


def test_who_subscribes_while_messages_are_on_their_way_does_not_break_the_bound() -> None:
    async def scene(store: MemoryStore) -> None:
        recorder = Recorder()
        async with AsyncBroker(log=FaultyLog(store, lambda log, shard: 1.0), max_queue_size=2) as broker:
            publishing = asyncio.gather(*(broker.publish("orders", n) for n in range(5)))
            await asyncio.sleep(0.5)
            broker.subscribe("orders", recorder)
            assert {receipt.dropped for receipt in await publishing} == {True}, "nobody was there when they came"
            assert broker.metrics("orders").queue_length == 0
            await broker.publish("orders", 5)
            await broker.drained()
        assert recorder.payloads == [5]

    play(scene)


def test_a_log_that_ends_under_a_publish_leaves_its_outcome_unknown() -> None:
    async def scene(store: MemoryStore) -> None:
        log = FaultyLog(store, lambda log, shard: 1.0)
        async with AsyncBroker(log=log) as broker:
            broker.subscribe("orders", Recorder())
            publishing = asyncio.ensure_future(broker.publish("orders", 1))
            await asyncio.sleep(0.5)
            log.crash()
            with pytest.raises(AppendUnknown):
                await publishing
            assert broker._engine.topics["orders"].reserved == 0

    play(scene)


def test_a_replay_ends_at_what_the_log_held_when_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_READ_RECORDS", 2)

    async def scene(store: MemoryStore) -> None:
        recorder = Recorder()
        async with AsyncBroker(log=FaultyLog(store), max_queue_size=1) as broker:
            first = await broker.publish("orders", 1)
            for n in (2, 3):
                await broker.publish("orders", n)
            pull = broker.subscribe_pull("orders", "worker")
            replay = asyncio.ensure_future(broker.replay(pull, first.id))
            await asyncio.sleep(1.0)  # one fills the queue, the second waits for room, the third is not read yet
            broker.configure("orders", pressure=Backpressure(max_queue_size=10))
            await broker.publish("orders", 4)
            assert await replay == 3
            while (message := pull.take()) is not None:
                recorder.handle(message)
                pull.ack()
        assert sorted(recorder.payloads, key=str) == [1, 2, 3, 4]

    play(scene)
