"""docs/protocol.md, section 7: rates hold for the cluster within 20 %, however many ingests there are."""

import asyncio
from collections.abc import Sequence

import pytest

from headgate.core.wire.rights import Caller
from ingest.rates import RateLimits
from tests.integration.rates_bed import Cluster, play

ANA = Caller("ana")
SERVICE = Caller("service", admin=True, service=True)
PER_S, BURST = 20, 40
WITHIN = 0.2
FOR_S = 40.0


def budget(seconds: float, per_s: float = PER_S, burst: float = BURST) -> float:
    return burst + per_s * seconds


def assert_within(published: Sequence[float], began: float, seconds: float) -> None:
    count = sum(began <= at <= began + seconds for at in published)
    assert abs(count / budget(seconds) - 1) <= WITHIN, (count, budget(seconds))


async def everybody(cluster: Cluster, topic_id: str, *, every_s: float, items: int = 1, for_s: float = FOR_S) -> None:
    pressing = [
        cluster.press(at, topic_id, ANA, every_s=every_s, items=items, for_s=for_s)
        for at in range(len(cluster.ingests))
    ]
    await asyncio.gather(*pressing)


@pytest.mark.parametrize("profile", ["durable", "ephemeral"])
@pytest.mark.parametrize("ingests", [1, 2, 4])
@pytest.mark.parametrize(("at_once", "every_s"), [(1, 0.03), (1_000, 1.0)])
def test_a_topics_rate_holds_over_all_ingests(ingests: int, at_once: int, every_s: float, profile: str) -> None:
    """`at_once` messages are shared by the ingests: the largest batch at one, a quarter of it at each of four."""
    items = max(1, at_once // ingests)

    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, profile=profile, rate_limit={"per_s": PER_S, "burst": BURST})
        began = cluster.clock.now()
        await everybody(cluster, "t", every_s=every_s, items=items)
        assert_within(cluster.published, began, FOR_S)
        steady = [at for at in cluster.published if at > began + 10]
        assert abs(len(steady) / (PER_S * (FOR_S - 10)) - 1) <= WITHIN, len(steady)

    play(scene, ingests)


def test_a_topic_that_one_of_four_ingests_publishes_to_has_its_whole_rate() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, rate_limit={"per_s": PER_S, "burst": BURST})
        began = cluster.clock.now()
        await cluster.press(3, "t", ANA, every_s=0.03, for_s=FOR_S)
        assert_within(cluster.published, began, FOR_S)

    play(scene, ingests=4)


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_topics_rate_holds_while_its_owner_changes(is_killed: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, rate_limit={"per_s": PER_S, "burst": BURST})
        shard = cluster.directories[0].shard_of("t")
        owner = next(node for node in cluster.nodes if shard in node.service.dispatcher.owners)

        async def change() -> None:
            await asyncio.sleep(15)
            if is_killed:
                cluster.kill(owner)
            else:
                await owner.service.drain()

        began = cluster.clock.now()
        await asyncio.gather(change(), everybody(cluster, "t", every_s=0.05, for_s=60))
        assert shard not in owner.service.dispatcher.owners or is_killed
        assert_within(cluster.published, began, 60)

    play(scene, ingests=4, dispatchers=2)


def test_what_a_service_publishes_counts_for_nobody() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, rate_limit={"per_s": PER_S, "burst": BURST})
        await cluster.create("e", ANA, profile="ephemeral", rate_limit={"per_s": PER_S, "burst": BURST})
        for topic_id in ("t", "e"):
            for at in (0, 1):
                await cluster.publish(at, topic_id, SERVICE, 500)
                assert (await cluster.publish(at, topic_id, SERVICE)).status == 200
        assert len(cluster.published) == 4 * 501
        await asyncio.sleep(1)
        for topic_id in ("t", "e"):
            assert (await cluster.publish(0, topic_id, ANA)).status == 200

    play(scene, ingests=2)


def test_a_topic_that_is_made_again_begins_with_its_burst() -> None:
    async def scene(cluster: Cluster) -> None:
        for _ in range(3):
            await cluster.create("t", ANA, rate_limit={"per_s": 0.01, "burst": BURST})
            for at in (0, 1):
                await cluster.publish(at, "t", ANA, BURST + 10)
            await asyncio.sleep(1)
            assert (await cluster.publish(0, "t", ANA)).status == 429
            assert (await cluster.call(0, "DELETE", "/api/v1/topics/t", None, ANA)).status == 204
            await asyncio.sleep(1)
        assert len(cluster.published) == 3 * 2 * BURST

    play(scene, ingests=2)


@pytest.mark.parametrize("profile", ["durable", "ephemeral"])
def test_a_rate_limit_that_is_changed_live_takes_effect_at_every_ingest(profile: str) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, profile=profile, rate_limit={"per_s": 0.01, "burst": 5})

        async def change(**limit: float) -> None:
            body = {"settings": {"rate_limit": limit}}
            assert (await cluster.call(1, "PATCH", "/api/v1/topics/t", body, ANA)).status == 200
            await asyncio.sleep(1)

        async def statuses() -> list[int]:
            return [(await cluster.publish(at, "t", ANA)).status for at in (0, 1)]

        for at in (0, 1):
            await cluster.publish(at, "t", ANA, 50)
        await asyncio.sleep(1)
        assert await statuses() == [429, 429]
        await change(per_s=1_000, burst=1_000)
        assert await statuses() == [200, 200]
        await change(per_s=0.01, burst=1)
        await statuses()
        await asyncio.sleep(1)
        assert await statuses() == [429, 429]

    play(scene, ingests=2)


def test_a_refusal_by_the_owner_names_the_time_and_ends_then() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, rate_limit={"per_s": 10, "burst": 20})
        for at in (0, 1):
            await cluster.publish(at, "t", ANA, 20)
        await asyncio.sleep(0.4)
        refused = await cluster.publish(0, "t", ANA)
        wait_s = int(refused.headers[b"retry-after"])
        assert (refused.status, wait_s) == (429, 2), "20 too many at 10 a second, less what has passed"
        assert refused.headers[b"ratelimit"].endswith(b'"topic";r=0;t=2')
        await asyncio.sleep(wait_s)
        assert (await cluster.publish(0, "t", ANA)).status == 200

    play(scene, ingests=2)


# -- users


@pytest.mark.parametrize("ingests", [1, 2, 4])
def test_a_users_rate_is_shared_among_the_ingests(ingests: int) -> None:
    limits = RateLimits(publish_per_user_per_min=60, creations_per_user_per_min=40, reads_per_user_per_min=80)

    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, rate_limit={"per_s": 1_000, "burst": 1_000})
        bo = Caller("bo")
        pressing = [cluster.press(at, "t", bo, every_s=0.5, for_s=120) for at in range(ingests)]
        await asyncio.gather(*pressing)
        assert abs(len(cluster.published) / (60 + 120) - 1) <= WITHIN
        reads = [
            (await cluster.call(at, "GET", "/api/v1/topics/t", None, bo)).status
            for at in range(ingests)
            for _ in range(90)
        ]
        assert abs(reads.count(200) / 80 - 1) <= WITHIN
        made = [
            (await cluster.call(at, "POST", "/api/v1/topics", {"name": "n"}, bo)).status
            for at in range(ingests)
            for _ in range(50)
        ]
        assert abs(made.count(201) / 40 - 1) <= WITHIN

    play(scene, ingests, limits=limits)


def test_ingests_come_and_go_and_the_share_follows() -> None:
    limits = RateLimits(publish_per_user_per_min=60)

    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", SERVICE)

        async def policy() -> bytes:
            return (await cluster.publish(0, "t", Caller("bo"))).headers[b"ratelimit-policy"].partition(b",")[0]

        assert await policy() == b'"user";q=60;w=60'
        for _ in range(2):
            await cluster.ingest()
        await asyncio.sleep(1)
        assert await policy() == b'"user";q=20;w=60'
        cluster.nodes[0].links[2].close("gone")
        await asyncio.sleep(1)
        assert await policy() == b'"user";q=20;w=60', "the other dispatcher still has its link"
        cluster.nodes[1].links[2].close("gone")
        await asyncio.sleep(1)
        assert await policy() == b'"user";q=30;w=60'
        for node in cluster.nodes:
            node.links[0].close("gone")
        await asyncio.sleep(1)
        assert await policy() == b'"user";q=30;w=60', "without a link nothing is known that is newer"

    play(scene, ingests=1, dispatchers=2, limits=limits)
