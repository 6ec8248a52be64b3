"""Token buckets: burst, refill, exact waits, a bound."""

import time

import pytest

from headgate.core.wire.token_buckets import Rate, TokenBuckets

RATE = Rate(per_s=2, burst=3)


def taken(buckets: TokenBuckets, key: str, now: float, wanted: int) -> int:
    count = 0
    while count < wanted and buckets.wait(key, RATE, now) == 0:
        buckets.take(key, RATE, now)
        count += 1
    return count


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets()
    assert taken(buckets, "a", 0, 10) == 3
    assert buckets.wait("a", RATE, 0) == pytest.approx(0.5)
    assert buckets.wait("a", RATE, 0.4) == pytest.approx(0.1)
    assert taken(buckets, "a", 0.5, 10) == 1
    assert taken(buckets, "a", 100, 10) == 3, "never more than the burst"
    assert taken(buckets, "b", 0, 10) == 3, "each key has its own"


def test_waiting_takes_nothing() -> None:
    buckets = TokenBuckets()
    for _ in range(10):
        assert buckets.wait("a", RATE, 0) == 0
    assert len(buckets) == 0


def test_the_rate_over_a_minute() -> None:
    buckets = TokenBuckets()
    assert sum(taken(buckets, "a", second / 10, 100) for second in range(600)) == 3 + 2 * 60 - 1


def test_the_bucket_asked_for_longest_ago_goes_first() -> None:
    buckets = TokenBuckets(max_buckets=2)
    for key in ("a", "b"):
        assert taken(buckets, key, 0, 2) == 2
    buckets.take("a", RATE, 0)
    buckets.take("c", RATE, 0)
    assert len(buckets) == 2
    assert buckets.wait("a", RATE, 0) > 0
    assert buckets.wait("b", RATE, 0) == 0


def test_what_is_owed_is_waited_for() -> None:
    buckets = TokenBuckets()
    buckets.take("a", RATE, 0, 7)
    assert buckets.wait("a", RATE, 0) == pytest.approx(2.5)
    assert buckets.wait("a", RATE, 2.5) == 0


def test_a_bucket_at_the_bound_costs_what_one_below_it_does() -> None:
    """Popping the first key of a dict looks at every deleted slot before it: 58 us each at 50,000."""
    buckets = TokenBuckets()
    seconds = []
    for begin in (0, 50_000, 100_000, 150_000):
        started = time.process_time()
        for at in range(begin, begin + 50_000):
            buckets.take(str(at), RATE, 0)
        seconds.append(time.process_time() - started)
    assert len(buckets) == 50_000
    assert max(seconds[1:]) < 4 * seconds[0] + 0.1
