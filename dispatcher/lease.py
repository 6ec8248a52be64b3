"""Whether this node may still act as an owner after it stood still; knows no shard and no log."""

import asyncio
from typing import Final

from headgate.runtime.ports import Clock

BEAT_S: Final = 0.5
PAUSE_S: Final = 5.0  # a group's session is 6 s: after a longer pause somebody else may own what this node serves
SETTLE_S: Final = 10.0  # then a member that woke up and was given nothing new is still one: its heartbeats went through


class Lease:
    """Held while the process runs; lost by a pause longer than PAUSE_S (SIGSTOP, a suspended machine, a stuck loop).

    Whoever looks first after the pause notices it, so nothing is pushed before `renew`: the owner of this object
    calls that once it has read the newest claims.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: float | None = None  # until the first beat nobody watches
        self._renewed = float("-inf")
        self._lost = False
        self._moved = asyncio.Event()

    def held(self) -> bool:
        """Says whether pushes and answers are allowed now."""
        if self._seen is not None and self._clock.now() - self._seen > PAUSE_S:
            self._lost = True
        return not self._lost

    def settled(self) -> bool:
        """Says whether the group's assignment can be believed: claims may follow from it."""
        return self.held() and self._clock.now() - self._renewed > SETTLE_S

    def beat(self) -> bool:
        """Notes that the process runs; to be called every BEAT_S seconds. Returns False when the lease is lost."""
        if not self.held():
            return False
        self._seen = self._clock.now()
        return True

    def renew(self) -> None:
        """Holds it again."""
        self._lost = False
        self._seen = self._renewed = self._clock.now()
        self._moved.set()

    def confirm(self) -> None:
        """The group has given an assignment: it is to be believed, whatever happened before."""
        self._renewed = float("-inf")

    async def wait(self) -> None:
        """Waits until it is held."""
        while not self.held():
            self._moved.clear()
            await self._moved.wait()
