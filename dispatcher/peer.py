"""One link as the dispatcher sees it: HELLO, then requests by shard; knows no transport."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from dispatcher.shard import LINK_BYTES, Destination, ShardOwner
from headgate.core.sequencer.routes import Route
from headgate.core.wire import link
from headgate.core.wire.ids import shard_of, topic_key
from headgate.runtime.ports import Link

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher

logger = structlog.get_logger("dispatcher")

LOW_BYTES: Final = LINK_BYTES // 4
MAX_ASKS: Final = 100_000  # requests of one link that wait for room; a gateway asks at most two a session

_LARGE = (link.Fetch, link.AskHistory)
_BY_SHARD = (link.Attach, link.AskTopics, link.AskCount, link.AskVerdict)


class Peer:
    """The far end of one link. `pump` is its one task: it serves the routes that have fallen behind."""

    def __init__(self, dispatcher: "Dispatcher", wire: Link) -> None:
        self._dispatcher = dispatcher
        self._wire = wire
        self._behind: deque[tuple[ShardOwner, Route[Destination]]] = deque()
        self._asks: deque[tuple[ShardOwner, link.Message]] = deque()
        self._wake = asyncio.Event()
        self._paused = False
        self.role = ""
        self.open = True
        wire.deliver_to(self._on_messages, self._on_close)

    # -- what shards need

    def send(self, message: link.Message) -> None:
        """Queues a message."""
        self._wire.send(message)

    @property
    def congested(self) -> bool:
        """Whether the link takes no more live messages."""
        return self._wire.pending_bytes > LINK_BYTES

    def fall_behind(self, owner: ShardOwner, route: Route[Destination]) -> None:
        """Serves the route from the index until it is in step again."""
        if not route.behind:
            route.behind = True
            self._behind.append((owner, route))
            self._wake.set()

    def later(self, owner: ShardOwner, message: link.Message) -> None:
        """Handles a request when the link has room for its answer."""
        if len(self._asks) < MAX_ASKS:
            self._asks.append((owner, message))
            self._wake.set()
        else:
            self._refuse(message, "overloaded", "too many requests wait on this link")

    # -- the link

    def _on_messages(self, messages: list[link.Message]) -> None:
        for message in messages:
            try:
                self._on_message(message)
            except Exception:  # one bad message must not cost the others of its batch
                logger.exception("a message of a link failed", peer=self._wire.peer, kind=type(message).__name__)
                self._refuse(message, "internal", "the dispatcher failed at this message")

    def _refuse(self, message: link.Message, code: str, detail: str) -> None:
        req = getattr(message, "req", None)
        if req is not None:
            self.send(link.Refused(req, code, detail))

    def _on_message(self, message: link.Message) -> None:
        if isinstance(message, link.Hello):
            self._hello(message)
            return
        if isinstance(message, link.Refuse):
            self._dispatcher.refused(message.shard, message.epoch)
            return
        if not self.role:
            self.close("a link begins with HELLO")
            return
        shard = self._shard_of(message)
        desk = self._dispatcher.desk(shard)
        if desk is not None and not self._must_wait(message):
            desk.handle(self, message)
            return
        if desk is not None:
            self.later(self._dispatcher.owners[shard], message)
            return
        self._refuse(message, "not_ready", f"shard {shard} is not served here now")

    def _must_wait(self, message: link.Message) -> bool:
        """Says whether a message has to wait for `pump`.

        A request with a large answer waits for room on the link, behind those before it. After a pause all wait until
        this node knows what it owns, and none overtakes those that came meanwhile: a lost attach is a lost route.
        """
        if not self._dispatcher.lease.held():
            self._paused = True
        elif not self._asks:
            self._paused = False
        if self._paused:
            return True
        large = isinstance(message, _LARGE) or (isinstance(message, link.AskSubscribe) and message.position is not None)
        return large and (bool(self._asks) or self._wire.pending_bytes >= LOW_BYTES)

    def _shard_of(self, message: link.Message) -> int:
        if isinstance(message, _BY_SHARD):
            return message.shard
        topic_id: str = getattr(message, "topic_id", "")
        return shard_of(topic_key(topic_id), self._dispatcher.shards)

    def _hello(self, hello: link.Hello) -> None:
        welcome = self._dispatcher.welcome(hello)
        if self._wire.role not in ("", hello.role):
            welcome = f"a link that was opened as {self._wire.role} says that it is {hello.role[:16]}"
        if isinstance(welcome, str):
            self.close(welcome)
            return
        self.role = hello.role
        self._wire.peer = hello.node
        self.send(welcome)
        self._dispatcher.joined(self)

    def close(self, reason: str) -> None:
        """Ends the link."""
        self._wire.close(reason)

    def _on_close(self, _reason: str) -> None:
        self.open = False
        self._wake.set()
        self._dispatcher.left(self)

    async def pump(self) -> None:
        """Answers what waits for room and serves routes that are behind, in turn, until the link is closed."""
        try:
            await self._serve()
        except Exception:  # the task's root: a fault here must end this link alone
            logger.exception("a link failed", peer=self._wire.peer)
            self.close("the dispatcher failed at this link")

    async def _serve(self) -> None:
        while self.open:
            if not self._behind and not self._asks:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._wire.drained(LOW_BYTES)
            await self._dispatcher.may_push()
            if self._asks:
                self._answer(*self._asks.popleft())
            if self._behind:
                self._advance()
            await asyncio.sleep(0)

    def _answer(self, owner: ShardOwner, message: link.Message) -> None:
        desk = self._dispatcher.desk(owner.number)
        if desk is not None:
            desk.handle(self, message)
        else:
            self._refuse(message, "not_ready", f"shard {owner.number} was given up")

    def _advance(self) -> None:
        """Serves the next route that is behind."""
        owner, route = self._behind.popleft()
        served = self._dispatcher.owners.get(owner.number) is owner
        if not served or owner.routes.get(self, route.topic_id) is not route:
            return
        if not self._page(owner, route):
            self._behind.append((owner, route))

    def _again(self, owner: ShardOwner, route: Route[Destination]) -> None:
        """Goes on with a route that waited for its next page."""
        self._behind.append((owner, route))
        self._wake.set()

    def _page(self, owner: ShardOwner, route: Route[Destination]) -> bool:
        """Sends one page; says whether the route is in step again, gone, or waits for more of its topic's history."""
        row = owner.rows.get(topic_key(route.topic_id))
        if row is None or row.epoch != route.epoch:
            return True
        owner.send_open()
        if route.sent >= row.seq:
            route.behind = False
            return True
        count = min(link.PAGE_COUNT, row.seq - route.sent)
        span = owner.history.span(route.epoch, route.sent + 1, count, link.PAGE_BYTES)
        if span.absent:
            owner.pages.want(row, span.absent, self, lambda: self._again(owner, route))
            return True
        if not owner.history.complete and not (span.frames and span.seq == route.sent + 1):
            owner.history.wait(route.epoch, self, lambda: self._again(owner, route))
            return True
        if not span.frames:  # all of it is gone from the log: the gateway sees the hole and says it
            route.sent = row.seq
            return False
        self.send(link.Messages(route.topic_id, route.epoch, span.seq, span.ts, span.frames))
        self._dispatcher.linked(len(span.frames))
        route.sent = span.seq + len(span.frames) - 1
        return False
