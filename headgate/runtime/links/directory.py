"""Finds the owner of each shard among the linked dispatchers and asks it; the port is `headgate.runtime.links.port`."""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import structlog

from headgate.core.wire import link, link_hello
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.link_acks import ReplaceSubscription
from headgate.core.wire.link_events import EventsHappened, WatchEvents
from headgate.core.wire.link_inbox import UserHints, UserRead
from headgate.core.wire.link_stats import Numbered, Queued
from headgate.core.wire.link_users import (
    AskConnections,
    EndSubscriptions,
    Ingests,
    Revocations,
    Throttled,
    UsersElsewhere,
)
from headgate.runtime.links.port import DirectoryUser, OnAnswer, Unanswered, future_answer
from headgate.runtime.ports import Link

logger = structlog.get_logger("links")

CACHED_TOPICS: Final = 100_000

# A union costs more to make than to ask, and these are asked for every message.
_PushOrRequest = Revocations | link.FromOwner | ReplaceSubscription
_OfAllShards = Revocations | Numbered
_ByShard = link.Attached | WatchEvents | EventsHappened


class Served(NamedTuple):
    """Who serves a shard: the claim's epoch and the link to it."""

    epoch: int
    wire: Link


class _Pending(NamedTuple):
    shard: int
    wire: Link
    on_answer: OnAnswer


class Hints:
    """Addresses of dispatchers that other dispatchers named, each with the number of connects that failed since."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self.added = asyncio.Event()  # set with every hint; cleared by the user

    def add(self, address: str) -> None:
        """Notes an address; its failures begin at 0 again."""
        self.failures[address] = 0
        self.added.set()

    def failed(self, address: str) -> None:
        """Counts a failed connect; nothing happens when the address is no hint."""
        if address in self.failures:
            self.failures[address] += 1


class LinkDirectory:
    """The links of one gateway or ingest; implements the port `Directory`. `add` takes links that are connected."""

    def __init__(self, role: str, node: str) -> None:
        self.shards = 0
        self.cluster_id = ""
        self.generation = 0
        self.hints = Hints()
        self.nodes: dict[str, Link] = {}
        self.role = role
        self.node = node
        self._user: DirectoryUser | None = None
        self._version_1: set[Link] = set()  # links whose far end knows nothing of members and users
        self._served: dict[int, Served] = {}
        self._highest: dict[int, int] = {}  # epoch by shard, across links: an owner that was replaced stays so
        self._pending: dict[int, _Pending] = {}
        self._ingests: dict[Link, int] = {}  # how many are linked, as each dispatcher counts them
        self._next_req = 1
        self._shard_of = lru_cache(CACHED_TOPICS)(self._compute_shard)

    # -- the port

    def deliver_to(self, user: DirectoryUser) -> None:
        """Names the one object that gets pushes and news of owners; see the port."""
        self._user = user

    def shard_of(self, topic_id: str) -> int:
        """Returns the shard of a topic. Raises Refusal `not_ready` while `shards` is not known."""
        return self._shard_of(topic_id)

    def shard_of_user(self, user_id: str) -> int:
        """Returns the shard of a user: not kept, for most are asked for once. Raises Refusal `not_ready`."""
        return self._compute_shard(user_id)

    def linked(self, shard: int) -> bool:
        """Returns whether the shard's owner is linked."""
        return shard in self._served

    @property
    def has_links(self) -> bool:
        """Whether a dispatcher is linked, whatever it owns."""
        return bool(self.nodes)

    def missing(self) -> str | None:
        """Returns None when every shard's owner is linked, else one sentence for the readiness probe."""
        return self.all_missing() or self.some_missing()

    def all_missing(self) -> str | None:
        """Returns None while the owner of at least one shard is linked, else one sentence."""
        if not self.shards:
            return "no dispatcher has been reached yet"
        return None if self._served else f"no link to the owner of any of {self.shards} shards"

    def some_missing(self) -> str | None:
        """Returns one sentence while some shards have a linked owner and others have none, else None."""
        if not self._served or not self.missing_count:
            return None
        away = [shard for shard in range(self.shards) if shard not in self._served]
        return f"no link to the owner of {len(away)} of {self.shards} shards ({away[:8]})"

    @property
    def missing_count(self) -> int:
        """Shards whose owner is not linked; 0 while it is not known how many there are."""
        return self.shards - len(self._served)

    def request(self, shard: int, build: Callable[[int], link.Request], on_answer: OnAnswer) -> None:
        """Sends a request to the owner; `on_answer` is called once, in band.

        It gets Refused `not_ready` without an owner, and from an owner whose link version does not know the request.
        """
        req = self._next_req
        self._next_req += 1
        served = self._served.get(shard)
        if served is None:
            on_answer(link.Refused(req, "not_ready", f"the owner of shard {shard} is away"))
            return
        message = build(req)
        if self._unknown_to(served.wire, message):
            on_answer(link.Refused(req, "not_ready", f"the owner of shard {shard} has not been upgraded yet"))
            return
        self._pending[req] = _Pending(shard, served.wire, on_answer)
        served.wire.send(message)

    def ask(self, shard: int, build: Callable[[int], link.Request]) -> "asyncio.Future[link.Answer]":
        """Like `request`, but returns a future; Refused becomes the exception Refusal."""
        future, on_answer = future_answer()
        asked: list[int] = []

        def numbered(req: int) -> link.Request:
            asked.append(req)
            return build(req)

        self.request(shard, numbered, on_answer)
        future.add_done_callback(lambda done: self._forget(asked))  # also when nobody waits any longer
        return future

    def _compute_shard(self, name: str) -> int:
        if not self.shards:
            raise Refusal("not_ready", "no dispatcher has been reached yet", retry_after_ms=1_000)
        return shard_of(topic_key(name), self.shards)

    def _forget(self, asked: list[int]) -> None:
        for req in asked:
            self._pending.pop(req, None)

    def send(self, shard: int, message: link.Message) -> None:
        """Sends a message that has no answer; nothing happens while the owner is away, or does not know it yet."""
        served = self._served.get(shard)
        if served is not None and not self._unknown_to(served.wire, message):
            served.wire.send(message)

    def _unknown_to(self, wire: Link, message: link.Message) -> bool:
        return wire in self._version_1 and isinstance(message, link.SinceVersion2)

    # -- links

    def add(self, wire: Link) -> None:
        """Adds a connected link and sends HELLO on it."""
        wire.deliver_to(lambda messages: self._on_messages(wire, messages), lambda reason: self._on_close(wire, reason))
        wire.send(
            link_hello.Hello(
                link.VERSION_LOW, link.VERSION_HIGH, self.role, self.node, self.cluster_id, self.generation
            )
        )

    def _on_messages(self, wire: Link, messages: list[link.Message]) -> None:
        for message in messages:
            try:
                if type(message) is link.Messages:  # nearly all
                    self._push(wire, self._shard_of(message.topic_id), message)
                else:
                    self._on_message(wire, message)
            except Exception:  # a fault with one message (one session, one topic) must not end the link of all
                logger.exception("a message from a dispatcher failed", peer=wire.peer, kind=type(message).__name__)

    def _on_message(self, wire: Link, message: link.Message) -> None:
        req = getattr(message, "req", None)
        if isinstance(message, Ingests):
            self._ingests[wire] = message.count
            self._tell_ingests()
        elif isinstance(message, _PushOrRequest):
            self._on_push(wire, message)
        elif req is not None:
            self._answer(req, message)
        elif isinstance(message, link_hello.Welcome):
            self._welcome(wire, message)
        elif isinstance(message, link_hello.Owners):
            self._owners(wire, message.owners)
        else:
            self._on_push(wire, message)

    def _answer(self, req: int, message: link.Message) -> None:
        pending = self._pending.pop(req, None)
        if pending is not None:
            pending.on_answer(message)  # type: ignore[arg-type]  # only answers have a req on this end

    def _on_push(self, wire: Link, message: link.Message) -> None:
        """Passes a push to the user. What concerns no shard is passed from every dispatcher, with the epoch 0."""
        if self._user is None:
            return
        if isinstance(message, _OfAllShards):
            self._user.on_push(0, message)
        else:
            self._push(wire, self._shard_of_push(message), message)

    def _push(self, wire: Link, shard: int, message: link.Message) -> None:
        """Passes a push of a shard's owner to the user; one of an owner that was replaced is dropped."""
        served = self._served.get(shard)
        if served is not None and served.wire is wire and self._user is not None:
            self._user.on_push(served.epoch, message)

    def _shard_of_push(self, message: link.Message) -> int:
        if isinstance(message, _ByShard):
            return message.shard
        if isinstance(message, UsersElsewhere | UserHints):
            return self.shard_of_user(message.users[0].user_id) if message.users else -1
        if isinstance(message, EndSubscriptions | AskConnections | UserRead):
            return self.shard_of_user(message.user_id)
        if isinstance(message, ReplaceSubscription):
            return self.shard_of_user(message.lease.user_id)
        about: object = message
        if isinstance(message, Throttled | Queued) and message.topics:  # all of one shard
            about = message.topics[0]
        return self.shard_of(getattr(about, "topic_id", ""))

    def _tell_ingests(self) -> None:
        """Tells the user the largest of the dispatchers' counts: one that was just started knows few ingests."""
        if self._ingests and self._user is not None:
            self._user.on_push(0, Ingests(max(self._ingests.values())))

    def _welcome(self, wire: Link, welcome: link_hello.Welcome) -> None:
        if self.cluster_id and welcome.cluster_id != self.cluster_id:
            wire.close(f"cluster {welcome.cluster_id}, expected {self.cluster_id}")
            return
        if welcome.node in self.nodes:
            wire.peer = welcome.node
            wire.close(f"{welcome.node} is linked already, by another address")
            return
        if not welcome.cluster_id:
            wire.close(f"{welcome.node} has not read its log yet")
            return
        wire.peer = welcome.node
        self.nodes[welcome.node] = wire
        if welcome.version == 1:
            self._version_1.add(wire)
        if self.shards != welcome.shards:
            self._shard_of.cache_clear()
        self.shards, self.cluster_id = welcome.shards, welcome.cluster_id
        self.generation = max(self.generation, welcome.generation)
        self._owners(wire, welcome.owners)

    def _owners(self, wire: Link, owners: list[link_hello.Owner]) -> None:
        """Notes a dispatcher's shards; those that it does not serve are hints where other dispatchers listen."""
        for owner in owners:
            if not owner.served:
                self.hints.add(owner.address)
            elif owner.epoch == 0:
                self._lost(owner.shard, wire)
            else:
                self._gained(owner, wire)

    def _gained(self, owner: link_hello.Owner, wire: Link) -> None:
        current, highest = self._served.get(owner.shard), self._highest.get(owner.shard, 0)
        if owner.epoch < highest:
            wire.send(link_hello.Refuse(owner.shard, highest))
            return
        self._highest[owner.shard] = owner.epoch
        if current is not None and current.wire is wire and current.epoch == owner.epoch:
            return
        if current is not None:
            del self._served[owner.shard]  # who is refused now and asks for more at once must not ask the old owner
            self._announce(owner.shard, up=False)
            current.wire.send(link_hello.Refuse(owner.shard, owner.epoch))
            # An answer of the old owner's is about routes that the new one does not have.
            self._refuse(lambda pending: pending.shard == owner.shard, "it has another owner")
        self._served[owner.shard] = Served(owner.epoch, wire)
        self._announce(owner.shard, up=True)

    def _lost(self, shard: int, wire: Link) -> None:
        served = self._served.get(shard)
        if served is not None and served.wire is wire:
            del self._served[shard]
            self._announce(shard, up=False)
            self._refuse(lambda pending: pending.shard == shard and pending.wire is wire, "its owner has given it up")

    def _refuse(self, lost: Callable[[_Pending], bool], why: str) -> None:
        """Ends the requests that the owner will no longer answer."""
        for req in [req for req, pending in self._pending.items() if lost(pending)]:
            pending = self._pending.pop(req)
            try:
                pending.on_answer(Unanswered(req, "not_ready", f"shard {pending.shard}: {why}"))
            except Exception:  # the others must hear of it too
                logger.exception("a request that was refused failed", shard=pending.shard, why=why)

    def _announce(self, shard: int, *, up: bool) -> None:
        if self._user is not None:
            self._user.on_owner(shard, up)

    def _on_close(self, wire: Link, reason: str) -> None:
        self._version_1.discard(wire)
        if self.nodes.get(wire.peer) is wire:
            del self.nodes[wire.peer]
            logger.info("link closed", peer=wire.peer, why=reason)
        if self._ingests.pop(wire, None) is not None:
            self._tell_ingests()
        self._refuse(lambda pending: pending.wire is wire, f"the link was lost: {reason}")
        for shard in [s for s, served in self._served.items() if served.wire is wire]:
            self._lost(shard, wire)
