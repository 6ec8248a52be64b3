"""Subscribes that are not granted yet, of all sessions: asked of the owner, held while it is away, or next in a query.

Nothing is sent from here. The hub asks the owner for what `ask`, `next` and `resend` hand out, brings the answer to
`answered`, and does what that returns.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.session import Session
from headgate.core.fanout.subscription import Life, SubscriptionEvent, SubscriptionState
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskSubscribe, Refused, Request, Subscribed
from headgate.core.wire.linkcodec import refusal_of

PATIENCE_S: Final = 1.0  # how long the topics of a query wait for the answer to the one before

QueryTopic = tuple[str, Subscribe | Refusal]  # the topic id as the query has it, and what it asks for


class Granted(NamedTuple):
    """The owner grants it: make the subscription."""

    answer: Subscribed


class Denied(NamedTuple):
    """It is refused: tell the client."""

    refusal: Refusal


class Unwanted(NamedTuple):
    """The owner grants it and nobody waits any longer: tell the owner to forget it."""

    answer: Subscribed


Outcome = Granted | Denied | Unwanted | None  # None: held, or answered in vain


class PendingSubscribe(Life):
    """A subscribe of a session, ASKED or HELD since `begun`; `shard` is None while the number of shards is unknown."""

    __slots__ = ("begun", "caller", "deadline", "frame_id", "session", "shard", "subscribe")

    def __init__(self, session: Session, subscribe: Subscribe, frame_id: FrameId, begun: float, hold_s: float) -> None:
        super().__init__(SubscriptionState.ASKED)
        self.session = session
        self.caller = session.caller  # with whose rights the owner was asked
        self.subscribe = subscribe
        self.frame_id = frame_id
        self.begun = begun
        self.deadline = begun + hold_s
        self.shard: int | None = None

    @property
    def topic_id(self) -> str:
        """The topic it asks for."""
        return self.subscribe.topic_id

    @property
    def asked(self) -> bool:
        """Whether the owner's answer is awaited."""
        return self.state is SubscriptionState.ASKED

    def place(self, shard: int) -> None:
        """Takes the topic's shard."""
        self.shard = shard

    def request(self, req: int, *, create: bool) -> Request:
        """Returns the request to the owner, with the rights that the session has now."""
        caller = self.caller = self.session.caller
        assert caller is not None
        create = create and self.session.topics is None  # a ticket for topics is for reading them
        return AskSubscribe(req, self.topic_id, caller, self.subscribe.position, create)


class _Line:
    """The pending subscribes of one session. Exists while there are any.

    `query` are the topics of its query that were not asked for yet; `turn` is the one whose answer comes next;
    `in_turn` is set while the hub asks for them.
    """

    __slots__ = ("admitted_at", "asked", "in_turn", "query", "turn")

    def __init__(self) -> None:
        self.asked: dict[str, PendingSubscribe] = {}
        self.query: list[QueryTopic] = []
        self.turn: PendingSubscribe | None = None
        self.in_turn = False
        self.admitted_at = 0.0


class PendingSubscribes:
    """All pending subscribes of a gateway, by session. `now` is monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[Session, _Line] = {}
        # In the order of their deadlines, but for the seconds that a query takes.
        self._all: dict[PendingSubscribe, None] = {}
        self._turns: dict[PendingSubscribe, None] = {}  # those that others of their query wait for, oldest first
        self._held: dict[int | None, dict[PendingSubscribe, None]] = {}

    # The topics of a query

    def want(self, session: Session, topics: Iterable[QueryTopic]) -> None:
        """Takes the topics of a session's query, in their order; asked for after `begin`."""
        topics = list(topics)
        if topics:
            self._line(session).query = topics

    def begin(self, session: Session, now: float) -> None:
        """The session is admitted: the topics of its query have their deadlines from now."""
        line = self._lines.get(session)
        if line is not None:
            line.admitted_at = now

    def enter(self, session: Session) -> bool:
        """Begins a series of `next`; false when there is nothing to ask for, or a series is under way."""
        line = self._lines.get(session)
        if line is None or line.in_turn or not line.query:
            return False
        line.in_turn = True
        return True

    def leave(self, session: Session) -> None:
        """Ends a series of `next`."""
        line = self._lines.get(session)
        if line is not None:
            line.in_turn = False
            self._tidy(session, line)

    def next(self, session: Session, now: float) -> tuple[str, PendingSubscribe | Refusal] | None:
        """Returns the next topic of the query with its subscribe to ask for, or its refusal.

        None when there is none, or while the answer to the one before is awaited. One that is late binds the order of
        the others no longer.
        """
        line = self._lines.get(session)
        if line is None or line.turn is not None or not line.query:
            return None
        topic_id, wanted = line.query.pop(0)
        if isinstance(wanted, Refusal):
            return topic_id, wanted
        try:
            count = len(session.subscriptions) + len(line.asked)
            self._check(session, topic_id, self._holds(session, line, topic_id), count)
        except Refusal as refusal:
            return topic_id, refusal
        pending = self._add(session, line, wanted, None, line.admitted_at)
        if now - pending.begun < PATIENCE_S:
            line.turn = pending
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
        line = self._line(session)
        query = _topics(line.query)
        follows = self._holds(session, line, subscribe.topic_id) or subscribe.topic_id in query
        try:
            self._check(session, subscribe.topic_id, follows, len(session.subscriptions) + len(line.asked) + len(query))
        except Refusal:
            self._tidy(session, line)
            raise
        return self._add(session, line, subscribe, frame_id, now)

    def hold(self, pending: PendingSubscribe) -> None:
        """No owner answers: it waits for one, and no topic of its query waits for it."""
        pending.move(SubscriptionEvent.HOLD)
        self._held.setdefault(pending.shard, {})[pending] = None
        self._end_turn(pending)

    def answered(self, pending: PendingSubscribe, answer: Answer) -> Outcome:
        """Takes the owner's answer."""
        if pending.state is SubscriptionState.ENDED:
            return Unwanted(answer) if isinstance(answer, Subscribed) else None
        if isinstance(answer, Subscribed):
            self._remove(pending, SubscriptionEvent.GRANT)
            return Granted(answer)
        if isinstance(answer, Refused) and answer.code != "not_ready":
            self.end(pending)
            return Denied(refusal_of(answer))
        self.hold(pending)
        return None

    def end(self, pending: PendingSubscribe) -> None:
        """Nobody waits for it any longer."""
        self._remove(pending, SubscriptionEvent.END)

    def withdraw(self, session: Session, topic_id: str) -> bool:
        """Ends the pending subscribes of one topic, in the query too; false when there is none."""
        line = self._lines.get(session)
        if line is None:
            return False
        wanted = topic_id in _topics(line.query)
        if wanted:
            line.query = [topic for topic in line.query if topic[0] != topic_id or isinstance(topic[1], Refusal)]
        pending = line.asked.get(topic_id)
        if pending is not None:
            self.end(pending)
        self._tidy(session, line)
        return wanted or pending is not None

    def drop(self, session: Session) -> None:
        """The session ended."""
        line = self._lines.get(session)
        if line is None:
            return
        line.query = []
        for pending in list(line.asked.values()):
            self.end(pending)
        self._lines.pop(session, None)

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

    def waiting(self) -> list[int | None]:
        """Returns the shards whose owners are waited for; None: the number of shards is not known."""
        return list(self._held)

    def resend(self, shard: int | None) -> list[PendingSubscribe]:
        """Returns what is held for a shard and where no shard was known: each is ASKED again."""
        held = [*self._held.pop(shard, ()), *self._held.pop(None, ())]
        for pending in held:
            pending.move(SubscriptionEvent.ASK_AGAIN)
        return held

    def count(self, session: Session) -> int:
        """Returns how many topics of a session are asked for, or wait in its query."""
        line = self._lines.get(session)
        return 0 if line is None else len(line.asked) + len(line.query)

    def _line(self, session: Session) -> _Line:
        line = self._lines.get(session)
        if line is None:
            line = self._lines[session] = _Line()
        return line

    def _tidy(self, session: Session, line: _Line) -> None:
        if not line.asked and not line.query and not line.in_turn:
            self._lines.pop(session, None)

    def _holds(self, session: Session, line: _Line, topic_id: str) -> bool:
        return topic_id in session.subscriptions or topic_id in line.asked

    def _check(self, session: Session, topic_id: str, follows: bool, topics: int) -> None:
        if follows:
            raise Refusal("already_subscribed", f"this connection follows {topic_id} already")
        if topics >= self._limits.topics_allowed:
            raise Refusal("limit_reached", f"a connection follows at most {self._limits.topics_allowed} topics")
        if session.topics is not None and topic_id not in session.topics:
            raise other_topic()

    def _add(
        self, session: Session, line: _Line, subscribe: Subscribe, frame_id: FrameId, begun: float
    ) -> PendingSubscribe:
        pending = PendingSubscribe(session, subscribe, frame_id, begun, self._limits.hold_s)
        line.asked[subscribe.topic_id] = pending
        self._all[pending] = None
        return pending

    def _end_turn(self, pending: PendingSubscribe) -> None:
        self._turns.pop(pending, None)
        line = self._lines.get(pending.session)
        if line is not None and line.turn is pending:
            line.turn = None

    def _remove(self, pending: PendingSubscribe, event: SubscriptionEvent) -> None:
        """Takes a subscribe out of every list, once the table allows it."""
        pending.move(event)
        self._all.pop(pending, None)
        self._end_turn(pending)
        held = self._held.get(pending.shard)
        if held is not None:
            held.pop(pending, None)
            if not held:
                del self._held[pending.shard]
        line = self._lines.get(pending.session)
        if line is not None:
            line.asked.pop(pending.topic_id, None)
            self._tidy(pending.session, line)


def other_topic() -> Refusal:
    """Returns the refusal of a topic that a ticket does not name."""
    return Refusal("forbidden", "this ticket is for other topics")


def _topics(query: list[QueryTopic]) -> set[str]:
    return {topic_id for topic_id, wanted in query if not isinstance(wanted, Refusal)}
