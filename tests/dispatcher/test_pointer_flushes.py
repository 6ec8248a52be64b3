"""When heads are flushed: soon where few are written, once a second where many are, and hot topics soon in any case."""

import asyncio

import pytest

from dispatcher import pointers as module
from tests.dispatcher.test_pointers import SHARDS, a_bed, in_shard, virtual


@virtual
async def test_many_heads_stretch_the_flush_and_a_hot_topic_does_not_wait_for_that(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "HEADS_PER_S", 10)
    bed = await a_bed()
    users = [in_shard(shard)[0] for shard in range(SHARDS)]
    wide, hot = bed.topic("wide", *users), bed.topic("hot", users[0], heat="inbox")
    for _ in range(100):
        bed.publish(wide)
        bed.publish(hot)
        await asyncio.sleep(0.05)
    await bed.pointers.safe()
    found = [[head.topic_id for head in heads] for heads in await bed.written(0)]
    assert 6 <= sum("wide" in names for names in found) <= 9, "5 s: 8 heads of 10 a second are 0.8 s"
    assert 40 <= sum("hot" in names for names in found) <= 52


@virtual
async def test_topics_of_one_bundle_are_flushed_each_second_where_they_are_many_and_soon_where_they_are_few(
    patch: pytest.MonkeyPatch,
) -> None:
    for topics, low, high in ((10, 45, 51), (module.HEADS_PER_S, 5, 6)):
        bed = await a_bed()
        (one,) = in_shard(1)
        keys = [bed.topic(f"t{n}", creator=one) for n in range(topics)]
        for _ in range(100):
            for key in keys:
                bed.publish(key)
            await asyncio.sleep(0.05)
        await bed.pointers.safe()
        bundles = await bed.written(1)
        assert low <= len(bundles) <= high, f"{topics} topics, 5 s"
        assert bundles[-1] == [bed.head(key) for key in keys]
