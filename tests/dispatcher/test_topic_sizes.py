"""The largest topics, as operators see them: how many members the largest has, and how many topics are large."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dispatcher import topic_sizes
from dispatcher.shard_tops import ShardTops
from dispatcher.topic_sizes import LARGE, TopicSizes
from headgate.core.sequencer.members import Members
from headgate.core.wire.link_stats import TopEntry
from tests.contract.virtual import VirtualLoop, run


def shard_of(*counts: int, top: int = 2) -> Any:
    """An owner whose topics have so many members; only the counts are looked at."""
    members, rows = {}, {}
    for number, count in enumerate(counts):
        key = bytes([number])
        members[key] = Members(1)
        members[key].count = count
        rows[key] = SimpleNamespace(topic_id=f"t{number}")
    tallies = SimpleNamespace(tops=ShardTops(top, lambda: 0))
    return SimpleNamespace(shard=SimpleNamespace(members=members), rows=rows, tallies=tallies)


def sizes_of(*owners: Any) -> TopicSizes:
    return TopicSizes(SimpleNamespace(owners=dict(enumerate(owners))))  # type: ignore[arg-type]


def test_the_largest_of_all_shards_and_those_above_the_bound() -> None:
    sizes = sizes_of(shard_of(3, LARGE), shard_of(LARGE + 1, 7), shard_of(), shard_of(LARGE + 9))
    asyncio.run(sizes.look())
    assert (sizes.most, sizes.large) == (LARGE + 9, 2)


def test_the_first_of_each_shard_are_listed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_sizes, "SLICE_TOPICS", 3)
    one, two, off = shard_of(5, 1, 9, 3, 7, 2, 8), shard_of(4), shard_of(4, top=0)
    sizes = sizes_of(one, two, off)
    asyncio.run(sizes.look())
    assert one.tallies.tops.lists.members == [TopEntry("t2", 9), TopEntry("t6", 8)]
    assert two.tallies.tops.lists.members == [TopEntry("t0", 4)]
    assert off.tallies.tops.lists.members == [] and sizes.most == 9
    del one.rows[b"\2"]
    del one.shard.members[b"\2"]
    asyncio.run(sizes.look())
    assert [entry.id for entry in one.tallies.tops.lists.members] == ["t6", "t4"], "what is gone is not listed"


def test_without_members_nothing_is_large() -> None:
    sizes = sizes_of(shard_of())
    asyncio.run(sizes.look())
    assert (sizes.most, sizes.large) == (0, 0)


def test_many_topics_are_looked_at_in_slices_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_sizes, "SLICE_TOPICS", 3)
    turns = 0
    sizes = sizes_of(shard_of(*[LARGE + 1] * 10))

    async def scene() -> None:
        nonlocal turns
        looking = asyncio.create_task(sizes.look())
        while not looking.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(scene())
    assert sizes.large == 10 and turns >= 4


def test_it_looks_again_and_forgets_what_is_gone() -> None:
    owners = [shard_of(LARGE + 1)]
    served = SimpleNamespace(owners=dict(enumerate(owners)))
    sizes = TopicSizes(served)  # type: ignore[arg-type]

    async def scene() -> None:
        task = asyncio.create_task(sizes.run())
        await asyncio.sleep(1.0)
        assert sizes.large == 1
        served.owners = {}
        await asyncio.sleep(2 * topic_sizes.EVERY_S)
        assert (sizes.most, sizes.large) == (0, 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(VirtualLoop(), scene())
