"""The far end of one link, a gateway or an ingest: what it is sent, and what waits for room on its link."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from dispatcher.backlog import ABOVE, Backlog
from dispatcher.lease import Lease
from dispatcher.ports import DispatcherMetrics
from dispatcher.shard import LINK_BYTES, Destination, ShardOwner
from headgate.core.sequencer.routes import Route
from headgate.core.wire import link, link_hello
from headgate.core.wire.ids import topic_key
from headgate.runtime.ports import Link

logger = structlog.get_logger("dispatcher")

GATEWAY: Final = "gateway"  # the role in a gateway's HELLO
LOW_BYTES: Final = LINK_BYTES // 4
_NO_BACKLOG: Final[Mapping[str, int]] = {}
MAX_WAITING: Final = 100_000  # requests of one link that wait for room; a gateway sends few for each session


class Peer:
    """One link. `pump` is its one task: it answers waiting requests and serves the routes that have fallen behind."""

    def __init__(self, wire: Link, lease: Lease, metrics: DispatcherMetrics) -> None:
        self._wire = wire
        self._lease = lease
        self._metrics = metrics
        self._behind: deque[tuple[ShardOwner, Route[Destination]]] = deque()
        self._waiting: deque[Callable[[], None]] = deque()
        self._wake = asyncio.Event()
        self._paused = False
        self._backlog = Backlog()
        self.role = ""  # empty until HELLO
        self.version = link.VERSION_LOW  # of the link, known after HELLO
        self.open = True

    @property
    def name(self) -> str:
        """The node at the far end, for log lines; known after HELLO."""
        return self._wire.peer

    @property
    def is_gateway(self) -> bool:
        """Whether the far end is a gateway; known after HELLO."""
        return self.role == GATEWAY

    @property
    def has_left(self) -> bool:
        """Whether the link has ended because the far end's process stops."""
        return self._wire.far_has_left

    @property
    def knows_users(self) -> bool:
        """Whether the far end, if it is a gateway, announces its users."""
        return self.version >= 2

    # -- what shards need

    def send(self, message: link.Message) -> None:
        """Queues a message."""
        before = self._wire.pending_bytes
        self._wire.send(message)
        if before > ABOVE or self._backlog:
            self._backlog.sent(before, self._wire.pending_bytes)
            if isinstance(message, link.Messages | link.EphemeralMessages):
                self._backlog.mark(message.topic_id, len(message.frames))

    @property
    def backlog(self) -> Mapping[str, int]:
        """How many messages of each topic wait on the link, where many do."""
        return self._backlog.counts(self._wire.pending_bytes) if self._backlog else _NO_BACKLOG

    @property
    def queued(self) -> int:
        """The bytes that wait on the link."""
        return self._wire.pending_bytes

    @property
    def congested(self) -> bool:
        """Whether the link takes no more live messages."""
        return self._wire.pending_bytes > LINK_BYTES

    def fall_behind(self, owner: ShardOwner, route: Route[Destination]) -> None:
        """Serves the route from history until it is in step again."""
        if not route.behind:
            route.behind = True
            self._serve_again(owner, route)

    def later(self, answer: Callable[[], None]) -> bool:
        """Has `answer` called when the link has room. Returns False when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(answer)
        self._wake.set()
        return True

    # -- what the dispatcher needs

    def welcome(self, hello: link_hello.Hello, welcome: link_hello.Welcome | str) -> bool:
        """Answers a HELLO, or closes the link with the reason why not. Returns whether it was answered."""
        if self._wire.role not in ("", hello.role):
            welcome = f"a link that was opened as {self._wire.role} says that it is {hello.role[:16]}"
        if isinstance(welcome, str):
            self.close(welcome)
            return False
        self.role, self.version = hello.role, welcome.version
        self._wire.peer = hello.node
        self.send(welcome)
        return True

    def must_wait(self, *, large: bool) -> bool:
        """Returns whether a request has to wait for `pump`; `large` where its answer may be large.

        A large answer waits for room on the link, behind those before it. After a pause of the process all requests
        wait until this node knows what it owns, and later ones wait behind them: a lost attach would be a lost route.
        """
        if not self._lease.held():
            self._paused = True
        elif not self._waiting:
            self._paused = False
        if self._paused:
            return True
        return large and (bool(self._waiting) or self._wire.pending_bytes >= LOW_BYTES)

    def refuse(self, message: link.Message, code: str, detail: str) -> None:
        """Refuses a message, if it is one that has an answer."""
        req = getattr(message, "req", None)
        if req is not None:
            self.send(link.Refused(req, code, detail))

    def close(self, reason: str) -> None:
        """Ends the link."""
        self._wire.close(reason)

    def closed(self) -> None:
        """Notes that the link has ended."""
        self.open = False
        self._wake.set()

    async def pump(self) -> None:
        """Serves what waits for room, a request and a page of a route in turn, until the link is closed."""
        try:
            await self._serve()
        except Exception:  # the task's root: a fault here must end this link alone
            logger.exception("a link failed", peer=self.name)
            self.close("the dispatcher failed at this link")

    async def _serve(self) -> None:
        while self.open:
            if not self._behind and not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._wire.drained(LOW_BYTES)
            await self._lease.wait()
            if self._waiting:
                self._waiting.popleft()()
            if self._behind:
                self._serve_route(*self._behind.popleft())
            await asyncio.sleep(0)

    # -- routes that are behind

    def _serve_again(self, owner: ShardOwner, route: Route[Destination]) -> None:
        self._behind.append((owner, route))
        self._wake.set()

    def _serve_route(self, owner: ShardOwner, route: Route[Destination]) -> None:
        if owner.closed or owner.routes.get(self, route.topic_id) is not route:
            return
        if self._send_page(owner, route):
            self._behind.append((owner, route))

    def _send_page(self, owner: ShardOwner, route: Route[Destination]) -> bool:
        """Sends one page of a route; returns False where it is in step again, has ended, or waits for history."""
        row = owner.rows.get(topic_key(route.topic_id))
        if row is None or row.epoch != route.epoch:
            return False
        owner.send_open()
        if route.sent >= row.seq:
            route.behind = False
            return False
        if not owner.history.complete and row.others and route.sent + 1 < owner.history.first_seq(row.epoch, row.seq):
            owner.history.wait(route.epoch, self, lambda: self._serve_again(owner, route))
            return False  # an event that is not here yet may have changed the message
        count = min(link.PAGE_COUNT, row.seq - route.sent)
        span = owner.history.span(route.epoch, route.sent + 1, count, link.PAGE_BYTES)
        if span.absent:
            owner.pages.want(row, span.absent, self, lambda: self._serve_again(owner, route))
            return False
        if not owner.history.complete and not (span.frames and span.seq == route.sent + 1):
            owner.history.wait(route.epoch, self, lambda: self._serve_again(owner, route))
            return False
        if not span.frames:  # the log has lost all of it: the gateway sees the gap and tells its clients
            route.sent = row.seq
            return True
        page = link.Messages(route.topic_id, route.epoch, span.seq, span.ts, span.frames)
        if row.others:
            owner.amendments.before_page(self, page, route.sent)
        self.send(page)
        self._metrics.link_messages("out", len(span.frames))
        route.sent = span.seq + len(span.frames) - 1
        return True
