"""docs/protocol.md, section 2, `queue_limit`: the depth of a topic's queue holds over all ingests within 20 %."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dispatcher.shard import ShardOwner
from headgate.core.wire.records import Batch
from headgate.core.wire.rights import Caller
from tests.integration.rates_bed import Cluster, play

SERVICE = Caller("service", admin=True, service=True)
LIMIT = 600
WITHIN = 0.2


class Stalled:
    """Owners that read on from the log only when the test lets them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        take = ShardOwner._take_batch

        async def held(owner: ShardOwner, batch: Batch) -> None:
            await self.gate.wait()
            await take(owner, batch)

        patch.setattr(ShardOwner, "_take_batch", held)


@contextmanager
def stalled(patch: pytest.MonkeyPatch) -> Iterator[Stalled]:
    with patch.context() as context:
        yield Stalled(context)


async def press(cluster: Cluster, at: int, *, items: int, for_s: float = 10.0) -> None:
    await cluster.press(at, "t", SERVICE, every_s=0.05, for_s=for_s, items=items)


async def stats(cluster: Cluster, at: int = 0) -> Any:
    answer = await cluster.call(at, "GET", "/api/v1/topics/t/stats", None, SERVICE)
    assert answer.status == 200, answer
    return answer.body


def assert_within(count: int, limit: int = LIMIT) -> None:
    assert abs(count / limit - 1) <= WITHIN, (count, limit)


@pytest.mark.parametrize("shares", [(10,), (10, 10), (18, 2), (5, 5, 5, 5), (20, 0, 0, 0)])
def test_a_topic_whose_owner_reads_no_further_fills_to_its_limit(
    shares: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`shares`: how many messages each ingest publishes at a time, some twenty times a second."""

    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", SERVICE, queue_limit=LIMIT)
        with stalled(monkeypatch) as owners:
            owners.gate.clear()
            await asyncio.sleep(0.1)
            await asyncio.gather(*(press(cluster, at, items=items) for at, items in enumerate(shares) if items))
            assert_within(len(cluster.published))
            assert_within((await stats(cluster, len(shares) - 1))["queue_length"])
            one = await cluster.publish(0, "t", SERVICE)
            assert (one.status, one.body["code"]) == (429, "queue_full") and one.headers[b"retry-after"] == b"1"
            owners.gate.set()
            await asyncio.sleep(1)
        assert (await cluster.publish(0, "t", SERVICE)).status == 200
        await asyncio.sleep(1)
        told = await stats(cluster)
        assert told["queue_length"] == 0 and told["published"] == len(cluster.published)
        assert told["rejected"] > 0

    play(scene, len(shares))


@pytest.mark.parametrize("ingests", [1, 2, 4])
def test_with_its_owner_away_a_topic_fills_to_its_limit_and_passes_again_when_another_has_numbered(
    ingests: int,
) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", SERVICE, queue_limit=LIMIT)
        cluster.kill(cluster.nodes[0])
        await asyncio.sleep(0.1)
        await asyncio.gather(*(press(cluster, at, items=20 // ingests) for at in range(ingests)))
        assert_within(len(cluster.published))
        full = await cluster.publish(0, "t", SERVICE)
        assert (full.status, full.body["code"]) == (429, "queue_full")
        await cluster.dispatcher()
        await cluster.owned()
        await asyncio.sleep(1)
        assert (await cluster.publish(0, "t", SERVICE)).status == 200
        await asyncio.sleep(1)
        told = await stats(cluster)
        assert told["queue_length"] == 0 and told["published"] == len(cluster.published)
        assert told["rejected"] > 0, "the ingests kept count while the owner was away"

    play(scene, ingests)


def test_a_topic_at_20000_messages_a_second_is_not_taken_for_full() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", SERVICE)
        end = cluster.clock.now() + 5
        while cluster.clock.now() < end:
            answer = await cluster.publish(0, "t", SERVICE, items=1_000)
            assert all(result["status"] == 200 for result in answer.body["results"])
            await asyncio.sleep(0.045)

    play(scene, 1)
