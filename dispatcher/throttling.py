"""Tells ingests a few times a second which topics are above their rate, whose queues are long, and how many ingests.

Some twenty times a second it tells them how far the shards are: each ingest counts what waits to be numbered itself.
"""

import asyncio
from typing import Final

import structlog

from dispatcher.dispatcher import Dispatcher
from dispatcher.peer import Peer
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.link_stats import Numbered
from headgate.core.wire.link_users import Ingests, Throttle, Throttled
from headgate.runtime.ports import Clock

logger = structlog.get_logger("dispatcher")

INGEST: Final = "ingest"  # the role in an ingest's HELLO
TICK_S: Final = 0.25
NUMBERED_S: Final = 0.05  # a topic with 20,000 messages a second gets 1,000 in this time, a tenth of `queue_limit`
MAX_TOLD: Final = 2_000  # topics that one tick tells, of all shards of this node: 90 KB a link; the others wait
MIN_TOLD: Final = 20  # of each shard, so that one shard's throttled topics do not keep back another's
MAX_IN_MESSAGE: Final = 1_000
LINK_VERSION: Final = 2  # the lowest that knows these messages


class Throttling:
    """Serves the links of one dispatcher; `run` is its task."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self.depths: dict[int, int] = {}  # shard: messages that wait in its queues
        self._told: dict[Peer, int] = {}  # the number of ingests, as each was told
        self._numbered: dict[int, int] = {}  # the offset of each shard, as told last
        self._numbered_to: set[Peer] = set()

    @property
    def deepest_shard(self) -> int:
        """Messages that wait in the queues of one shard, the deepest."""
        return max(self.depths.values(), default=0)

    async def run(self) -> None:
        """Tells what is due, until cancelled."""
        ticked_at = self._clock.now()
        while True:
            await asyncio.sleep(min(NUMBERED_S, TICK_S))
            try:
                self.tell_numbered()
                if self._clock.now() - ticked_at >= TICK_S:
                    ticked_at = self._clock.now()
                    self.tick()
            except Exception:  # the task's root: rates are soft, and must not end the process
                logger.exception("ingests were not told of rates")

    def tell_numbered(self) -> None:
        """Tells every linked ingest how far the shards of this node are, where that has moved or the ingest is new."""
        if not self._dispatcher.lease.held():
            return
        at = {number: owner.shard.next_offset for number, owner in self._dispatcher.owners.items()}
        moved = [(number, offset) for number, offset in at.items() if self._numbered.get(number) != offset]
        self._numbered, known, self._numbered_to = at, self._numbered_to, set()
        for peer in self._served():
            self._numbered_to.add(peer)
            news = moved if peer in known else list(at.items())
            if news:
                peer.send(Numbered(news))

    def _served(self) -> list[Peer]:
        linked = [peer for peer in self._dispatcher.peers if peer.role == INGEST]
        return [peer for peer in linked if peer.version >= LINK_VERSION and not peer.congested]

    def _tell_queues(self, ingests: list[Peer]) -> None:
        backlog: dict[int, dict[str, None]] = {}  # by shard
        for topic_id in [topic_id for peer in self._dispatcher.peers for topic_id in peer.backlog]:
            backlog.setdefault(shard_of(topic_key(topic_id), self._dispatcher.cluster.shards), {})[topic_id] = None
        for number, owner in self._dispatcher.owners.items():
            for ingest in ingests:
                for news in owner.queues.news(ingest, backlog.get(number, ())):
                    ingest.send(news)
        owners = self._dispatcher.owners.items()
        self.depths = {number: owner.queues.all(backlog.get(number, ())) for number, owner in owners}

    def tick(self) -> None:
        """Tells every linked ingest what has changed, and one that is new everything."""
        if not self._dispatcher.lease.held():  # after a pause: it may own nothing any longer
            self.depths = {}
            return
        linked = [peer for peer in self._dispatcher.peers if peer.role == INGEST]
        served = self._served()
        self._tell_queues(served)
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
