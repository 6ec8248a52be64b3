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
@pytest.mark.parametrize(("items", "every_s"), [(1, 0.03), (1_000, 1.0)])
def test_a_topics_rate_holds_over_all_ingests(ingests: int, items: int, every_s: float, profile: str) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, profile=profile, rate_limit={"per_s": PER_S, "burst": BURST})
        began = cluster.clock.now()
        await everybody(cluster, "t", every_s=every_s, items=items)
        assert_within(cluster.published, began, FOR_S)
        steady = [at for at in cluster.published if at > began + 10]
        assert abs(len(steady) / (PER_S * (FOR_S - 10)) - 1) <= WITHIN, len(steady)

    play(scene, ingests)
