"""The registry and router of a node: the shards it serves, its links, and the owners it knows of the other shards."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, get_args

import structlog

from dispatcher.announcements import Announcements
from dispatcher.lease import Lease
from dispatcher.newer_epochs import NewerEpochs
from dispatcher.peer import GATEWAY, Peer
from dispatcher.ports import DispatcherMetrics
from dispatcher.shard import Destination, ShardOwner
from dispatcher.shard_api import ShardApi
from dispatcher.shard_presence import LISTED, ShardPresence
from dispatcher.topic_creations import TopicCreator
from dispatcher.unreachable_gateways import UnreachableGateways
from dispatcher.user_questions import UserAnswer, UserQuestions
from dispatcher.user_side import UserSide, UserSideMessage
from headgate.core.sequencer.load import Load
from headgate.core.sequencer.marks import Mark
from headgate.core.wire import link, link_direct, link_hello, link_members, link_presence
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.link_dead_letters import AskDeadLetters, ChangeDeadLetter
from headgate.core.wire.link_events import EventsHappened, WatchEvents
from headgate.core.wire.link_inbox import AskInbox, AskMissed, AskMissedTopics
from headgate.core.wire.link_messages import AskMessage
from headgate.core.wire.link_stats import AskTop, DeliveryReport, PublishReport
from headgate.core.wire.link_users import Redeem, Revocation, Revocations
from headgate.core.wire.revoked_tokens import MAX_REVOCATIONS, RevokedTokens
from headgate.runtime.ports import Link, Shell

logger = structlog.get_logger("dispatcher")

# Types are looked up, in one step: `isinstance` would compare with one after the other.
_LARGE = frozenset({link.Fetch, link.AskHistory, AskDeadLetters, AskInbox, AskMissed, AskMissedTopics})
_BY_SHARD = frozenset(
    {link.Attach, link.AskTopics, link.AskCount, link.AskVerdict, AskMessage, link_direct.AskLogic}
    | {link_presence.AttachPresence, link_presence.PresenceChanged, WatchEvents, EventsHappened}
    | {AskDeadLetters, ChangeDeadLetter, DeliveryReport, PublishReport, AskMissed, AskTop}
)
# They go to the owner of the user's shard, whatever topic they name.
_BY_USER = frozenset({link_members.AskMemberships, Redeem})
HINTS_S: Final = 0.2
REVOKES_FROM: Final = 2  # the link version that knows revocations


class Cluster(NamedTuple):
    """The identity of the log and the number of its shards; the defaults are sent while the log has not been read."""

    id: str = ""
    generation: int = 0
    shards: int = 1


class Dispatcher:
    """Serves links: it routes each request to the ShardApi of its shard. It starts no task.

    `claims` are the newest claims of all shards, as hints for the clients of other nodes.
    """

    def __init__(
        self,
        node: str,
        address: str,
        shell: Shell[DispatcherMetrics],
        creator: TopicCreator,
        listed: int = LISTED,
    ) -> None:
        """At most `listed` users of a topic are listed in its presence."""
        self.address = address
        self.cluster = Cluster()
        self.lease = Lease(shell.clock)
        self.load = Load()
        self.newer_epochs = NewerEpochs()
        self.claims: dict[int, link_hello.Owner] = {}
        self.owners: dict[int, ShardOwner] = {}
        self.peers: dict[Peer, None] = {}  # in the order they joined, so that a run can be repeated
        self.unreachable = UnreachableGateways(self.peers, shell.clock)
        self.restoring: set[int] = set()  # shards on their way to being live here
        self.revoked = RevokedTokens()
        self._node = node
        self._shell = shell
        self._creator = creator
        self._listed = listed
        self._apis: dict[int, ShardApi] = {}
        self._hints: dict[str, link_hello.Owner] = {}  # by address: claims that links are told of together
        self._questions = UserQuestions()
        self._user_sides: dict[int, UserSide] = {}  # of the shards served here
        self._marks: dict[int, Mark] = {}
        self._joined: asyncio.Queue[Peer] = asyncio.Queue()  # links whose pump has not been started; a few at most
        self._ways: dict[type, Callable[[Peer, Any], None]] = {  # all others go to a topic's shard
            **dict.fromkeys(get_args(UserAnswer), self._questions.answered),
            **dict.fromkeys(get_args(UserSideMessage), self._route_user),
        }

    # -- shards

    def log_was_read(self, cluster: Cluster) -> None:
        """Takes what the log's config record tells; links that say HELLO earlier have to come again."""
        self.cluster = cluster

    def serve(self, owner: ShardOwner) -> None:
        """Serves a live shard from now on."""
        self.owners[owner.number] = owner
        linked = [peer for peer in self.peers if peer.role == GATEWAY]
        gateways = Announcements[Destination](linked, self.lease.held)
        announcing = [peer for peer in linked if peer.knows_users]
        presence = ShardPresence(
            owner, self._shell.clock, Announcements[Destination](announcing, self.lease.held), self._listed
        )
        self._apis[owner.number] = ShardApi(owner, self._shell, self._creator, gateways, presence, self.load)
        announcers = Announcements[Destination](announcing, self.lease.held)
        self._user_sides[owner.number] = UserSide(owner, self._questions, announcers, self._shell)
        self.announce([link_hello.Owner(owner.number, owner.epoch, self.address, True)])

    def stop_serving(self, number: int) -> None:
        """No longer serves a shard; clients look for its next owner."""
        api = self._apis.pop(number, None)
        if api is not None:
            api.close()
            self._user_sides.pop(number).close()
        if self.owners.pop(number, None) is not None:
            self.announce([link_hello.Owner(number, 0, self.address, True)])

    def api(self, shard: int) -> ShardApi | None:
        """Returns the API of a shard, None where the shard is not served here."""
        return self._apis.get(shard)

    def announce(self, owners: list[link_hello.Owner]) -> None:
        """Sends changed owners to every link."""
        for peer in list(self.peers):
            peer.send(link_hello.Owners(owners))

    def topic_changed(self, topic_id: str, user_id: str = "") -> None:
        """Invalidates what ingests have cached of a topic; with `user_id` only that user's role there."""
        for peer in self.peers:
            if peer.role != GATEWAY:
                peer.send(link.Changed(topic_id, user_id))

    # -- what other nodes have written

    def claimed(self, claim: link_hello.Owner, *, is_known: bool = False) -> None:
        """Takes the newest claim of a shard; links learn where another owner listens.

        They learn it at once of a process that had no claim (`is_known` false), else within HINTS_S: a node that dies
        makes all others claim, and each of them tells each link.
        """
        self.claims[claim.shard] = claim
        if claim.address == self.address:
            return
        if not is_known:
            self.announce([claim])
            return
        if not self._hints:
            asyncio.get_running_loop().call_later(HINTS_S, self._announce_hints)
        self._hints[claim.address] = claim

    def _announce_hints(self) -> None:
        hints, self._hints = self._hints, {}
        self.announce(list(hints.values()))

    def marked(self, shard: int, mark: Mark) -> None:
        """Takes the newest digest of a shard by another run; the owner compares it with its own."""
        self._marks[shard] = mark
        owner = self.owners.get(shard)
        if owner is not None:
            owner.digests.heard(mark)

    def mark_of(self, shard: int) -> Mark | None:
        """Returns the newest digest of a shard by another run."""
        return self._marks.get(shard)

    def revoke(self, revocations: list[Revocation]) -> None:
        """Tells every link of revocations that are news."""
        now_ms = self._shell.clock.wall_ms()
        if len(self.revoked) >= MAX_REVOCATIONS:
            self.revoked.forget(now_ms)
        kept = [revocation for revocation in revocations if not 0 < revocation.until < now_ms]
        fresh = [revocation for revocation in kept if self.revoked.add(revocation)]
        if fresh:
            for peer in self.peers:
                _tell_revoked(peer, fresh)

    # -- links

    def accept(self, wire: Link) -> Peer:
        """Takes a new link; nothing is answered before its HELLO."""
        peer = Peer(wire, self.lease, self._shell.metrics)
        wire.deliver_to(partial(self.received, peer), partial(self._closed, peer))
        return peer

    async def next_peer(self) -> Peer:
        """Waits for the next link that has said HELLO: its pump has to be started."""
        return await self._joined.get()

    def received(self, peer: Peer, messages: list[link.Message]) -> None:
        """Handles the messages of a link in order. It never raises."""
        for message in messages:
            try:
                self._route(peer, message)
            except Exception:  # one bad message must not cost the others of its batch
                logger.exception("a message of a link failed", peer=peer.name, kind=type(message).__name__)
                peer.refuse(message, "internal", "the dispatcher failed at this message")

    def _route(self, peer: Peer, message: link.Message) -> None:
        if isinstance(message, link_hello.Hello):
            self._hello(peer, message)
            return
        if isinstance(message, link_hello.Refuse):
            self.newer_epochs.note(message.shard, message.epoch)
            return
        if not peer.role:
            peer.close("a link begins with HELLO")
            return
        self._ways.get(type(message), self._route_topic)(peer, message)

    def _route_topic(self, peer: Peer, message: link.Message) -> None:
        shard = self._shard_of(message)
        api = self.api(shard)
        if api is None:
            peer.refuse(message, "not_ready", f"shard {shard} is not served here now")
        elif peer.must_wait(large=_is_large(message)):
            api.handle_later(peer, message)
        else:
            api.handle(peer, message)

    def _route_user(self, peer: Peer, message: UserSideMessage) -> None:
        shard = getattr(message, "shard", None)
        if shard is None:
            shard = shard_of(topic_key(getattr(message, "user_id", "")), self.cluster.shards)
        if shard not in self._user_sides:
            peer.refuse(message, "not_ready", f"shard {shard} is not served here now")
        elif not peer.must_wait(large=_is_large(message)):
            self._handle_user(shard, peer, message)
        elif not peer.later(partial(self._handle_user, shard, peer, message)):
            peer.refuse(message, "overloaded", "too many requests wait on this link")

    def _handle_user(self, shard: int, peer: Peer, message: UserSideMessage) -> None:
        side = self._user_sides.get(shard)
        if side is None:
            peer.refuse(message, "not_ready", f"shard {shard} is not served here now")
        else:
            side.handle(peer, message)

    def _shard_of(self, message: Any) -> int:
        """Returns the shard of a message, which is none of `UserSideMessage`."""
        if type(message) in _BY_SHARD:
            shard: int = message.shard
            return shard
        if type(message) in _BY_USER:
            return shard_of(message.user_id.encode(), self.cluster.shards)
        topic_id: str = getattr(message, "topic_id", "")
        return shard_of(topic_key(topic_id), self.cluster.shards)

    def _hello(self, peer: Peer, hello: link_hello.Hello) -> None:
        if not peer.welcome(hello, self._welcome(hello)):
            return
        self.peers[peer] = None
        for revocations in self.revoked.chunks():
            _tell_revoked(peer, revocations)
        if peer.role == GATEWAY:
            self.unreachable.linked(peer.name)
            for api in self._apis.values():
                api.announcements.expect(peer)
                if peer.knows_users:
                    api.presence.announcements.expect(peer)
            for side in self._user_sides.values() if peer.knows_users else ():
                side.announcements.expect(peer)
        self._joined.put_nowait(peer)

    def _welcome(self, hello: link_hello.Hello) -> link_hello.Welcome | str:
        """Returns the answer to a HELLO, or the reason why not."""
        cluster = self.cluster
        low, high = max(hello.low, link.VERSION_LOW), min(hello.high, link.VERSION_HIGH)
        if low > high:
            return f"link versions {hello.low}-{hello.high} here {link.VERSION_LOW}-{link.VERSION_HIGH}"
        if hello.cluster_id not in ("", cluster.id):
            return f"cluster {hello.cluster_id} here {cluster.id}"
        if cluster.id and hello.generation > cluster.generation:
            return f"log generation {hello.generation} here {cluster.generation}"
        served = [link_hello.Owner(owner.number, owner.epoch, self.address, True) for owner in self.owners.values()]
        hints = {claim.address: claim for claim in self.claims.values() if claim.address != self.address}
        owners = [*served, *hints.values()]
        return link_hello.Welcome(high, self._node, cluster.id, cluster.generation, cluster.shards, owners)

    def _closed(self, peer: Peer, _reason: str) -> None:
        """Forgets a link with its routes and what it waits for."""
        peer.closed()
        self.peers.pop(peer, None)
        if peer.is_gateway:
            self.unreachable.ended(peer.name, has_left=peer.has_left)
        for owner in self.owners.values():
            owner.left(peer)
        for api in self._apis.values():
            api.announcements.left(peer)
            api.presence.left(peer)
            api.event_watchers.left(peer)
            api.groups.left(peer)
        for side in self._user_sides.values():
            side.left(peer)
        self._questions.left(peer)


def _tell_revoked(peer: Peer, revocations: list[Revocation]) -> None:
    if peer.version >= REVOKES_FROM:
        peer.send(Revocations(revocations))


def _is_large(message: link.Message) -> bool:
    """Returns whether the answer to a message may be large."""
    if isinstance(message, AskMessage):
        return message.versions
    return type(message) in _LARGE or (isinstance(message, link.AskSubscribe) and message.position is not None)
