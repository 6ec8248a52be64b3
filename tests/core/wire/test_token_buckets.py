"""Token buckets: burst, refill, exact waits, a bound."""

import time

import pytest

from headgate.core.wire.token_buckets import Rate, TokenBuckets, TopicBuckets, limited, topic_rates

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


def test_what_is_owed_can_be_bounded() -> None:
    buckets = TokenBuckets()
    buckets.take("a", RATE, 0, 1_000, owed=5)
    assert buckets.wait("a", RATE, 0) == pytest.approx(3)


def test_a_cap_lowers_and_never_raises() -> None:
    buckets = TokenBuckets()
    buckets.cap("a", RATE, 0, 1)
    assert taken(buckets, "a", 0, 3) == 1
    buckets.cap("a", RATE, 0, 1)
    assert buckets.level("a", RATE, 0) == 0


def test_a_bucket_that_is_forgotten_is_full() -> None:
    buckets = TokenBuckets()
    buckets.take("a", RATE, 0, 3)
    buckets.forget("a")
    buckets.forget("never seen")
    assert (buckets.level("a", RATE, 0), len(buckets)) == (3, 0)


def test_time_that_goes_back_takes_nothing_away() -> None:
    buckets = TokenBuckets()
    buckets.take("a", RATE, 100)
    assert buckets.level("a", RATE, 50) == 2


def test_a_topic_has_a_bucket_for_each_of_its_rates() -> None:
    assert topic_rates({"per_s": 2, "burst": 3}) == (RATE,)
    rates = topic_rates({"per_s": 2, "burst": 3, "per_min": 30})
    assert rates == (RATE, Rate(0.5, 30))
    buckets = TopicBuckets(100)
    assert buckets.usual == (Rate(100, 200),)
    buckets.take("t", rates, 0, 29)
    assert buckets.wait("t", rates, 0) == pytest.approx(13.5)
    assert buckets.wait("t", rates, 14) == 0
    buckets.take("t", rates, 14, 9)
    assert buckets.wait("t", rates, 14) == pytest.approx(4)
    assert buckets.level("t", rates[1], 14, of_minute=True) == pytest.approx(-1)
    buckets.forget("t")
    assert buckets.wait("t", rates, 14) == 0 and len(buckets) == 0


def test_a_topic_owes_what_it_gains_in_a_minute_or_ten_bursts() -> None:
    buckets = TopicBuckets(1)
    buckets.take("fast", (Rate(100, 1),), 0, 1_000_000)
    buckets.take("slow", (Rate(0.1, 50),), 0, 1_000_000)
    assert buckets.level("fast", Rate(100, 1), 0) == -6_000
    assert buckets.level("slow", Rate(0.1, 50), 0) == -500


@pytest.mark.parametrize("per_min", [3, 7, 600, 1_000_003])
def test_after_the_wait_that_is_told_there_is_a_token(per_min: int) -> None:
    buckets, rate = TokenBuckets(), Rate(per_min / 60, 1)
    buckets.take("u", rate, 0.0)
    refusal = limited("", buckets.wait("u", rate, 0.0))
    assert refusal.retry_after_ms is not None
    assert buckets.wait("u", rate, refusal.retry_after_ms / 1_000) == 0.0
