"""ingest.rates: tokens of a user and a topic, both or none; a service has no rate."""

import pytest

from headgate.core.wire.errors import Refusal
from ingest.rates import FREE_BYTES, RateLimits
from tests.ingest.parts import ANA, SERVICE, Parts, play

LIMITS = RateLimits(60, 1, 2, 3, 1_024)


def limited(refusal: Refusal) -> tuple[str, int | None]:
    return refusal.code, refusal.retry_after_ms


def test_a_user_s_publishes_are_limited_over_all_topics_and_come_back_with_time() -> None:
    async def scene(parts: Parts) -> None:
        infos = [await parts.topic(f"t{at}") for at in range(61)]
        for info in infos[:60]:
            parts.rates.publish(ANA, info, is_paid=False)
        with pytest.raises(Refusal, match="this user") as caught:
            parts.rates.publish(ANA, infos[60], is_paid=False)
        assert limited(caught.value) == ("rate_limited", 1_000)
        parts.rates.publish(ANA, infos[60], is_paid=True)
        parts.clock.virtual.now += 1
        parts.rates.publish(ANA, infos[0], is_paid=False)

    play(scene, LIMITS)


def test_a_refused_publish_takes_a_token_of_neither() -> None:
    async def scene(parts: Parts) -> None:
        info, free = await parts.topic("t"), await parts.topic("free")
        for _ in range(2):  # a topic's burst is two seconds
            parts.rates.publish(ANA, info, is_paid=False)
        for _ in range(100):
            with pytest.raises(Refusal, match="this topic"):
                parts.rates.publish(ANA, info, is_paid=False)
        parts.rates.publish(ANA, free, is_paid=False)
        parts.clock.virtual.now += 1
        parts.rates.publish(ANA, info, is_paid=False)

    play(scene, LIMITS)


def test_a_topic_has_the_rate_of_its_settings() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", rate_limit={"per_s": 0.5, "burst": 3})
        for _ in range(3):
            parts.rates.publish(ANA, info, is_paid=False)
        with pytest.raises(Refusal) as caught:
            parts.rates.publish(ANA, info, is_paid=False)
        assert limited(caught.value) == ("rate_limited", 2_000)

    play(scene, LIMITS)


def test_creations_and_reads_have_rates_of_their_own() -> None:
    async def scene(parts: Parts) -> None:
        for _ in range(2):
            parts.rates.create(ANA)
        with pytest.raises(Refusal, match="creates"):
            parts.rates.create(ANA)
        with pytest.raises(Refusal, match="publishes or creates"):
            parts.rates.publish_and_create(ANA)
        for _ in range(3):
            parts.rates.read(ANA)
        with pytest.raises(Refusal, match="reads"):
            parts.rates.read(ANA)

    play(scene, LIMITS)


def test_a_publish_that_makes_a_topic_takes_a_publish_and_a_creation() -> None:
    async def scene(parts: Parts) -> None:
        for _ in range(2):
            parts.rates.publish_and_create(ANA)
        with pytest.raises(Refusal, match="creates"):
            parts.rates.create(ANA)
        infos = [await parts.topic(f"t{at}") for at in range(59)]
        for info in infos[:58]:
            parts.rates.publish(ANA, info, is_paid=False)
        with pytest.raises(Refusal, match="this user"):
            parts.rates.publish(ANA, infos[58], is_paid=False)

    play(scene, LIMITS)


def test_large_bodies_are_charged_by_their_bytes_and_small_ones_are_free() -> None:
    async def scene(parts: Parts) -> None:
        for _ in range(100):
            parts.rates.body(ANA, FREE_BYTES)
        parts.rates.body(ANA, FREE_BYTES + 1)  # more than the 60 KiB of a minute: the rest is owed
        with pytest.raises(Refusal, match="bytes"):
            parts.rates.body(ANA, FREE_BYTES + 1)
        parts.clock.virtual.now += 60
        parts.rates.body(ANA, FREE_BYTES + 1)

    play(scene, LIMITS)


def test_a_service_has_no_rate() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        for _ in range(200):
            parts.rates.publish(SERVICE, info, is_paid=False)
            parts.rates.publish_and_create(SERVICE)
            parts.rates.create(SERVICE)
            parts.rates.read(SERVICE)
            parts.rates.body(SERVICE, 1 << 30)

    play(scene, LIMITS)
