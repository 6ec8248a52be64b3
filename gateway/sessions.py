"""The sessions of a gateway for the protocols of its connections: they are created, started, fed and ended here."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.gateway_options import GatewayOptions
from gateway.head import Head
from gateway.stream_callers import StreamCallers
from headgate.core.client import inbound
from headgate.core.client.framing import Framing
from headgate.core.client.inbound import Subscribe
from headgate.core.fanout.commands import Commands
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.ports import GatewayMetrics, Moment, Outlet
from headgate.core.fanout.session import Session
from headgate.core.fanout.wheel import Visited
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskTopic, Refused, Request, TopicAnswer
from headgate.core.wire.link_users import Revocation
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller, Identity, may_create, may_subscribe, require
from headgate.runtime.http.queries import too_many_fields
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Shell
from headgate.runtime.tokens import Authenticator

SLICE_SESSIONS: Final = 10_000  # looked at in one loop turn: a few milliseconds
_UNAUTHENTICATED: Final = 4401
_DRAINING: Final = 4601


class Sessions:
    """All sessions of one gateway. No method waits. A write may fill a socket: then `paused` is called meanwhile."""

    def __init__(
        self,
        options: GatewayOptions,
        hub: Hub,
        directory: Directory,
        authenticator: Authenticator,
        shell: Shell[GatewayMetrics],
    ) -> None:
        self.limits = options.limits
        self.is_open = authenticator.open  # auth.mode open: credentials are ignored
        self.draining = False
        self._options = options
        self._hub = hub
        self._commands = Commands(hub, authenticator)
        self._directory = directory
        self._authenticator = authenticator
        self.callers = StreamCallers(
            authenticator, directory, hub.deadlines, shell.clock, query_token=options.query_token
        )
        self._clock = shell.clock
        self._rng = shell.rng
        self.count_refusal = shell.metrics.refused

    # Before there is a session

    def busy(self) -> str | None:
        """Returns why no stream is accepted now, None when there is room."""
        if self.draining:
            return "this gateway is being stopped; connect again"
        if self._hub.session_count >= self.limits.connections:
            return "this gateway is full; connect again later"
        return None

    def begin_drain(self) -> None:
        """From now on `busy` has a reason."""
        self.draining = True

    def check_topic(self, topic_id: str, caller: Caller, on_answer: Callable[[Refusal | None], None]) -> None:
        """Asks the owner whether `caller` may subscribe to a topic, without subscribing.

        `on_answer` is called once, with None or with the reason why not. A topic that is missing is no reason where
        the subscribe would create it. Raises Refusal `not_ready` while the number of shards is not known.
        """

        def build(req: int) -> Request:
            return AskTopic(req, topic_id, caller)

        def answered(answer: Answer) -> None:
            on_answer(self._reason_of(topic_id, caller, answer))

        self._directory.request(self._directory.shard_of(topic_id), build, answered)

    def refused(self, refusal: Refusal) -> None:
        """Counts what a client was refused."""
        self.count_refusal(refusal.code, refusal.detail)

    def plan(self, item: Visited, after_s: float) -> float:
        """Calls `item.visit` after so many seconds, up to a quarter second later; returns when that is due."""
        due = self._clock.now() + after_s
        self._hub.deadlines.plan(item, due)
        return due

    # The start of a session

    def create(self, outlet: Outlet, framing: Framing, preface: bytes = b"") -> Session:
        """Makes the session of a socket; `preface` is written before its first frame.

        Where an answer before it is not read yet, the transport may be full, and has said so to the protocol before.
        """
        session = Session(outlet, framing, self._rng.entropy(16), self._clock.now(), preface)
        self._hub.open(session)
        if outlet.queued():
            self.paused(session)
        return session

    def start_websocket(self, session: Session, head: Head, then: Callable[[], None]) -> None:
        """Writes the preface and `welcome` and subscribes to the topics of the query.

        While an owner is asked for the first topic they wait for its answer, and go out with it in one write;
        the session's next visit (`Deadlines`) and anything from the client end that wait. Without a credential
        it writes the preface only and waits for an `auth` frame. Calls `then` once it has done so, now or when
        the caller is known: until then no frame of the client's must be handed in.
        """
        self._hub.pending.want(session, _wanted(head, self.limits.topics_allowed))

        def known(caller: Identity | Refusal | None) -> None:
            self._begin(session, caller)
            if not self._hub.pending.awaits_answer(session):
                session.release()
            then()

        self.callers.identify(head, known)
        if session.is_unknown:
            session.release()  # it does not wait for a caller who is known later

    def _begin(self, session: Session, caller: Identity | Refusal | None) -> None:
        if session.closed:
            return
        moment = self._moment()
        if isinstance(caller, Refusal):
            self.refused(caller)
            if caller.retryable:
                self._hub.overloaded(session, caller.retry_after_ms)
            else:
                self._hub.disconnect(session, _UNAUTHENTICATED)
        elif caller is None:
            session.await_auth(moment.now + self.limits.auth_s)
        elif self._hub.admit(session, caller, moment):
            self._hub.begin(session, moment)

    def start_sse(self, session: Session, identity: Identity, wanted: Subscribe) -> None:
        """Puts `welcome` behind the preface and subscribes; nothing is written before the owner has answered.

        Raises Refusal `limit_reached`.
        """
        moment = self._moment()
        if self._hub.admit(session, identity, moment):
            self._hub.subscribe(session, wanted, moment)

    # Events of a socket

    def heard(self, session: Session) -> None:
        """Bytes came from the client."""
        session.hear(self._clock.now())

    def receive(self, session: Session, message: bytes) -> None:
        """A message came from the client."""
        self._commands.receive(session, message, self._moment())

    def counts_frame(self, session: Session) -> bool:
        """Counts a ping, pong or fragment; false when there are too many."""
        return session.counts_frame(self._clock.now(), self.limits)

    def pong(self, session: Session, frame: bytes) -> None:
        """Answers a ping of the client's. A client that pings and does not read the answers is cut off."""
        if session.paused and session.outlet.queued() > self.limits.queue_bytes:
            self._hub.disconnect(session, 4508)
        else:
            session.put(frame)

    def paused(self, session: Session) -> None:
        """The socket's buffer is above the high-water mark."""
        self._hub.catchup.park(session, self._clock.now())

    def resumed(self, session: Session) -> None:
        """The socket's buffer is below the low-water mark again."""
        self._hub.resume(session, self._moment())

    def lost(self, session: Session) -> None:
        """The connection is gone."""
        self._hub.lost(session)

    # Ends of sessions and subscriptions

    def leave(self, session: Session) -> None:
        """Tells a session to reconnect elsewhere (4601), after a random part of a second."""
        if not session.closed:
            self._hub.disconnect(session, _DRAINING, retry_after_ms=int(self._rng.random() * 1_000))

    def revoke(self, revocations: Sequence[Revocation]) -> None:
        """Refuses the tokens and tickets that these void, and ends the sessions that were begun with one (4401)."""
        fresh = self._authenticator.revoke(revocations)
        users = {revocation.user_id for revocation in fresh if revocation.user_id}
        ids = {revocation.jti for revocation in fresh if revocation.jti}
        if fresh:
            self._end_revoked(self._hub.connections.all(), users, ids)

    def _end_revoked(self, sessions: list[Session], users: set[str], ids: set[str]) -> None:
        """Looks at some sessions, and at the rest in later loop turns. Newer ones were checked at their beginning."""
        for session in sessions[:SLICE_SESSIONS]:
            caller = session.caller
            if session.closed or caller is None or not (caller.user_id in users or session.jti in ids):
                continue
            if self._authenticator.revoked.voids(caller.user_id, session.jti, session.issued_ms):
                self._hub.disconnect(session, _UNAUTHENTICATED)
        rest = sessions[SLICE_SESSIONS:]
        if rest:
            asyncio.get_running_loop().call_soon(self._end_revoked, rest, users, ids)

    def turn_away(self, session: Session, retry_after_ms: int | None = None) -> None:
        """Ends a session for which `busy` has a reason, or whose caller cannot be told yet."""
        if self.draining:
            self._hub.disconnect(session, _DRAINING)
        else:
            self._hub.overloaded(session, retry_after_ms)

    def _reason_of(self, topic_id: str, caller: Caller, answer: Answer) -> Refusal | None:
        if isinstance(answer, TopicAnswer):
            try:
                role = Role(answer.role) if answer.role else None
                require(may_subscribe(caller, answer.info, role), caller, answer.info, role, "subscribe to")
            except Refusal as refusal:
                return refusal
        elif isinstance(answer, Refused):
            missing = answer.code == "topic_not_found"
            if not (missing and self._options.auto_create and may_create(caller, topic_id)):
                return refusal_of(answer)
        return None

    def _moment(self) -> Moment:
        return Moment(self._clock.now(), self._clock.wall_ms())


def _wanted(head: Head, most: int) -> list[tuple[str, Subscribe | Refusal]]:
    """Reads the first `most` topics of a WebSocket's query, in order, each with its error where it has one.

    They may wait for seconds for an `auth` frame: of the topics above `most` only the first is kept, as an error.
    """
    options = dict(head.query)
    topics = [value for name, value in head.query if name == "topic_id"]
    wanted = [(topic_id, _subscribe(topic_id, options)) for topic_id in topics[:most]]
    if len(topics) > most:
        detail = f"the query names {len(topics)} topics; a connection follows at most {most}"
        wanted.append((topics[most], Refusal("limit_reached", detail)))
    if not head.complete:
        wanted.append(("", too_many_fields()))
    return wanted


def _subscribe(topic_id: str, options: dict[str, str]) -> Subscribe | Refusal:
    try:
        return inbound.subscribe_from_query(topic_id, options)
    except Refusal as refusal:
        return refusal
