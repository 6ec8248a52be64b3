"""What a WebSocket client's frames do (docs/protocol.md, section 3)."""

from headgate.core.client import inbound, outbound
from headgate.core.client.inbound import (
    Ack,
    Auth,
    BadFrame,
    ClientFrameHead,
    MarkRead,
    Nack,
    Ping,
    RequestPresence,
    SayTyping,
    SetStatus,
    Subscribe,
    Unsubscribe,
)
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.ports import Moment, TokenReader
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal


class Commands:
    """Takes the frames of all sessions. `moment` is the time at which a frame came."""

    def __init__(self, hub: Hub, tokens: TokenReader) -> None:
        self._hub = hub
        self._tokens = tokens

    def receive(self, session: Session, data: bytes, moment: Moment) -> None:
        """Takes one data frame's payload, valid UTF-8 or not JSON at all."""
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
            self._authenticate(session, frame, moment)
            return
        if not self._within_rate(session, frame, moment):
            return
        try:
            self._obey(session, frame, moment)
        except Refusal as refusal:
            self._hub.refuse(session, refusal, frame.id, frame.topic_id)

    def _authenticate(self, session: Session, frame: ClientFrameHead, moment: Moment) -> None:
        """The only frame before `welcome` is `auth`; else 4401, and 4503 while the token cannot be checked yet."""
        try:
            command = inbound.command(frame)
            if frame.type != "auth" or not isinstance(command, Auth):
                raise Refusal("unauthenticated", "the first frame must be auth")
            identity = self._tokens.authenticate(command.token)
        except Refusal as refusal:
            self._hub.metrics.refused(refusal.code, refusal.detail)
            self._hub.disconnect(session, 4503 if refusal.retryable else 4401, retry_after_ms=refusal.retry_after_ms)
            return
        if self._hub.admit(session, identity, moment, frame.id):
            self._hub.begin(session, moment)

    def _within_rate(self, session: Session, frame: ClientFrameHead, moment: Moment) -> bool:
        now, limits = moment.now, self._hub.limits
        allowance = session.allowed(now, limits)
        if allowance.take(now, limits):
            return True
        if allowance.exhausted(now, limits):
            self._hub.disconnect(session, 4503, retry_after_ms=10_000)
        else:
            refusal = Refusal("rate_limited", f"at most {limits.control_per_s:g} frames a second", retry_after_ms=1_000)
            self._hub.refuse(session, refusal, frame.id, frame.topic_id)
        return False

    def _obey(self, session: Session, frame: ClientFrameHead, moment: Moment) -> None:
        command = inbound.command(frame)
        if isinstance(command, Ping):
            session.emit(outbound.pong(frame.id, command.t))
        elif isinstance(command, Subscribe):
            self._hub.subscribe(session, command, moment, frame.id)
        elif isinstance(command, Unsubscribe):
            self._unsubscribe(session, command.topic_id, frame.id)
        elif isinstance(command, Ack | Nack):
            self._hub.ack(session, command, moment, frame.id)
        elif isinstance(command, RequestPresence | SetStatus | SayTyping | MarkRead):
            self._show(session, command, moment, frame.id)
        elif frame.type == "refresh" or self._tokens.open:  # a client may always begin with `auth`
            self._refresh(session, command, moment, frame.id)
        else:
            raise Refusal("bad_request", "this connection is authenticated; a fresh token comes in a refresh frame")

    def _refresh(self, session: Session, command: Auth, moment: Moment, frame_id: FrameId) -> None:
        if not self._tokens.open:
            identity = self._tokens.authenticate(command.token)
            caller = session.caller
            if caller is None or identity.caller.user_id != caller.user_id:
                raise Refusal("forbidden", "a refreshed token must keep its sub")
            session.identify(identity, moment)
        session.emit(outbound.refreshed(frame_id))
        if not self._tokens.open:
            self._hub.renewals.want(list(session.subscriptions.values()))

    def _unsubscribe(self, session: Session, topic_id: str, frame_id: FrameId) -> None:
        """Ends the subscription or the pending subscribe; the topic may wait in the query too."""
        withdrawn = self._hub.pending.withdraw(session, topic_id)
        subscription = session.subscriptions.get(topic_id)
        if subscription is not None:
            self._hub.unsubscribe(subscription, "requested", frame_id)
        elif withdrawn:
            session.emit(outbound.unsubscribed(topic_id, "requested", frame_id))
            self._hub.proceed(session)
        else:
            raise _not_followed(topic_id)

    def _show(
        self,
        session: Session,
        command: RequestPresence | SetStatus | SayTyping | MarkRead,
        moment: Moment,
        frame_id: FrameId,
    ) -> None:
        """Does what a client wants to know or to show of who is there and what was read. Raises Refusal."""
        if isinstance(command, SetStatus):
            self._hub.audience.presence.set_status(session, away=command.away)
            if frame_id is not None:
                session.emit(outbound.ok(frame_id))
            return
        subscription = session.subscriptions.get(command.topic_id)
        if subscription is None:
            raise _not_followed(command.topic_id)
        if isinstance(command, SayTyping):
            self._hub.audience.typing.say(session, subscription, frame_id, moment.now)
        elif isinstance(command, MarkRead):
            self._hub.audience.reads.read(session, subscription, command.seq, frame_id)
        else:
            self._hub.audience.presence.questions.add(session, command.topic_id, frame_id)


def _not_followed(topic_id: str) -> Refusal:
    return Refusal("not_found", f"this connection does not follow {topic_id}")
