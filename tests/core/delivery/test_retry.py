"""Retry policies: their delays, their cap, jitter from the source that is handed in."""

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.delivery.retry import BackoffPolicy, RetryPolicy, SimpleRetryPolicy, exponential, fixed, linear
from headgate.core.wire.topic_settings import effective


def delays(policy: RetryPolicy, attempts: int = 5) -> list[float]:
    return [policy.compute_delay(n) for n in range(1, attempts + 1)]


def test_s2_rty_1_simple_policy_waits_attempt_times_factor() -> None:
    policy = SimpleRetryPolicy()
    assert (policy.max_attempts, policy.backoff_factor) == (3, 0.25)
    assert delays(policy, 3) == [0.25, 0.5, 0.75]


def test_fixed_linear_exponential() -> None:
    assert delays(fixed(delay=2.0)) == [2, 2, 2, 2, 2]
    assert delays(linear(step=2.0, longest=7.0)) == [2, 4, 6, 7, 7]
    assert delays(exponential(first=1.0, longest=10.0)) == [1, 2, 4, 8, 10]
    assert [policy.kind for policy in (fixed(), linear(), exponential())] == ["fixed", "linear", "exponential"]


def test_what_the_guide_promises_without_arguments() -> None:
    assert [delays(policy, 7) for policy in (fixed(), linear(), exponential(jitter=0))] == [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 2, 3, 4, 5, 6, 7],
        [1, 2, 4, 8, 16, 32, 60],
    ]
    assert [linear().compute_delay(n) for n in (60, 61)] == [60, 60]
    tries = [sum(policy.should_retry(n) for n in range(1, 10)) + 1 for policy in (fixed(), linear(), exponential())]
    assert tries == [3, 3, 5]


def test_jitter_is_off_unless_given_but_for_exponential() -> None:
    def last() -> float:
        return 0.5

    assert [policy.compute_delay(1, last) for policy in (fixed(), linear(), exponential())] == [1.0, 1.0, 0.9]
    shaky = [make(jitter=0.5).compute_delay(1, last) for make in (fixed, linear, exponential)]
    assert shaky == [0.75, 0.75, 0.75]


@pytest.mark.parametrize("policy", [SimpleRetryPolicy(3), fixed(3), linear(3), exponential(3)])
def test_s2_rty_3_retry_stops_at_the_cap(policy: RetryPolicy) -> None:
    assert [policy.should_retry(n) for n in (1, 2, 3, 4)] == [True, True, False, False]


def test_a_very_late_attempt_still_has_a_delay() -> None:
    assert exponential(10_000_000).compute_delay(9_999_999) == 60.0


@given(st.sampled_from(["fixed", "linear", "exponential"]), st.integers(1, 50), st.floats(0, 1), st.floats(0, 0.999))
def test_jitter_takes_at_most_its_share_off_and_nothing_makes_it_longer(
    kind: str, attempts: int, jitter: float, drawn: float
) -> None:
    plain = BackoffPolicy(kind=kind, jitter=0)  # type: ignore[arg-type]  # sampled from the literals
    shaky = BackoffPolicy(kind=kind, jitter=jitter)  # type: ignore[arg-type]
    longest = plain.compute_delay(attempts)
    assert longest * (1 - jitter) - 1e-9 <= shaky.compute_delay(attempts, lambda: drawn) <= longest


def test_s2_nfr_3_the_same_source_gives_the_same_delays() -> None:
    policy = exponential()
    first, second = random.Random(7), random.Random(7)
    assert [policy.compute_delay(n, first.random) for n in range(1, 9)] == [
        policy.compute_delay(n, second.random) for n in range(1, 9)
    ]


def test_no_jitter_draws_nothing() -> None:
    def draw() -> float:
        raise AssertionError("drawn")

    assert fixed().compute_delay(1, draw) == 1.0


def test_a_topics_retry_setting_is_a_policy_and_its_default_is_ours() -> None:
    assert msgspec.convert(effective({})["retry"], BackoffPolicy) == BackoffPolicy() == exponential()
    kinds = [msgspec.convert({"kind": kind, "jitter": 0}, BackoffPolicy) for kind in ("fixed", "linear", "exponential")]
    assert [policy.compute_delay(3) for policy in kinds] == [1.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: SimpleRetryPolicy(0), "max_attempts is 0"),
        (lambda: SimpleRetryPolicy(3, -1), "a wait of -1"),
        (lambda: BackoffPolicy(max_attempts=0), "max_attempts is 0"),
        (lambda: BackoffPolicy(first_ms=10, max_ms=5), "max_ms is 5, expected at least first_ms, 10"),
        (lambda: BackoffPolicy(jitter=1.5), "jitter is 1.5"),
        (lambda: BackoffPolicy(jitter=-0.1), "jitter is -0.1"),
        (lambda: msgspec.convert({"kind": "sometimes"}, BackoffPolicy), "sometimes"),
    ],
)
def test_nonsense_is_refused_when_it_is_made(make: Callable[[], object], seen: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError), match=seen):
        make()


def test_the_smallest_policies_are_taken() -> None:
    assert [policy.should_retry(1) for policy in (SimpleRetryPolicy(1, 0), fixed(1, 0.0))] == [False, False]
    assert delays(fixed(1, 0.0), 2) == [0, 0]
    assert BackoffPolicy(first_ms=5, max_ms=5, jitter=1).compute_delay(3, lambda: 1.0) == 0
