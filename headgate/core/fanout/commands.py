"""What a WebSocket client's frames do (PROTOCOL section 3): decides and answers; knows neither bytes nor sockets."""

from functools import partial

from headgate.core.client import inbound, outbound
from headgate.core.client.inbound import (
    Allowance,
    AskPresence,
    Auth,
    BadFrame,
    ClientFrameHead,
    Ping,
    Subscribe,
    Unsubscribe,
)
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.pending import PATIENCE_S, PendingSubscribe
from headgate.core.fanout.ports import TokenReader
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskCount, Counts, Refused, Request
from headgate.core.wire.linkcodec import refusal_of


class Commands:
    """Takes the frames of all sessions."""

    def __init__(self, hub: Hub, tokens: TokenReader) -> None:
        self._hub = hub
        self._tokens = tokens
        hub.openings.settled = self._settled

    def receive(self, session: Session, data: bytes) -> None:
        """Takes one data frame's payload, valid UTF-8 or not JSON at all. `hub.now` is the present."""
        if session.paused and session.outlet.queued() > self._hub.limits.queue_bytes:
            self._hub.disconnect(session, 4508)  # it asks and does not read the answers
            return
        try:
            frame = inbound.open_envelope(data)
        except BadFrame as error:
            self._hub.metrics.refused("bad_frame", str(error))
            self._hub.disconnect(session, 4400)
            return
        if session.caller is None:
            self._authenticate(session, frame)
            return
        if not self._within_rate(session, frame):
            return
        try:
            self._obey(session, frame)
        except Refusal as refusal:
            self._refuse(session, refusal, frame.id, frame.topic_id)

    def _refuse(self, session: Session, refusal: Refusal, frame_id: FrameId, topic_id: str | None) -> None:
        self._hub.metrics.refused(refusal.code, refusal.detail)
        session.emit(outbound.error(refusal, frame_id, topic_id))

    def begin(self, session: Session) -> None:
        """Asks for the topics of the query in order, from the admission on, which is now."""
        session.admitted_at = self._hub.now
        self._proceed(session)

    def _proceed(self, session: Session) -> None:
        """Asks for topics one by one: each is answered, held, or late, before the next is asked for."""
        session.asking = True
        try:
            while session.wanted and session.turn is None and not session.closed:
                self._ask_next(session, *session.wanted.pop(0))
        finally:
            session.asking = False
        session.wanted = session.wanted or None

    def _ask_next(self, session: Session, topic_id: str, wish: Subscribe | Refusal) -> None:
        try:
            if isinstance(wish, Refusal):
                raise wish
            opening = self._opening(session, wish, begun=session.admitted_at)
            if self._hub.now - opening.begun < PATIENCE_S:  # else one was late already: the order binds no more
                session.turn = opening
            self._hub.openings.begin_turn(opening)
        except Refusal as refusal:
            session.turn = None
            self._refuse(session, refusal, None, topic_id[:128] or None)

    def _settled(self, opening: PendingSubscribe) -> None:
        """A subscribe has its answer, is held, or is late: the next topic of the query may be asked for."""
        session = opening.session
        if session.turn is opening:
            session.turn = None
            if session.wanted and not session.asking:
                self._proceed(session)

    def subscribe(self, session: Session, wanted: Subscribe, frame_id: FrameId = None) -> None:
        """Asks for a topic. Raises Refusal `already_subscribed` or `limit_reached`."""
        self._hub.openings.begin(self._opening(session, wanted, frame_id, begun=self._hub.now))

    def _opening(
        self, session: Session, wanted: Subscribe, frame_id: FrameId = None, *, begun: float
    ) -> PendingSubscribe:
        return PendingSubscribe(
            session,
            wanted.topic_id,
            wanted.position,
            presence=wanted.presence,
            frame_id=frame_id,
            begun=begun,
            deadline=begun + self._hub.limits.hold_s,
        )

    def _authenticate(self, session: Session, frame: ClientFrameHead) -> None:
        """The only frame before `welcome` is `auth`; anything else, or a bad token, ends with 4401."""
        try:
            command = inbound.command(frame)
            if frame.type != "auth" or not isinstance(command, Auth):
                raise Refusal("unauthenticated", "the first frame must be auth")
            identity = self._tokens.authenticate(command.token)
        except Refusal as refusal:
            self._hub.metrics.refused(refusal.code, refusal.detail)
            self._hub.disconnect(session, 4401)
            return
        if self._hub.admit(session, identity, frame.id):
            self.begin(session)

    def _within_rate(self, session: Session, frame: ClientFrameHead) -> bool:
        now, limits = self._hub.now, self._hub.limits
        if session.allowance is None:
            session.allowance = Allowance(now, limits)
        if session.allowance.take(now, limits):
            return True
        if session.allowance.exhausted(now, limits):
            self._hub.disconnect(session, 4503, retry_after_ms=10_000)
        else:
            refusal = Refusal("rate_limited", f"at most {limits.control_per_s:g} frames a second", retry_after_ms=1_000)
            self._refuse(session, refusal, frame.id, frame.topic_id)
        return False

    def _obey(self, session: Session, frame: ClientFrameHead) -> None:
        command = inbound.command(frame)
        if isinstance(command, Ping):
            session.emit(outbound.pong(frame.id, command.t))
        elif isinstance(command, Subscribe):
            self.subscribe(session, command, frame.id)
        elif isinstance(command, Unsubscribe):
            self._unsubscribe(session, command.topic_id, frame.id)
        elif isinstance(command, AskPresence):
            self._ask_presence(session, command.topic_id, frame.id)
        elif frame.type == "refresh" or self._tokens.open:  # a client may always begin with `auth`
            self._refresh(session, command, frame.id)
        else:
            raise Refusal("bad_request", "this connection is authenticated; a fresh token comes in a refresh frame")

    def _refresh(self, session: Session, command: Auth, frame_id: FrameId) -> None:
        if not self._tokens.open:
            identity = self._tokens.authenticate(command.token)
            caller = session.caller
            if caller is None or identity.caller.user_id != caller.user_id:
                raise Refusal("forbidden", "a refreshed token must keep its sub")
            self._hub.identify(session, identity)
        session.emit(outbound.refreshed(frame_id))
        if not self._tokens.open:
            self._hub.renewals.begin(session)

    def _unsubscribe(self, session: Session, topic_id: str, frame_id: FrameId) -> None:
        wished = session.unwish(topic_id)
        subscription = session.subscriptions.get(topic_id)
        if subscription is not None:
            self._hub.unsubscribe(subscription, "requested", frame_id)
            return
        opening = session.asked.get(topic_id) if session.asked is not None else None
        if opening is None and not wished:
            raise _not_followed(topic_id)
        if opening is not None:
            self._hub.openings.give_up(opening)
        session.emit(outbound.unsubscribed(topic_id, "requested", frame_id))
        if opening is not None:
            self._settled(opening)

    def _ask_presence(self, session: Session, topic_id: str, frame_id: FrameId) -> None:
        subscription = session.subscriptions.get(topic_id)
        if subscription is None:
            raise _not_followed(topic_id)
        shard = subscription.feed.shard

        def build(req: int) -> Request:
            return AskCount(req, shard, [topic_id])

        self._hub.upstream.request(shard, build, partial(_tell_presence, session, topic_id, frame_id))


def _tell_presence(session: Session, topic_id: str, frame_id: FrameId, answer: Answer) -> None:
    if isinstance(answer, Counts):
        session.emit(outbound.presence(topic_id, answer.counts[0], frame_id))
    elif isinstance(answer, Refused):
        session.emit(outbound.error(refusal_of(answer), frame_id, topic_id))


def _not_followed(topic_id: str) -> Refusal:
    return Refusal("not_found", f"this connection does not follow {topic_id}")
