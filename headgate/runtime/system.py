"""The real clock and randomness, the one place that imports them; the simulation brings its own."""

import os
import random
import time


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Returns monotonic seconds."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Returns Unix milliseconds."""
        return time.time_ns() // 1_000_000


class SystemRng:
    """The kernel's randomness for ids; a plain generator for jitter."""

    def __init__(self) -> None:
        self._jitter = random.Random()  # noqa: S311 - spreads reconnects, guards nothing

    def random(self) -> float:
        """Returns a float in [0, 1)."""
        return self._jitter.random()

    def entropy(self, count: int) -> bytes:
        """Returns `count` random bytes."""
        return os.urandom(count)
