"""ingest.spread_waits: those that were refused in one moment are told different whole seconds, never fewer."""

import pytest

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.problem import retry_after_s
from ingest.rates import RateLimits
from ingest.spread_waits import later, with_spread_waits
from tests.contract.virtual import SeededRng
from tests.ingest.parts import ANA, Parts, call, play


@pytest.mark.parametrize(
    ("wait_ms", "seconds"),
    [(None, {1, 2}), (1, {1, 2}), (1_001, {2, 3}), (10_400, {11, 12, 13}), (20_000, {20, 21, 22, 23, 24, 25})],
)
def test_up_to_a_quarter_is_added_and_at_least_up_to_a_second(wait_ms: int | None, seconds: set[int]) -> None:
    rng, refusal = SeededRng(1), Refusal("rate_limited", "slowly", retry_after_ms=wait_ms, first_seq=7)
    told = [later(refusal, rng) for _ in range(200)]
    assert {retry_after_s(one) for one in told} == seconds
    assert {(one.code, one.detail, one.extra["first_seq"]) for one in told} == {("rate_limited", "slowly", 7)}
    assert refusal.retry_after_ms == wait_ms, "others wait for the same one"


@pytest.mark.parametrize(
    ("code", "seconds"),
    [("not_ready", {4, 5}), ("overloaded", {4, 5}), ("log_unavailable", {4, 5}), ("rate_limited", {4})],
)
def test_only_what_heals_for_all_is_spread(code: str, seconds: set[int]) -> None:
    async def refuse(_: Call) -> Reply:
        raise Refusal(code, "no", retry_after_ms=4_000)

    async def scene(parts: Parts) -> None:
        handler, told = with_spread_waits({"refuse": refuse}, SeededRng(1))["refuse"], set[int]()
        for _ in range(50):
            with pytest.raises(Refusal, match=code) as caught:
                await handler(call())
            told.add(retry_after_s(caught.value))
        assert told == seconds

    play(scene)


def test_the_waits_of_a_crowd_without_reads_are_spread() -> None:
    async def scene(parts: Parts) -> None:
        told = set[int]()
        for _ in range(3):
            parts.rates.read(ANA)
        for _ in range(100):
            with pytest.raises(Refusal, match="rate_limited") as caught:
                parts.rates.read(ANA)
            told.add(retry_after_s(caught.value))
        assert told == {20, 21, 22, 23, 24, 25}
        parts.clock.virtual.now += 20
        parts.rates.read(ANA)

    play(scene, RateLimits(reads_per_user_per_min=3))
