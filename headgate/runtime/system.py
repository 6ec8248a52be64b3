"""The real clock and randomness, the one place that imports them; the simulation brings its own."""

import os
import random
import time
from typing import Final

POOL_BYTES: Final = 4_096


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Returns monotonic seconds."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Returns Unix milliseconds."""
        return time.time_ns() // 1_000_000


class _Pool:
    """Random bytes of the kernel that nobody has been given: each question to it is a system call."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Gives out nothing of what is here."""
        self._bytes, self._at = b"", 0

    def take(self, count: int) -> bytes:
        at = self._at
        if at + count > len(self._bytes):
            self._bytes, at = os.urandom(max(POOL_BYTES, count)), 0
        self._at = at + count
        return self._bytes[at : at + count]


_POOL: Final = _Pool()
os.register_at_fork(after_in_child=_POOL.forget)  # or two processes would give out the same


class SystemRng:
    """The kernel's randomness for ids; a plain generator for jitter."""

    def __init__(self) -> None:
        self._jitter = random.Random()  # noqa: S311 - spreads reconnects, guards nothing

    def random(self) -> float:
        """Returns a float in [0, 1)."""
        return self._jitter.random()

    def entropy(self, count: int) -> bytes:
        """Returns `count` random bytes."""
        return _POOL.take(count)
