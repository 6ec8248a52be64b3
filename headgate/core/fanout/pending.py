"""Subscribes that are not granted yet, of all sessions: asked of the owner, held while it is away, or next in a query.

The hub asks the owner for what `ask`, `next` and `resend` hand out, brings the answer to `answered`, and does what
that returns.
"""

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType
from typing import Final, NamedTuple

from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.deferred_subscribes import DeferredSubscribes
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.query_turns import PATIENCE_S, QueryTopic, QueryTurns, Send
from headgate.core.fanout.session import Session
from headgate.core.fanout.subscription import SubscriptionEvent, SubscriptionState
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Refused, Subscribed
from headgate.core.wire.link_acks import CursorAnswer, CursorLease
from headgate.core.wire.linkcodec import refusal_of

ASKED_AT_ONCE: Final = 4  # topics of a session whose grants are told at once: each may bring a `presence` of 220 KB

_NO_TOPICS: Final[frozenset[str]] = frozenset()
_NO_ASKED: Final[Mapping[str, "PendingSubscribe"]] = MappingProxyType({})


class Unwanted(NamedTuple):
    """The owner grants it and nobody waits any longer: tell the owner to forget it."""

    answer: Subscribed


# What an answer means: make the subscription, tell the client of the refusal, give the grant back, or nothing: it is
# held, or was answered in vain.
Outcome = Subscribed | Refusal | Unwanted | None


class PendingSubscribes:
    """All pending subscribes of a gateway, by session. `now` is monotonic seconds.

    A session is in `_asked` while one of its topics is. `turns` are the topics of queries, `deferred` those of frames
    that came while many were asked for.
    """

    def __init__(self, limits: Limits, send: Send) -> None:
        self._topics_allowed = limits.topics_allowed
        self._hold_s = limits.hold_s
        self.turns = QueryTurns(send)
        self.deferred = DeferredSubscribes()
        self._asked: dict[Session, dict[str, PendingSubscribe]] = {}
        # In the order of their deadlines, but for the seconds that a query takes.
        self._all: dict[PendingSubscribe, None] = {}
        self._held: dict[int | None, dict[PendingSubscribe, None]] = {}

    # The topics of a query

    def want(self, session: Session, topics: Iterable[QueryTopic]) -> None:
        """Takes the topics of a session's query, in their order; asked for after `begin`."""
        self.turns.want(session, topics)

    def begin(self, session: Session, now: float) -> PendingSubscribe | None:
        """The session is admitted: the topics of its query have their deadlines from now.

        Returns the subscribe of a query with one topic, to ask the owner for. `next` hands out those of any other.
        """
        only = self.turns.begin(session, now)
        return None if only is None else self._add(session, only, None, now, now)

    def next(self, session: Session, now: float) -> tuple[str, PendingSubscribe | Refusal] | None:
        """Returns the next topic of the query with its subscribe to ask for, or its refusal.

        None when there is none, or while answers to those before it are awaited.
        """
        following = self.turns.next(session)
        if following is None or (self.turns.is_late(session, now) and self._is_busy(session, now)):
            return None
        topic_id, wanted, awaited = following
        if isinstance(wanted, Refusal):
            self.turns.take(session)
            return topic_id, wanted
        try:
            self._check(session, topic_id, _NO_TOPICS)
        except Refusal as refusal:
            if awaited:
                return None  # an answer to one before it may change that
            self.turns.take(session)
            return topic_id, refusal
        pending = self._add(session, wanted, None, self.turns.take(session), now)
        self.turns.await_turn(pending, now)
        return topic_id, pending

    # One subscribe

    def ask(self, session: Session, subscribe: Subscribe, frame_id: FrameId, now: float) -> PendingSubscribe | None:
        """Takes the subscribe of a frame or an SSE request; returns what to ask the owner for, None where it waits.

        Raises Refusal `already_subscribed`, `limit_reached` (the topics of the query count too), or `forbidden` where
        the session's ticket does not name the topic.
        """
        self._check(session, subscribe.topic_id, self.turns.names(session) | self.deferred.names(session))
        if self._is_busy(session, now):
            self.deferred.add(session, subscribe, frame_id, now)
            return None
        return self._add(session, subscribe, frame_id, now, now)

    def next_deferred(self, session: Session, now: float) -> PendingSubscribe | None:
        """Returns the subscribe of the frame that waits longest, to ask for; None while it has to wait."""
        deferred = None if self._is_busy(session, now) else self.deferred.take(session)
        if deferred is None:
            return None
        subscribe, frame_id, since = deferred
        return self._add(session, subscribe, frame_id, since, now)

    def stalled(self) -> list[Session]:
        """Returns the sessions with topics that wait for answers which may be late."""
        return [*self.turns.stalled(), *self.deferred.sessions()]

    def hold(self, pending: PendingSubscribe) -> None:
        """No owner answers: it waits for one, and no topic of its query waits for it."""
        pending.move(SubscriptionEvent.HOLD)
        pending.close()
        self._held.setdefault(pending.shard, {})[pending] = None
        self.turns.end(pending)

    def opened(self, pending: PendingSubscribe, answer: Answer) -> CursorAnswer | Refusal | None:
        """Takes the answer to OpenCursor; None: it is held, or ended meanwhile."""
        if pending.state is SubscriptionState.ENDED:
            return None
        if isinstance(answer, CursorAnswer):
            return answer
        if isinstance(answer, Refused) and answer.code != "not_ready":
            self.end(pending)
            return refusal_of(answer)
        self.hold(pending)
        return None

    def answered(self, pending: PendingSubscribe, answer: Answer) -> Outcome:
        """Takes the owner's answer."""
        if pending.state is SubscriptionState.ENDED:
            return Unwanted(answer) if isinstance(answer, Subscribed) else None
        if isinstance(answer, Subscribed):
            self._remove(pending, SubscriptionEvent.GRANT)
            return answer
        if isinstance(answer, Refused) and answer.code != "not_ready":
            self.end(pending)
            return refusal_of(answer)
        self.hold(pending)
        return None

    def end(self, pending: PendingSubscribe) -> None:
        """Nobody waits for it any longer."""
        self._remove(pending, SubscriptionEvent.END)

    def withdraw(self, session: Session, topic_id: str) -> bool:
        """Ends the pending subscribes of one topic, in the query too; false when there is none."""
        pending, wanted = self._asked.get(session, {}).get(topic_id), topic_id in self.turns.names(session)
        if wanted:
            self.turns.withdraw(session, topic_id)
        if pending is not None:
            self.end(pending)
        return self.deferred.withdraw(session, topic_id) or wanted or pending is not None

    def withdraw_lease(self, session: Session, lease: CursorLease) -> bool:
        """Ends the subscribe that has taken a lease; false when there is none."""
        pending = self._asked.get(session, {}).get(lease.topic_id)
        if pending is None or pending.lease != lease:
            return False
        self.end(pending)
        return True

    def has_begun_anew(self, ended: PendingSubscribe) -> bool:
        """Returns whether its session acknowledges the topic, or has asked for that again for the same device."""
        followed = ended.session.subscriptions.get(ended.topic_id)
        if followed is not None:
            return followed.acks is not None
        pending = self._asked.get(ended.session, {}).get(ended.topic_id)
        if pending is None or pending is ended:
            return False
        return pending.subscribe.ack and pending.subscribe.device_id == ended.subscribe.device_id

    def drop(self, session: Session) -> None:
        """The session ended."""
        asked = self._asked.get(session)
        if asked is not None:
            for pending in list(asked.values()):
                self.end(pending)
        self.turns.drop(session)
        self.deferred.drop(session)

    # Time and owners

    def expired(self, now: float) -> list[PendingSubscribe]:
        """Ends those that were asked for too long ago and returns them: each is refused with `not_ready`.

        One that is answered and waits for its turn, or for room in the socket, is none of them.
        """
        expired = []
        for pending in self._all:
            if pending.deadline > now:
                break
            if not pending.is_answered:
                expired.append(pending)
        for pending in expired:
            self.end(pending)
        return expired

    def leases(self) -> list[CursorLease]:
        """Returns the leases that subscribes on their way have taken."""
        return [each.lease for each in self._all if each.lease is not None and each.opened is not None]

    def waiting(self) -> list[int | None]:
        """Returns the shards whose owners are waited for; None: the number of shards is not known."""
        return list(self._held)

    def resend(self, shard: int | None) -> list[PendingSubscribe]:
        """Returns what is held for a shard and where no shard was known: each is ASKED again."""
        held = [*self._held.pop(shard, ()), *self._held.pop(None, ())]
        for pending in held:
            pending.move(SubscriptionEvent.ASK_AGAIN)
        return held

    def awaits_answer(self, session: Session) -> bool:
        """Returns whether an owner is being asked for a topic of a session's."""
        return any(pending.asked for pending in self._asked.get(session, _NO_ASKED).values())

    def count(self, session: Session) -> int:
        """Returns how many topics of a session are asked for, or wait in its query."""
        waiting = self.turns.count(session) + self.deferred.count(session)
        return len(self._asked.get(session, _NO_TOPICS)) + waiting

    def _check(self, session: Session, topic_id: str, wanted: Set[str]) -> None:
        """Raises Refusal for a topic that must not be asked for; `wanted` count as asked for."""
        followed, asked = session.subscriptions, self._asked.get(session, _NO_TOPICS)
        if topic_id in followed or topic_id in asked or topic_id in wanted:
            raise Refusal("already_subscribed", f"this connection follows {topic_id} already")
        if len(followed) + len(asked) + len(wanted) >= self._topics_allowed:
            raise Refusal("limit_reached", f"a connection follows at most {self._topics_allowed} topics")
        if session.topics is not None and topic_id not in session.topics:
            raise other_topic()

    def _is_busy(self, session: Session, now: float) -> bool:
        """Whether so many topics of a session are asked for that the next one waits. Who is late holds up nobody."""
        asked = self._asked.get(session)
        if asked is None or len(asked) < ASKED_AT_ONCE:
            return False
        awaited = [each for each in asked.values() if each.asked and now - each.asked_at < PATIENCE_S]
        return sum(not self.turns.binds(each) for each in awaited) >= ASKED_AT_ONCE

    def _add(
        self, session: Session, subscribe: Subscribe, frame_id: FrameId, begun: float, now: float
    ) -> PendingSubscribe:
        pending = PendingSubscribe(session, subscribe, frame_id, begun, self._hold_s, now)
        self._asked.setdefault(session, {})[pending.topic_id] = pending
        self._all[pending] = None
        return pending

    def _remove(self, pending: PendingSubscribe, event: SubscriptionEvent) -> None:
        """Takes a subscribe out of every list, once the table allows it."""
        pending.move(event)
        del self._all[pending]
        self.turns.end(pending)
        if self._held:
            self._take_from_held(pending)
        asked = self._asked[pending.session]
        del asked[pending.topic_id]
        if not asked:
            del self._asked[pending.session]

    def _take_from_held(self, pending: PendingSubscribe) -> None:
        held = self._held.get(pending.shard)
        if held is not None:
            held.pop(pending, None)
            if not held:
                del self._held[pending.shard]


def other_topic() -> Refusal:
    """Returns the refusal of a topic that a ticket does not name."""
    return Refusal("forbidden", "this ticket is for other topics")
