"""Whether this node may still act as an owner after a pause of its process."""

import asyncio
from typing import Final

from headgate.runtime.ports import Clock

BEAT_S: Final = 0.5
PAUSE_S: Final = 5.0  # a group's session is 6 s: after a longer pause somebody else may own what this node serves
SETTLE_S: Final = 10.0  # after so long without a new assignment a member that was paused is still a member


class Lease:
    """Held while the process runs; lost by a pause longer than PAUSE_S (SIGSTOP, a stuck loop).

    A suspended machine is not noticed, because this clock stands still too: its shards end with the claims of others.

    The first call after a pause notices it, so nothing is pushed before `renew`, which is called once the newest claims
    have been read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: float | None = None  # None until the first beat
        self._renewed = float("-inf")
        self._lost = False
        self._moved = asyncio.Event()

    def held(self) -> bool:
        """Returns whether pushes and answers are allowed now."""
        if self._seen is not None and self._clock.now() - self._seen > PAUSE_S:
            self._lost = True
        return not self._lost

    def settled(self) -> bool:
        """Returns whether the group's assignment is current, so that the node may claim by it."""
        return self.held() and self._clock.now() - self._renewed > SETTLE_S

    def beat(self) -> bool:
        """Notes that the process runs; to be called every BEAT_S seconds. Returns False when the lease is lost."""
        if not self.held():
            return False
        self._seen = self._clock.now()
        return True

    def renew(self) -> None:
        """The newest claims have been read: the lease is held again."""
        self._lost = False
        self._seen = self._renewed = self._clock.now()
        self._moved.set()

    def confirm(self) -> None:
        """The group has given an assignment: it is current, whatever happened before."""
        self._renewed = float("-inf")

    async def wait(self) -> None:
        """Waits until it is held."""
        while not self.held():
            self._moved.clear()
            await self._moved.wait()
