"""ingest.rates: tokens of a user and a topic, both or none; a service has no rate."""

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_users import Throttle
from ingest import rates as rates_module
from ingest.rates import FREE_BYTES, MAX_FOR_MS, RateLimits
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


def test_of_a_users_rates_each_ingest_gives_its_share() -> None:
    async def scene(parts: Parts) -> None:
        parts.rates.share(3)
        infos = [await parts.topic(f"t{at}") for at in range(21)]
        for info in infos[:20]:
            parts.rates.publish(ANA, info, is_paid=False)
        with pytest.raises(Refusal, match="this user") as caught:
            parts.rates.publish(ANA, infos[20], is_paid=False)
        assert limited(caught.value) == ("rate_limited", 3_000)
        parts.rates.read(ANA)
        with pytest.raises(Refusal, match="reads"):
            parts.rates.read(ANA)
        parts.rates.body(ANA, FREE_BYTES + 1)
        with pytest.raises(Refusal, match="bytes"):
            parts.rates.body(ANA, FREE_BYTES + 1)

    play(scene, LIMITS)


@pytest.mark.parametrize("ingests", [0, 1_000_000])
def test_however_small_a_share_is_it_allows_one(ingests: int) -> None:
    async def scene(parts: Parts) -> None:
        parts.rates.share(ingests)
        parts.rates.create(ANA)
        if ingests:
            with pytest.raises(Refusal):
                parts.rates.create(ANA)
        else:
            parts.rates.create(ANA)

    play(scene, LIMITS)


def test_changes_of_members_and_creations_have_one_rate() -> None:
    async def scene(parts: Parts) -> None:
        parts.rates.change_member(ANA)
        parts.rates.create(ANA)
        with pytest.raises(Refusal, match="changes members"):
            parts.rates.change_member(ANA)
        parts.rates.change_member(SERVICE)

    play(scene, LIMITS)


def test_a_topic_that_its_owner_refuses_is_refused_until_then_and_the_newest_word_counts() -> None:
    async def scene(parts: Parts) -> None:
        info, other = await parts.topic("t"), await parts.topic("other")
        for for_ms, wait_ms in ((5_000, 5_000), (2_000, 2_000), (1 << 60, MAX_FOR_MS)):
            parts.rates.throttled([Throttle("t", for_ms), Throttle("unknown", for_ms)])
            with pytest.raises(Refusal, match="this topic") as caught:
                parts.rates.publish(ANA, info, is_paid=False)
            assert limited(caught.value) == ("rate_limited", wait_ms)
        parts.rates.publish(ANA, other, is_paid=False)
        parts.rates.publish(SERVICE, info, is_paid=False)
        parts.rates.throttled([Throttle("t", 0), Throttle("unknown", -5)])
        parts.rates.publish(ANA, info, is_paid=False)
        parts.rates.throttled([Throttle("t", 1_000)])
        parts.clock.virtual.now += 1
        parts.rates.publish(ANA, info, is_paid=False)

    play(scene)


def test_who_presses_on_while_a_topic_is_refused_saves_no_burst() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", rate_limit={"per_s": 1, "burst": 50})
        parts.rates.throttled([Throttle("t", 10_000)])
        parts.clock.virtual.now += 9.5
        with pytest.raises(Refusal):
            parts.rates.publish(ANA, info, is_paid=False)
        parts.clock.virtual.now += 0.5
        parts.rates.publish(ANA, info, is_paid=False)
        with pytest.raises(Refusal):
            parts.rates.publish(ANA, info, is_paid=False)

    play(scene)


def test_refused_topics_are_bounded_and_cost_users_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "MAX_THROTTLED", 100)

    async def scene(parts: Parts) -> None:
        info, last = await parts.topic("t"), await parts.topic("x999")
        for _ in range(3):
            parts.rates.read(ANA)
        parts.rates.throttled([Throttle("t", 60_000), *(Throttle(f"x{n}", 60_000) for n in range(1_000))])
        parts.rates.publish(ANA, info, is_paid=False)  # the first was forgotten
        with pytest.raises(Refusal, match="this topic"):
            parts.rates.publish(ANA, last, is_paid=False)
        with pytest.raises(Refusal, match="reads"):
            parts.rates.read(ANA)

    play(scene, LIMITS)


def test_a_minutes_rate_of_a_topic_is_a_first_bound_too() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", rate_limit={"per_s": 100, "burst": 100, "per_min": 2})
        for _ in range(2):
            parts.rates.publish(ANA, info, is_paid=False)
        with pytest.raises(Refusal, match="this topic") as caught:
            parts.rates.publish(ANA, info, is_paid=False)
        assert limited(caught.value) == ("rate_limited", 30_000)
        _, (_, state) = parts.rates.headers(ANA, info)
        assert state.endswith(b'"topic";r=98;t=1, "topic-minute";r=0;t=30')

    play(scene)


def test_the_headers_tell_what_is_left_and_when_more_is() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", rate_limit={"per_s": 0.5, "burst": 3})
        parts.rates.publish(ANA, info, is_paid=False)
        assert parts.rates.headers(ANA, info) == (
            (b"ratelimit-policy", b'"user";q=60;w=60, "topic";q=3;w=6'),
            (b"ratelimit", b'"user";r=59;t=1, "topic";r=2;t=2'),
        )
        assert parts.rates.headers(ANA, None) == (
            (b"ratelimit-policy", b'"user";q=60;w=60'),
            (b"ratelimit", b'"user";r=59;t=1'),
        )
        for _ in range(2):
            parts.rates.publish(ANA, info, is_paid=False)
        assert parts.rates.headers(ANA, info)[1][1] == b'"user";r=57;t=3, "topic";r=0;t=2'
        parts.rates.throttled([Throttle("t", 7_000)])
        assert parts.rates.headers(ANA, info)[1][1] == b'"user";r=57;t=3, "topic";r=0;t=7'
        assert parts.rates.headers(SERVICE, info) == ()

    play(scene, LIMITS)
