"""Token buckets for rate limits (docs/protocol.md, section 7), used by ingests and dispatchers.

A bucket holds up to `burst` tokens and gains `per_s` tokens a second. When there are too many buckets, the one from
which nothing was taken for the longest time is forgotten, which makes it full again.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

MAX_BUCKETS: Final = 50_000  # about 10 MB


class Rate(NamedTuple):
    """How many tokens a bucket gains a second, and how many it holds at most."""

    per_s: float
    burst: float


class TokenBuckets:
    """Token buckets by key, at most `max_buckets`; `now` is monotonic seconds."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max_buckets = max_buckets
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (level, when); the last used is last

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: str, rate: Rate, now: float) -> float:
        """Returns 0 when there is a token, else the seconds until there is one; takes nothing."""
        level = self._level(key, rate, now)
        return 0.0 if level >= 1 else (1 - level) / rate.per_s

    def take(self, key: str, rate: Rate, now: float, count: int = 1) -> None:
        """Takes `count` tokens. At least one must be there; the level falls below zero where the rest is missing."""
        level = self._level(key, rate, now) - count
        if key not in self._levels and len(self._levels) >= self._max_buckets:
            self._levels.popitem(last=False)
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)

    def _level(self, key: str, rate: Rate, now: float) -> float:
        found = self._levels.get(key)
        if found is None:
            return rate.burst
        level, at = found
        return min(rate.burst, level + (now - at) * rate.per_s)
