"""Token buckets for rate limits (docs/protocol.md, section 7), used by ingests and dispatchers.

A bucket holds up to `burst` tokens and gains `per_s` tokens a second. When there are too many buckets, the one from
which nothing was taken for the longest time is forgotten, which makes it full again.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from math import ceil, inf
from typing import Any, Final, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.topic_settings import RATE_BURST_S

MAX_BUCKETS: Final = 50_000  # about 14 MB
MINUTE_S: Final = 60
_ROUNDING: Final = 1e-6  # of a millisecond: what sums of floats are off by
OWED_S: Final = 60  # a topic owes as much as it gains in this time, or OWED_BURSTS times its burst if that is more
OWED_BURSTS: Final = 10
_A_MINUTE: Final = "per_min"  # beside a topic: the bucket of its second rate


class Rate(NamedTuple):
    """How many tokens a bucket gains a second, and how many it holds at most."""

    per_s: float
    burst: float


class TokenBuckets:
    """Token buckets by key, at most `max_buckets`; `now` is monotonic seconds."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max_buckets = max_buckets
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # (level, when); the last used is last

    def __len__(self) -> int:
        return len(self._levels)

    def level(self, key: Hashable, rate: Rate, now: float) -> float:
        """Returns the tokens in a bucket; below zero where more were taken than there were."""
        found = self._levels.get(key)
        if found is None:
            return rate.burst
        level, at = found
        per_s, burst = rate
        if now > at:
            level += (now - at) * per_s
        return level if level < burst else burst

    def wait(self, key: Hashable, rate: Rate, now: float) -> float:
        """Returns 0 when there is a token, else the seconds until there is one; takes nothing."""
        level = self.level(key, rate, now)
        return 0.0 if level >= 1 else (1 - level) / rate.per_s

    def take(self, key: Hashable, rate: Rate, now: float, count: int = 1, owed: float = inf) -> None:
        """Takes `count` tokens. What is not there is owed: the level falls below zero, down to -`owed`."""
        self._put(key, max(self.level(key, rate, now) - count, -owed), now)

    def require(self, key: Hashable, rate: Rate, now: float, why: str, count: int = 1) -> None:
        """Takes `count` tokens where there is one. Raises Refusal `rate_limited`, with `why` as its detail."""
        wait = self.wait(key, rate, now)
        if wait:
            raise limited(why, wait)
        self.take(key, rate, now, count)

    def cap(self, key: Hashable, rate: Rate, now: float, most: float) -> None:
        """Leaves at most `most` tokens in a bucket."""
        level = self.level(key, rate, now)
        if level > most:
            self._put(key, most, now)

    def forget(self, key: Hashable) -> None:
        """Makes a bucket full again."""
        self._levels.pop(key, None)

    def _put(self, key: Hashable, level: float, now: float) -> None:
        if key not in self._levels and len(self._levels) >= self._max_buckets:
            self._levels.popitem(last=False)
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)


class TopicBuckets:
    """The buckets of topics, one for each rate of a topic: `per_s` with its `burst`, and `per_min` where it is set."""

    def __init__(self, usual_per_s: float, max_buckets: int = MAX_BUCKETS) -> None:
        """`usual_per_s`: the rate of topics that set none; their burst is what they gain in RATE_BURST_S."""
        self.usual = (Rate(usual_per_s, RATE_BURST_S * usual_per_s),)
        self._buckets = TokenBuckets(max_buckets)

    def __len__(self) -> int:
        return len(self._buckets)

    def level(self, topic: Hashable, rate: Rate, now: float, *, of_minute: bool = False) -> float:
        """Returns the tokens in one of a topic's buckets."""
        return self._buckets.level((topic, _A_MINUTE) if of_minute else topic, rate, now)

    def wait(self, topic: Hashable, rates: tuple[Rate, ...], now: float) -> float:
        """Returns 0 when there is a token of each rate, else the seconds until there is; takes nothing."""
        wait = self._buckets.wait(topic, rates[0], now)
        if len(rates) > 1:
            wait = max(wait, self._buckets.wait((topic, _A_MINUTE), rates[1], now))
        return wait

    def take(self, topic: Hashable, rates: tuple[Rate, ...], now: float, count: int = 1) -> None:
        """Takes `count` tokens of each rate; a topic owes a bounded number of them."""
        self._buckets.take(topic, rates[0], now, count, _owed(rates[0]))
        if len(rates) > 1:
            self._buckets.take((topic, _A_MINUTE), rates[1], now, count, _owed(rates[1]))

    def cap(self, topic: Hashable, rates: tuple[Rate, ...], now: float, most: float) -> None:
        """Leaves at most `most` tokens in the bucket of `per_s`."""
        self._buckets.cap(topic, rates[0], now, most)

    def forget(self, topic: Hashable) -> None:
        """Makes a topic's buckets full again."""
        self._buckets.forget(topic)
        self._buckets.forget((topic, _A_MINUTE))


def topic_rates(limit: Mapping[str, Any]) -> tuple[Rate, ...]:
    """Returns the rates of a topic whose setting `rate_limit` is `limit`."""
    rate = Rate(limit["per_s"], limit["burst"])
    per_min = limit.get("per_min")
    return (rate,) if per_min is None else (rate, Rate(per_min / MINUTE_S, per_min))


def limited(why: str, wait_s: float) -> Refusal:
    """Returns the refusal of a request that has no token for so many seconds."""
    return Refusal("rate_limited", why, retry_after_ms=max(1, ceil(wait_s * 1_000 - _ROUNDING)))


def _owed(rate: Rate) -> float:
    return max(OWED_S * rate.per_s, OWED_BURSTS * rate.burst)
