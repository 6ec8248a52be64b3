"""A subscription on its way: asked of the owner, held while the owner is away, granted or refused; knows no socket."""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET, ClientFrame
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.ports import GatewayMetrics, Upstream
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskSubscribe, Leave, Refused, Request, Subscribed
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.position import Position

UNKNOWN_SHARD: Final = -1  # no dispatcher has answered yet
PATIENCE_S: Final = 1.0  # how long the topics of a query wait for the answer to the one before


class PendingSubscribe:
    """What one session waits for since `begun`. `over` once it was granted, refused or given up."""

    __slots__ = (
        "begun",
        "caller",
        "deadline",
        "frame_id",
        "over",
        "position",
        "presence",
        "session",
        "shard",
        "topic_id",
    )

    def __init__(
        self,
        session: Session,
        topic_id: str,
        position: Position | None,
        *,
        presence: bool,
        frame_id: FrameId,
        begun: float,
        deadline: float,
    ) -> None:
        self.session = session
        self.caller = session.caller  # with whose rights the owner was asked
        self.topic_id = topic_id
        self.position = position
        self.presence = presence
        self.frame_id = frame_id
        self.begun = begun
        self.deadline = deadline
        self.shard = UNKNOWN_SHARD
        self.over = False


class Granter(Protocol):
    """What an opening asks of the hub."""

    limits: Limits
    upstream: Upstream
    metrics: GatewayMetrics
    auto_create: bool

    def grant(self, opening: PendingSubscribe, answer: Subscribed, frames: list[ClientFrame]) -> None:
        """Makes the subscription; `frames` are to be written before anything else of the topic."""

    def disconnect(self, session: Session, code: int) -> None:
        """Ends a session with a close code."""

    def drop(self, session: Session) -> None:
        """Lets go of a session that never became a stream."""


class PendingSubscribes:
    """All subscriptions on their way on this gateway."""

    def __init__(self, hub: Granter) -> None:
        self._hub = hub
        self._all: dict[
            PendingSubscribe, None
        ] = {}  # in order of their deadlines, but for the seconds that a query takes
        self._turns: dict[PendingSubscribe, None] = {}  # those that others of their query wait for, oldest first
        self._held: dict[int, dict[PendingSubscribe, None]] = {}
        self.settled: Callable[[PendingSubscribe], None] = lambda opening: (
            None
        )  # it has its answer, is held, or is late

    def begin(self, opening: PendingSubscribe) -> None:
        """Asks the owner. Raises Refusal `already_subscribed` or `limit_reached`; topics still wanted count too."""
        session = opening.session
        self._check(opening.topic_id, session.follows(opening.topic_id), session.topics)
        self._begin(opening)

    def begin_turn(self, opening: PendingSubscribe) -> None:
        """Asks the owner for a topic of the query, whose later topics do not count. Raises Refusal as `begin`."""
        session = opening.session
        self._check(opening.topic_id, session.holds(opening.topic_id), session.held)
        if session.turn is opening:
            self._turns[opening] = None
        self._begin(opening)

    def give_up(self, opening: PendingSubscribe) -> None:
        """Nobody waits for it any more; should it be granted yet, the owner is told to forget it."""
        opening.over = True
        self._all.pop(opening, None)
        self._turns.pop(opening, None)
        held = self._held.get(opening.shard)
        if held is not None:
            held.pop(opening, None)
        asked = opening.session.asked
        if asked is not None:
            asked.pop(opening.topic_id, None)
            if not asked:
                opening.session.asked = None

    def resend(self, shard: int) -> None:
        """Asks again what was held for a shard, and what was held because no shard was known."""
        for opening in [*self._held.pop(shard, ()), *self._held.pop(UNKNOWN_SHARD, ())]:
            self._ask(opening)

    def tick(self, now: float) -> None:
        """Gives up what was asked for too long ago, and asks again where an owner is linked.

        A linked owner that does not answer (it rebuilds) holds up no other topic of the query.
        """
        for opening in [opening for opening in self._turns if now - opening.begun >= PATIENCE_S]:
            self._turns.pop(opening, None)
            self.settled(opening)
        while self._all:
            opening = next(iter(self._all))
            if opening.deadline > now:
                break
            self.refuse(opening, Refusal("not_ready", "the topic's owner is away; try again", retry_after_ms=1_000))
        for shard in list(self._held):
            if shard == UNKNOWN_SHARD or self._hub.upstream.linked(shard):
                self.resend(shard)

    def refuse(self, opening: PendingSubscribe, refusal: Refusal) -> None:
        """Answers an opening that came to nothing: an `error` frame, or the end of an SSE request."""
        session = opening.session
        self.give_up(opening)
        self._hub.metrics.refused(refusal.code, refusal.detail)
        if session.framing is WEBSOCKET:
            session.emit(outbound.error(refusal, opening.frame_id, opening.topic_id))
            self.settled(opening)
        elif refusal.status in (429, 503):
            self._hub.disconnect(session, 4503)
        else:
            self._hub.drop(session)
            session.closed = True
            session.outlet.refuse(refusal)

    def _check(self, topic_id: str, follows: bool, topics: int) -> None:
        if follows:
            raise Refusal("already_subscribed", f"this connection follows {topic_id} already")
        if topics >= self._hub.limits.topics_allowed:
            raise Refusal("limit_reached", f"a connection follows at most {self._hub.limits.topics_allowed} topics")

    def _begin(self, opening: PendingSubscribe) -> None:
        session = opening.session
        if session.asked is None:
            session.asked = {}
        session.asked[opening.topic_id] = opening
        self._all[opening] = None
        self._ask(opening)

    def _ask(self, opening: PendingSubscribe) -> None:
        upstream = self._hub.upstream
        try:
            opening.shard = upstream.shard_of(opening.topic_id)
        except Refusal:
            self._hold(opening)
            return
        upstream.request(opening.shard, partial(self._request, opening), partial(self._answered, opening))

    def _request(self, opening: PendingSubscribe, req: int) -> Request:
        caller = opening.caller = opening.session.caller
        assert caller is not None
        return AskSubscribe(req, opening.topic_id, caller, opening.position, self._hub.auto_create)

    def _hold(self, opening: PendingSubscribe) -> None:
        self._held.setdefault(opening.shard, {})[opening] = None
        self._turns.pop(opening, None)
        self.settled(opening)

    def _answered(self, opening: PendingSubscribe, answer: Answer) -> None:
        if isinstance(answer, Subscribed):
            self._granted(opening, answer)
        elif opening.over:
            return
        elif isinstance(answer, Refused) and answer.code != "not_ready":
            self.refuse(opening, refusal_of(answer))
        else:
            self._hold(opening)

    def _granted(self, opening: PendingSubscribe, answer: Subscribed) -> None:
        if opening.over:
            self._hub.upstream.send(opening.shard, Leave(opening.topic_id, answer.epoch))
            return
        self.give_up(opening)
        self._hub.grant(opening, answer, _first_frames(opening, answer, self._hub.metrics))
        self.settled(opening)


def _first_frames(opening: PendingSubscribe, answer: Subscribed, metrics: GatewayMetrics) -> list[ClientFrame]:
    """Returns `subscribed`, then `presence` unless it is not wanted, then the gap of a position too old."""
    settings, topic_id = answer.settings, opening.topic_id
    frames = [outbound.subscribed(answer, topic_id, opening.frame_id)]
    if opening.presence and settings.get("presence", "count") != "none":
        frames.append(outbound.presence(topic_id, answer.count))
    if answer.reason == "expired" and opening.position is not None and answer.cursor > opening.position[2]:
        lost_from = opening.position[2] + 1
        metrics.gap("retention", answer.cursor - lost_from + 1)
        frames.append(
            outbound.gap(topic_id, answer.epoch, lost_from, answer.cursor, reason="retention", recoverable=False)
        )
    return frames
