"""The gateway role: builds its objects and owns its time; the only place of this package that starts a task."""

import asyncio
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.app import make_app
from gateway.handshake import subprotocols
from gateway.head import Head
from gateway.protocol import GatewayProtocol, ServerShared
from gateway.stream import Stream
from headgate.core.client import inbound
from headgate.core.client.framing import Framing
from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.fanout.commands import Commands
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.ports import GatewayMetrics, Identity
from headgate.core.fanout.session import Session
from headgate.core.fanout.wheel import TICK_S, Visited
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Message
from headgate.runtime.http.callers import Users
from headgate.runtime.http.credentials import USER_HEADER, of_stream, open_user
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.queries import too_many_fields
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Clock, Rng
from headgate.runtime.tokens import Authenticator

_SUBSCRIBE_OPTIONS: Final = ("from", "ack", "presence", "device_id")
_SLICE_S: Final = 0.05  # a drain tells a few sessions at a time


class GatewayOptions(msgspec.Struct, frozen=True):
    """What the settings say about the gateway."""

    limits: Limits = Limits()
    origins: tuple[str, ...] | None = None
    auto_create: bool = False
    query_token: bool = True
    listening: str = ""  # the host listened on, for open mode


class GatewayService:
    """One gateway: its hub, its protocol for uvicorn, its routes, its clock."""

    def __init__(
        self,
        options: GatewayOptions,
        directory: Directory,
        authenticator: Authenticator,
        clock: Clock,
        rng: Rng,
        metrics: GatewayMetrics,
    ) -> None:
        self.options = options
        self.directory = directory
        self.authenticator = authenticator
        self.rng = rng
        self.origins = Origins(options.origins, is_open=authenticator.open)
        self.hosts = Hosts(self.origins, options.listening, is_open=authenticator.open)
        self.draining = False
        self._clock = clock
        self._fronts: dict[int, ServerShared] = {}
        self.hub = Hub(
            options.limits,
            directory,
            metrics,
            self._schedule,
            auto_create=options.auto_create,
            now=clock.now(),
            wall_ms=clock.wall_ms(),
        )
        self.reception = Commands(self.hub, authenticator)

    # For the role

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """See `headgate.runtime.links.port.DirectoryUser`."""
        self.hub.on_push(shard_epoch, message)

    def on_owner(self, shard: int, up: bool) -> None:
        """See `headgate.runtime.links.port.DirectoryUser`."""
        self.hub.on_owner(shard, up)

    def app(self, fallback: ASGIApp | None = None) -> ASGIApp:
        """Returns the application behind the protocol; what it does not serve goes to `fallback`, or is 404."""
        users = Users(self.authenticator, self.origins)
        return self.hosts.guard(make_app(self.hub, self.directory, users, fallback))

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Makes the protocol of one connection: the value of uvicorn's setting `http`."""
        front = self._fronts.get(id(server_state))
        if front is None:
            front = self._fronts[id(server_state)] = ServerShared(self, config, server_state, app_state)
        return GatewayProtocol(front)

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.hub.tick(self._clock.now(), self._clock.wall_ms())

    async def drain(self, spread_s: float) -> None:
        """Takes no stream any more and tells every session to go elsewhere, spread over `spread_s` seconds."""
        self.draining = True
        sessions = list(self.hub.sessions)
        begin = self._clock.now()
        told = 0
        while told < len(sessions):
            passed = self._clock.now() - begin
            share = 1.0 if passed >= spread_s else (passed + _SLICE_S) / spread_s
            upto = min(len(sessions), max(told + 1, int(len(sessions) * share)))
            for session in sessions[told:upto]:
                self.leave(session)
            told = upto
            await asyncio.sleep(_SLICE_S if told < len(sessions) else 0)
        for session in list(self.hub.sessions):
            self.leave(session)

    # For the protocols

    def plan(self, item: Visited, after_s: float) -> None:
        """Plans a visit."""
        self.hub.vigil.plan(item, self._clock.now() + after_s)

    def busy(self) -> str | None:
        """Says why no stream is taken at the moment, None when there is room."""
        if self.draining:
            return "this gateway is being stopped; connect again"
        if self.hub.session_count >= self.options.limits.connections:
            return "this gateway is full; connect again later"
        return None

    def identify(self, head: Head) -> Identity | None:
        """Returns who asks; None without a credential. Raises Refusal."""
        headers = head.headers
        query = dict(head.query)
        if self.authenticator.open:
            user = headers.get(USER_HEADER, "").encode("latin-1").decode("utf-8", "replace")
            return self.authenticator.anonymous_caller(open_user(query, user))
        credential = of_stream(
            headers.get("authorization"), subprotocols(head), query, query_token=self.options.query_token
        )
        if credential is None:
            return None
        if credential.kind == "ticket":
            raise Refusal("unauthenticated", "tickets are not built yet; use a token")
        return self.authenticator.authenticate(credential.text)

    def new_session(self, stream: Stream, framing: Framing) -> Session:
        """Makes the session of a stream."""
        self._look_at_clock()
        session = Session(stream, framing, self.rng.entropy(16).hex(), self.hub.now)
        stream.session = session
        self.hub.open(session)
        return session

    def begin(self, session: Session, head: Head) -> None:
        """Opens a WebSocket session: welcome and the topics of the query, or the wait for `auth`."""
        session.wanted = _wanted(head, self.options.limits.topics_allowed)
        try:
            identity = self.identify(head)
        except Refusal as refusal:
            self.hub.metrics.refused(refusal.code, refusal.detail)
            self.hub.disconnect(session, 4401)
            return
        if identity is None:
            session.deadline = self.hub.now + self.options.limits.auth_s
        elif self.hub.admit(session, identity):
            self.reception.begin(session)

    def heard(self, session: Session) -> None:
        """Bytes came from the client."""
        self._look_at_clock()
        session.heard_at = self.hub.now

    def receive(self, session: Session, message: bytes) -> None:
        """A message came from the client."""
        self.reception.receive(session, message)

    def counts_frame(self, session: Session) -> bool:
        """Counts a frame that is no whole message; false when there are too many."""
        return session.counts_frame(self.hub.now, self.options.limits)

    def pong(self, session: Session, frame: bytes) -> None:
        """Answers a ping of the socket's; who asks and does not read the answers is cut."""
        if session.paused and session.outlet.queued() > self.options.limits.queue_bytes:
            self.hub.disconnect(session, 4508)
        else:
            session.put(frame)

    def paused(self, session: Session) -> None:
        """The socket takes no more."""
        self.hub.catchup.park(session, self._clock.now())

    def resumed(self, session: Session) -> None:
        """The socket takes bytes again."""
        self._look_at_clock()
        self.hub.catchup.resume(session)

    def lost(self, session: Session) -> None:
        """The connection is gone."""
        session.closed = True
        self.hub.drop(session)

    def leave(self, session: Session) -> None:
        """Tells a session to go elsewhere."""
        if not session.closed:
            self.hub.disconnect(session, 4601, retry_after_ms=int(self.rng.random() * 1_000))

    def _look_at_clock(self) -> None:
        self.hub.now, self.hub.wall_ms = self._clock.now(), self._clock.wall_ms()

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self.hub.flush(self._clock.now(), self._clock.wall_ms())


def _wanted(head: Head, most: int) -> list[tuple[str, Subscribe | Refusal]]:
    """Reads the first `most` topics of a WebSocket's query, in order; what is wrong with one is its answer.

    It may be held for seconds before anybody knows who asks: of the topics above `most` only the first is answered.
    """
    options = {name: value for name, value in head.query if name in _SUBSCRIBE_OPTIONS}
    topics = [value for name, value in head.query if name == "topic_id"]
    wishes = [(topic_id, _wish(topic_id, options)) for topic_id in topics[:most]]
    if len(topics) > most:
        detail = f"the query names {len(topics)} topics; a connection follows at most {most}"
        wishes.append((topics[most], Refusal("limit_reached", detail)))
    if not head.complete:
        wishes.append(("", too_many_fields()))
    return wishes


def _wish(topic_id: str, options: dict[str, str]) -> Subscribe | Refusal:
    try:
        return inbound.subscribe_from_query(topic_id, options)
    except Refusal as refusal:
        return refusal
