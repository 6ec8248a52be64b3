"""Tells ingests a few times a second which topics are above their rate, and how many ingests there are."""

import asyncio
from typing import Final

import structlog

from dispatcher.dispatcher import Dispatcher
from dispatcher.peer import Peer
from headgate.core.wire.link_users import Ingests, Throttle, Throttled
from headgate.runtime.ports import Clock

logger = structlog.get_logger("dispatcher")

INGEST: Final = "ingest"  # the role in an ingest's HELLO
TICK_S: Final = 0.25
MAX_TOLD: Final = 2_000  # topics that one tick tells, of all shards of this node: 90 KB a link; the others wait
MIN_TOLD: Final = 20  # of each shard, so that one shard's throttled topics do not keep back another's
MAX_IN_MESSAGE: Final = 1_000
LINK_VERSION: Final = 2  # the lowest that knows these messages


class Throttling:
    """Serves the links of one dispatcher; `run` is its task."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._told: dict[Peer, int] = {}  # the number of ingests, as each was told

    async def run(self) -> None:
        """Tells what is due, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.tick()
            except Exception:  # the task's root: rates are soft, and must not end the process
                logger.exception("ingests were not told of rates")

    def tick(self) -> None:
        """Tells every linked ingest what has changed, and one that is new everything."""
        if not self._dispatcher.lease.held():  # after a pause: it may own nothing any longer
            return
        linked = [peer for peer in self._dispatcher.peers if peer.role == INGEST]
        served = [peer for peer in linked if peer.version >= LINK_VERSION and not peer.congested]
        is_new = any(peer not in self._told for peer in served)
        self._tell_count(served, len({peer.name for peer in linked}))
        owners, now = list(self._dispatcher.owners.values()), self._clock.now()
        if not served or not owners:
            return
        most = max(MIN_TOLD, MAX_TOLD // len(owners))
        for owner in owners:
            if is_new:
                owner.topic_rates.tell_again(now)
            _tell(served, owner.topic_rates.due(now, most))

    def _tell_count(self, served: list[Peer], count: int) -> None:
        for peer in served:
            if self._told.get(peer) != count:
                peer.send(Ingests(count))
        self._told = dict.fromkeys(served, count)


def _tell(peers: list[Peer], throttles: list[Throttle]) -> None:
    for at in range(0, len(throttles), MAX_IN_MESSAGE):
        message = Throttled(throttles[at : at + MAX_IN_MESSAGE])
        for peer in peers:
            peer.send(message)
