"""Token buckets for the rates (docs/protocol.md, section 7).

A bucket holds up to `burst` tokens and gains `per_s` a second; a publish takes one of its user's and one of its
topic's, or none of either. The bucket that was taken from longest ago is forgotten first, which makes it full again.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

MAX_BUCKETS: Final = 50_000  # about 10 MB


class Rate(NamedTuple):
    """Tokens a second, and how many a bucket holds."""

    per_s: float
    burst: float


class TokenBuckets:
    """Token buckets by key, at most `max_buckets`; `now` is monotonic seconds."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max_buckets = max_buckets
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level at a time; taken from last is last

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: str, rate: Rate, now: float) -> float:
        """Returns the seconds until a token is there, 0 when one is; takes none."""
        level = self._level(key, rate, now)
        return 0.0 if level >= 1 else (1 - level) / rate.per_s

    def take(self, key: str, rate: Rate, now: float, count: int = 1) -> None:
        """Takes `count` tokens. One must be there; the missing rest is owed: the level goes below 0."""
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
