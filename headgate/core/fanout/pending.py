"""Subscribes that are not granted yet, of all sessions: asked of the owner, held while it is away, or next in a query.

Nothing is sent from here. The hub asks the owner for what `ask`, `next` and `resend` hand out, brings the answer to
`answered`, and does what that returns.
"""

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType
from typing import Final, NamedTuple

from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.session import Session
from headgate.core.fanout.subscription import Life, SubscriptionEvent, SubscriptionState
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskSubscribe, Refused, Request, Subscribed
from headgate.core.wire.link_acks import CursorAnswer, CursorLease
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.position import Position

PATIENCE_S: Final = 1.0  # how long the topics of a query wait for the answer to the one before

_NO_TOPICS: Final[frozenset[str]] = frozenset()
_NO_ASKED: Final[Mapping[str, "PendingSubscribe"]] = MappingProxyType({})

QueryTopic = tuple[str, Subscribe | Refusal]  # the topic id as the query has it, and what it asks for


class Unwanted(NamedTuple):
    """The owner grants it and nobody waits any longer: tell the owner to forget it."""

    answer: Subscribed


# What an answer means: make the subscription, tell the client of the refusal, give the grant back, or nothing: it is
# held, or was answered in vain.
Outcome = Subscribed | Refusal | Unwanted | None


class PendingSubscribe(Life):
    """A subscribe of a session, ASKED or HELD since `begun`; `shard` is None while the number of shards is unknown."""

    __slots__ = (
        "begun", "caller", "deadline", "frame_id", "lease", "level", "may_lease", "opened", "position", "session",
        "shard", "subscribe", "topic_id",
    )  # fmt: skip

    def __init__(self, session: Session, subscribe: Subscribe, frame_id: FrameId, begun: float, hold_s: float) -> None:
        self.state = SubscriptionState.ASKED
        self.session = session
        self.caller = session.caller  # with whose rights the owner was asked
        self.subscribe = subscribe
        self.topic_id = subscribe.topic_id
        self.frame_id = frame_id
        self.begun = begun
        self.deadline = begun + hold_s
        self.shard: int | None = None
        self.level = 0  # what the owner was asked to tell of presence, see AskSubscribe
        self.position = subscribe.position  # where it begins: that of the cursor, once it is `opened`
        self.opened: CursorAnswer | None = None
        self.lease: CursorLease | None = None
        self.may_lease = not subscribe.leases  # whether the owner of the topic has been asked first

    @property
    def asked(self) -> bool:
        """Whether the owner's answer is awaited."""
        return self.state is SubscriptionState.ASKED

    @property
    def wants_cursor(self) -> bool:
        """Whether the owner of the user's shard is to be asked before the topic's."""
        return self.opened is None and self.subscribe.needs_cursor

    @property
    def may_create(self) -> bool:
        """Whether it may make the topic: a ticket for topics is for reading them."""
        return self.session.topics is None

    def place(self, shard: int) -> None:
        """Takes the shard whose owner is asked next: the user's, then the topic's."""
        self.shard = shard

    def open(self, answer: CursorAnswer, position: Position | None) -> None:
        """Takes the device's cursor."""
        self.opened = answer
        self.position = position

    def close(self) -> None:
        """Forgets what was answered: when it is asked again the cursor may have moved, and the rights changed."""
        self.opened = None
        self.may_lease = not self.subscribe.leases

    def allow(self) -> None:
        """The caller may subscribe: the lease of the device may be taken."""
        self.may_lease = True

    def request(self, req: int, *, create: bool, level: int = 0) -> Request:
        """Returns the request to the owner, with the rights that the session has now."""
        caller = self.caller = self.session.caller
        assert caller is not None
        create = create and self.may_create
        self.level = level
        group = self.subscribe.group
        member = self.session.connection_id if group else ""
        return AskSubscribe(req, self.topic_id, caller, self.position, create, level, group, member)


class _Query:
    """The query of one session. Exists while topics of it are left, or the answer to one of them is awaited.

    `topics` were not asked for yet; `turn` is the one whose answer comes next; `in_turn` is set while the hub asks for
    them.
    """

    __slots__ = ("admitted_at", "in_turn", "topics", "turn")

    def __init__(self, topics: list[QueryTopic]) -> None:
        self.topics = topics
        self.turn: PendingSubscribe | None = None
        self.in_turn = False
        self.admitted_at = 0.0

    def names(self) -> set[str]:
        """Returns the ids of the topics that were not asked for yet."""
        return {topic_id for topic_id, wanted in self.topics if not isinstance(wanted, Refusal)}


class PendingSubscribes:
    """All pending subscribes of a gateway, by session. `now` is monotonic seconds.

    A session is in `_asked` while one of its topics is, and in `_queries` while it has a query: few have one.
    """

    def __init__(self, limits: Limits) -> None:
        self._topics_allowed = limits.topics_allowed
        self._hold_s = limits.hold_s
        self._asked: dict[Session, dict[str, PendingSubscribe]] = {}
        self._queries: dict[Session, _Query] = {}
        # In the order of their deadlines, but for the seconds that a query takes.
        self._all: dict[PendingSubscribe, None] = {}
        # Those that others of their query wait for, as they were asked for: one that is late may wait a second more.
        self._turns: dict[PendingSubscribe, None] = {}
        self._held: dict[int | None, dict[PendingSubscribe, None]] = {}

    # The topics of a query

    def want(self, session: Session, topics: Iterable[QueryTopic]) -> None:
        """Takes the topics of a session's query, in their order; asked for after `begin`."""
        topics = list(topics)
        if topics:
            self._queries[session] = _Query(topics)

    def begin(self, session: Session, now: float) -> PendingSubscribe | None:
        """The session is admitted: the topics of its query have their deadlines from now.

        Returns the subscribe of a query with one topic, to ask the owner for; there is no order to keep. `next` hands
        out those of any other.
        """
        query = self._queries.get(session)
        if query is None:
            return None
        query.admitted_at = now
        wanted = query.topics[0][1]
        if len(query.topics) > 1 or isinstance(wanted, Refusal) or session.topics is not None:
            return None
        del self._queries[session]
        return self._add(session, wanted, None, now)

    def enter(self, session: Session) -> bool:
        """Begins a series of `next`; false when there is nothing to ask for, or a series is under way."""
        query = self._queries.get(session)
        if query is None or query.in_turn or not query.topics:
            return False
        query.in_turn = True
        return True

    def leave(self, session: Session) -> None:
        """Ends a series of `next`."""
        query = self._queries.get(session)
        if query is not None:
            query.in_turn = False
            self._tidy(session, query)

    def next(self, session: Session, now: float) -> tuple[str, PendingSubscribe | Refusal] | None:
        """Returns the next topic of the query with its subscribe to ask for, or its refusal.

        None when there is none, or while the answer to the one before is awaited. One that is late binds the order of
        the others no longer.
        """
        query = self._queries.get(session)
        if query is None or query.turn is not None or not query.topics:
            return None
        topic_id, wanted = query.topics.pop(0)
        if isinstance(wanted, Refusal):
            return topic_id, wanted
        try:
            self._check(session, topic_id, _NO_TOPICS)
        except Refusal as refusal:
            return topic_id, refusal
        pending = self._add(session, wanted, None, query.admitted_at)
        if now - pending.begun < PATIENCE_S:
            query.turn = pending
            self._turns[pending] = None
        return topic_id, pending

    def late(self, now: float) -> list[Session]:
        """Ends the turns that took too long; returns their sessions, whose next topics may be asked for."""
        late = []
        for pending in self._turns:
            if now - pending.begun < PATIENCE_S:
                break
            late.append(pending)
        for pending in late:
            self._end_turn(pending)
        return [pending.session for pending in late]

    # One subscribe

    def ask(self, session: Session, subscribe: Subscribe, frame_id: FrameId, now: float) -> PendingSubscribe:
        """Takes the subscribe of a frame or an SSE request; returns what to ask the owner for.

        Raises Refusal `already_subscribed`, `limit_reached` (the topics of the query count too), or `forbidden` where
        the session's ticket does not name the topic.
        """
        query = self._queries.get(session)
        self._check(session, subscribe.topic_id, _NO_TOPICS if query is None else query.names())
        return self._add(session, subscribe, frame_id, now)

    def hold(self, pending: PendingSubscribe) -> None:
        """No owner answers: it waits for one, and no topic of its query waits for it."""
        pending.move(SubscriptionEvent.HOLD)
        pending.close()
        self._held.setdefault(pending.shard, {})[pending] = None
        self._end_turn(pending)

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
        query, pending = self._queries.get(session), self._asked.get(session, {}).get(topic_id)
        wanted = query is not None and topic_id in query.names()
        if query is not None and wanted:
            query.topics = [topic for topic in query.topics if topic[0] != topic_id or isinstance(topic[1], Refusal)]
        if pending is not None:
            self.end(pending)
        if query is not None:
            self._tidy(session, query)
        return wanted or pending is not None

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
        self._queries.pop(session, None)

    # Time and owners

    def expired(self, now: float) -> list[PendingSubscribe]:
        """Ends those that were asked for too long ago and returns them: each is refused with `not_ready`."""
        expired = []
        for pending in self._all:
            if pending.deadline > now:
                break
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
        query = self._queries.get(session)
        return len(self._asked.get(session, _NO_TOPICS)) + (0 if query is None else len(query.topics))

    def _check(self, session: Session, topic_id: str, wanted: Set[str]) -> None:
        """Raises Refusal for a topic that must not be asked for; `wanted` count as asked for."""
        followed, asked = session.subscriptions, self._asked.get(session, _NO_TOPICS)
        if topic_id in followed or topic_id in asked or topic_id in wanted:
            raise Refusal("already_subscribed", f"this connection follows {topic_id} already")
        if len(followed) + len(asked) + len(wanted) >= self._topics_allowed:
            raise Refusal("limit_reached", f"a connection follows at most {self._topics_allowed} topics")
        if session.topics is not None and topic_id not in session.topics:
            raise other_topic()

    def _add(self, session: Session, subscribe: Subscribe, frame_id: FrameId, begun: float) -> PendingSubscribe:
        pending = PendingSubscribe(session, subscribe, frame_id, begun, self._hold_s)
        self._asked.setdefault(session, {})[pending.topic_id] = pending
        self._all[pending] = None
        return pending

    def _end_turn(self, pending: PendingSubscribe) -> None:
        if pending in self._turns:
            del self._turns[pending]
            session = pending.session
            query = self._queries[session]
            query.turn = None
            self._tidy(session, query)

    def _tidy(self, session: Session, query: _Query) -> None:
        if not query.topics and query.turn is None and not query.in_turn:
            self._queries.pop(session, None)

    def _remove(self, pending: PendingSubscribe, event: SubscriptionEvent) -> None:
        """Takes a subscribe out of every list, once the table allows it."""
        pending.move(event)
        del self._all[pending]
        if self._turns:
            self._end_turn(pending)
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
