"""Measures the load of a dispatcher ten times a second."""

import asyncio
from typing import Final

from dispatcher.dispatcher import Dispatcher
from dispatcher.shard import LINK_BYTES
from headgate.runtime.ports import Clock

SAMPLE_S: Final = 0.1


class LoadMeter:
    """Feeds the load of a dispatcher. `run` is its task."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._clock = clock

    async def run(self) -> None:
        """Measures until cancelled."""
        begun = self._clock.now()
        while True:
            await asyncio.sleep(SAMPLE_S)
            now = self._clock.now()
            self._sample(now - begun)
            begun = now

    def _sample(self, passed_s: float) -> None:
        queued = [peer.queued for peer in self._dispatcher.peers if peer.is_gateway]
        self._dispatcher.load.sample(passed_s, max(0.0, passed_s - SAMPLE_S), sum(queued), len(queued) * LINK_BYTES)
