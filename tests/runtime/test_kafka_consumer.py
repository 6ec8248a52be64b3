"""Several readers of one part over one consumer: where it is sought to, and what each is given. No broker."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from aiokafka.structs import TopicPartition

from headgate.runtime.logs.kafka_connect import deployment_of
from headgate.runtime.logs.kafka_consumer import HISTORY_RECORDS, LIVE_RECORDS, PartitionBuffer, SharedConsumer
from headgate.runtime.logs.options import LogOptions

PART = TopicPartition("t.messages", 0)
OTHER = TopicPartition("t.messages", 1)


class Found(NamedTuple):
    """The fields that are read of aiokafka's ConsumerRecord."""

    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b"v"
    headers: tuple[tuple[str, bytes], ...] = ()


class FakeConsumer:
    """Remembers assignments and positions."""

    def __init__(self) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.held: set[TopicPartition] = set()
        self.assignments = 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assignments += 1
        self.positions = dict.fromkeys(partitions, -1)
        self.held.clear()

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.ends.get(partition)

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        return self.ends.get(partition)

    def pause(self, *partitions: TopicPartition) -> None:
        self.held |= set(partitions)

    def paused(self) -> set[TopicPartition]:
        return set(self.held)

    def resume(self, *partitions: TopicPartition) -> None:
        self.held -= set(partitions)


class Rig:
    """A shared consumer whose aiokafka consumer is fake and whose task does not run."""

    def __init__(self, *, live: bool) -> None:
        self.consumer = FakeConsumer()
        self.shared = SharedConsumer(deployment_of(LogOptions("kafka://one:9092")), live=live)
        self.shared._consumer = self.consumer

    async def attached(self, offset: int, end: int = 100_000, partition: TopicPartition = PART) -> PartitionBuffer:
        buffer = PartitionBuffer(partition, offset, end)
        await self.shared.attach(buffer)
        return buffer

    async def assigned(self) -> None:
        """Returns when the changes so far have been made one assignment."""
        async with asyncio.timeout(5):
            while self.shared._scheduled:
                await asyncio.sleep(0.005)

    async def deliver(self, offsets: Iterable[int]) -> None:
        found = {PART: [Found(offset) for offset in offsets]}
        self.consumer.positions[PART] = found[PART][-1].offset + 1
        self.shared._deliver(found)
        await self.shared._note_positions(self.consumer, [PART])


def offsets_of(buffer: PartitionBuffer) -> list[int]:
    return [record.offset for record in buffer.take(1_000_000)]


@pytest.fixture(params=[True, False], ids=["live", "history"])
async def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(live=request.param)


async def test_the_consumer_stands_where_the_reader_furthest_behind_does(rig: Rig) -> None:
    ahead, behind = await rig.attached(10), await rig.attached(5)
    await rig.assigned()
    assert rig.consumer.positions == {PART: 5}
    await rig.deliver(range(5, 15))
    assert offsets_of(ahead) == list(range(10, 15))
    assert offsets_of(behind) == list(range(5, 15))


async def test_a_reader_that_has_just_joined_is_given_nothing_from_before_the_seek(rig: Rig) -> None:
    first = await rig.attached(10)
    await rig.assigned()
    late = await rig.attached(5)
    await rig.deliver(range(10, 12))
    assert offsets_of(first) == [10, 11]
    assert offsets_of(late) == []
    await rig.assigned()
    assert rig.consumer.positions == {PART: 5}
    await rig.deliver(range(5, 14))
    assert offsets_of(first) == [12, 13]
    assert offsets_of(late) == list(range(5, 14))


async def test_every_assignment_seeks_all_again_to_where_their_readers_stand(rig: Rig) -> None:
    await rig.attached(10)
    await rig.assigned()
    await rig.deliver(range(10, 20))
    await rig.attached(3, partition=OTHER)
    await rig.assigned()
    assert rig.consumer.positions == {PART: 20, OTHER: 3}


async def test_changes_of_some_time_are_one_assignment(rig: Rig) -> None:
    buffers = [await rig.attached(i, partition=TopicPartition("t", i)) for i in range(5)]
    await rig.assigned()
    assert rig.consumer.assignments == 1
    for buffer in buffers[:3]:
        rig.shared.detach(buffer)
    await rig.assigned()
    assert rig.consumer.assignments == 2
    assert sorted(rig.consumer.positions.values()) == [3, 4]


async def test_without_readers_nothing_is_fetched_and_the_next_one_begins_at_once(rig: Rig) -> None:
    buffer = await rig.attached(10)
    await rig.assigned()
    rig.shared.detach(buffer)
    await rig.assigned()
    assert rig.consumer.held == {PART}
    await rig.attached(4)
    await rig.assigned()
    assert rig.consumer.positions == {PART: 4}
    assert not rig.consumer.held


async def test_history_lets_a_reader_go_at_the_end_and_pauses_before() -> None:
    rig = Rig(live=False)
    rig.consumer.ends[PART] = HISTORY_RECORDS + 20
    buffer = await rig.attached(0)
    await rig.assigned()
    await rig.deliver(range(HISTORY_RECORDS + 10))
    assert rig.consumer.held == {PART}
    buffer.take(HISTORY_RECORDS)
    rig.shared.resume(buffer)
    assert not rig.consumer.held
    await rig.deliver(range(HISTORY_RECORDS + 10, HISTORY_RECORDS + 20))
    assert buffer.consumer is None
    assert buffer.caught_up


async def test_live_lets_a_reader_go_that_does_not_keep_up_and_keeps_the_others() -> None:
    rig = Rig(live=True)
    slow, fast = await rig.attached(0), await rig.attached(0)
    await rig.assigned()
    for first in range(0, LIVE_RECORDS + 1, 1000):
        await rig.deliver(range(first, first + 1000))
        fast.take(1_000_000)
    assert slow.consumer is None
    assert not slow.caught_up
    assert fast.consumer is rig.shared
    assert not rig.consumer.held


async def test_an_offset_that_is_gone_is_said_to_the_readers_of_that_part_only(rig: Rig) -> None:
    lost, kept = await rig.attached(10), await rig.attached(10, partition=OTHER)
    await rig.assigned()
    rig.shared._out_of_range({PART: 10})
    assert (lost.gone, lost.consumer) == (True, None)
    assert (kept.gone, kept.consumer) == (False, rig.shared)
