"""The dispatcher's registry: which shards it serves, which links it has, who owns the rest; starts no task."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from dispatcher.announcements import Announcements
from dispatcher.answering import Answering, CreateTopic
from dispatcher.lease import Lease
from dispatcher.peer import Peer
from dispatcher.shard import Destination, ShardOwner, ShardState
from headgate.core.sequencer.marks import Disagreement, Mark
from headgate.core.wire import link
from headgate.runtime.ports import Clock, Link

logger = structlog.get_logger("dispatcher")

GATEWAY: Final = "gateway"  # the role a gateway says HELLO with


class Counters(Protocol):
    """The metrics a dispatcher feeds."""

    def sequenced(self, verdict: str, count: int = 1) -> None: ...
    def dead_letter(self, reason: str, count: int = 1) -> None: ...
    def link_messages(self, direction: str, count: int = 1) -> None: ...
    def snapshot_failed(self, reason: str) -> None: ...
    def worked(self, work: str, seconds: float) -> None: ...
    def disagreed(self) -> None: ...


class Dispatcher:
    """Serves links. `claims` is what the ownership log says of every shard (the hints other nodes' clients need)."""

    def __init__(self, node: str, address: str, clock: Clock, counters: Counters, create: CreateTopic) -> None:
        self.node = node
        self.address = address
        self.shards = 1
        self.cluster_id = ""
        self.generation = 0
        self.claims: dict[int, link.Owner] = {}
        self.owners: dict[int, ShardOwner] = {}
        self.sessions: dict[Peer, None] = {}  # in the order they joined, so that a run can be repeated
        self.restoring: set[int] = set()  # shards on their way to being live here
        self.rebuilding = asyncio.Semaphore(1)  # history indexes: more at once would only slow the live shards
        self.on_refused: Callable[[int, int], None] = lambda shard, epoch: None
        self.start_pump: Callable[[Peer], None] = lambda session: None
        self._clock = clock
        self._counters = counters
        self._create = create
        self._desks: dict[int, Answering] = {}
        self._marks: dict[int, Mark] = {}
        self.lease = Lease(clock)

    # -- shards

    def serve(self, owner: ShardOwner) -> None:
        """Serves a shard from now on: it is live."""
        self.owners[owner.number] = owner
        linked = [session for session in self.sessions if session.role == GATEWAY]
        gateways = Announcements[Destination](linked, self.lease.held)
        self._desks[owner.number] = Answering(owner, self._clock, self._create, self.linked, gateways)
        self.announce([link.Owner(owner.number, owner.epoch, self.address, True)])

    def stop_serving(self, number: int) -> None:
        """Serves a shard no more; clients look for its next owner."""
        desk = self._desks.pop(number, None)
        if desk is not None:
            desk.announcements.close()
        if self.owners.pop(number, None) is not None:
            self.announce([link.Owner(number, 0, self.address, True)])

    def desk(self, shard: int) -> Answering | None:
        """Returns what answers for a shard, None where it is not served here."""
        owner = self.owners.get(shard)
        return self._desks.get(shard) if owner is not None and owner.state is ShardState.LIVE else None

    def announce(self, owners: list[link.Owner]) -> None:
        """Tells every link what changed."""
        for session in list(self.sessions):
            session.send(link.Owners(owners))

    def heard(self, claim: link.Owner) -> None:
        """Notes the newest claim of a shard; links learn where its owner listens."""
        self.claims[claim.shard] = claim
        if claim.address != self.address:
            self.announce([claim])

    def heard_mark(self, shard: int, mark: Mark) -> None:
        """Takes the newest digest that another run announced of a shard."""
        self._marks[shard] = mark
        owner = self.owners.get(shard)
        if owner is not None:
            owner.heard(mark)

    # -- links

    def accept(self, wire: Link) -> Peer:
        """Takes a new link; nothing is answered before its HELLO."""
        return Peer(self, wire)

    def welcome(self, hello: link.Hello) -> link.Welcome | str:
        """Answers a HELLO, or says why not."""
        low, high = max(hello.low, link.VERSION_LOW), min(hello.high, link.VERSION_HIGH)
        if low > high:
            return f"link versions {hello.low}-{hello.high} here {link.VERSION_LOW}-{link.VERSION_HIGH}"
        if hello.cluster_id not in ("", self.cluster_id):
            return f"cluster {hello.cluster_id} here {self.cluster_id}"
        if self.cluster_id and hello.generation > self.generation:
            return f"log generation {hello.generation} here {self.generation}"
        served = [
            link.Owner(o.number, o.epoch, self.address, True) for o in self.owners.values() if self.desk(o.number)
        ]
        others = [claim for claim in self.claims.values() if claim.address != self.address]
        return link.Welcome(high, self.node, self.cluster_id, self.generation, self.shards, served + others)

    def joined(self, session: Peer) -> None:
        """A link has said HELLO."""
        self.sessions[session] = None
        if session.role == GATEWAY:
            for desk in self._desks.values():
                desk.announcements.expect(session)
        self.start_pump(session)

    def left(self, session: Peer) -> None:
        """A link is gone: so are its routes and what it waits for."""
        self.sessions.pop(session, None)
        for owner in self.owners.values():
            owner.left(session)
        for desk in self._desks.values():
            desk.announcements.left(session)

    def refused(self, shard: int, epoch: int) -> None:
        """A client knows a higher epoch: evidence that the shard has another owner."""
        self.on_refused(shard, epoch)

    # -- what shards tell

    async def may_push(self) -> None:
        """Waits until this node is known to be the owner of what it serves: after a pause it asks first."""
        await self.lease.wait()

    def changed(self, topic_id: str) -> None:
        """Invalidates what ingests cached of a topic."""
        for session in self.sessions:
            if session.role != "gateway":
                session.send(link.Changed(topic_id))

    def sequenced(self, verdict: str, count: int) -> None:
        """Counts verdicts."""
        self._counters.sequenced(verdict, count)

    def dead_letter(self, reason: str) -> None:
        """Counts a dead letter."""
        self._counters.dead_letter(reason)

    def mark_of(self, shard: int) -> Mark | None:
        """Returns the newest digest that another run announced of a shard."""
        return self._marks.get(shard)

    def disagreed(self, shard: int, found: Disagreement) -> None:
        """Two nodes decided differently from the same log: a fault of ours, or a log that was changed."""
        self._counters.disagreed()
        logger.error(
            "two nodes decided differently",
            shard=shard,
            below=found.offset,
            ours=found.ours.hex(),
            other=found.theirs.node,
            theirs=found.theirs.digest.hex(),
        )

    def linked(self, count: int) -> None:
        """Counts messages sent to gateways."""
        self._counters.link_messages("out", count)

    def snapshot_failed(self, reason: str) -> None:
        """Counts snapshots that were not written."""
        self._counters.snapshot_failed(reason)

    def worked(self, work: str, seconds: float) -> None:
        """Notes how long one slice of background work held the loop."""
        self._counters.worked(work, seconds)
