"""Which ingest a publish goes to: any that works, as a balancer chooses. Must not know what is sent."""

import math
import random
import time
from collections.abc import Callable
from typing import Final

OUT_S: Final = 5.0


class Balancer:
    """Leaves out, for OUT_S, a server that did not answer or could not serve; with all of them out it takes any."""

    def __init__(self, servers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._failed = [-math.inf] * servers
        self._clock = clock

    def choose(self, rng: random.Random) -> int:
        """Returns the number of a server."""
        now = self._clock()
        good = [number for number, at in enumerate(self._failed) if now - at >= OUT_S]
        return rng.choice(good or range(len(self._failed)))

    def failed(self, number: int) -> None:
        """Takes a server out for a while."""
        self._failed[number] = self._clock()
