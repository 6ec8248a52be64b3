"""Which gateways this dispatcher cannot reach: their link was lost and they are not back, or it takes nothing.

A gateway opens a lost link again by itself, at once and then every 2 s. What its clients miss is in the log and the
members' inboxes meanwhile. Here is only noticed that it takes too long. A process that stops says so when it closes its
link; one that was killed counts until it is forgotten.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from dispatcher.peer import Peer
from headgate.runtime.ports import Clock

logger = structlog.get_logger("dispatcher")

LOOK_S: Final = 1.0
AWAY_S: Final = 10.0  # tries after 0.1, 0.2, 0.4, 0.8, 1.6 and then 2 s have failed
CONGESTED_S: Final = 10.0
FORGET_S: Final = 900.0
MAX_LOST: Final = 1_000  # gateways that are remembered; of more the oldest is forgotten


class UnreachableGateways:
    """The gateways of one dispatcher, by their node names. `run` is its task."""

    def __init__(self, peers: Iterable[Peer], clock: Clock) -> None:
        """`peers` are all links, whatever their role, as they are at the time."""
        self._peers = peers
        self._clock = clock
        self._lost: dict[str, float] = {}  # since when
        self._congested: dict[str, float] = {}
        self._told: set[str] = set()

    async def run(self) -> None:
        """Looks once a second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def linked(self, name: str) -> None:
        """A gateway has opened a link."""
        self._lost.pop(name, None)

    def ended(self, name: str, *, has_left: bool) -> None:
        """A gateway's link has ended. `has_left`: it stops, and does not come back."""
        if has_left or any(peer.name == name for peer in self._peers if peer.open):
            return
        if len(self._lost) >= MAX_LOST:
            del self._lost[min(self._lost, key=self._lost.__getitem__)]
        self._lost[name] = self._clock.now()

    def names(self) -> set[str]:
        """Returns the gateways that are unreachable now."""
        now = self._clock.now()
        away = {name for name, since in self._lost.items() if now - since >= AWAY_S}
        return away | {name for name, since in self._congested.items() if now - since >= CONGESTED_S}

    def count(self) -> int:
        """Returns how many gateways are unreachable now."""
        return len(self.names())

    def look(self) -> None:
        """Finds out who takes nothing, forgets who is gone for good, and logs each that is unreachable once."""
        now = self._clock.now()
        stuck = {peer.name for peer in self._peers if peer.is_gateway and peer.congested}
        self._congested = {name: self._congested.get(name, now) for name in stuck}
        self._lost = {name: since for name, since in self._lost.items() if now - since < FORGET_S}
        names = self.names()
        for name in sorted(names - self._told):
            why = "takes nothing" if name in self._congested else "its link was lost and it is not back"
            logger.warning("a gateway cannot be reached", gateway=name, why=why)
        for name in sorted(self._told - names):
            logger.info("a gateway can be reached again, or is forgotten", gateway=name)
        self._told = names
