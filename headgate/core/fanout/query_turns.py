"""The topics of a session's query: some are asked for ahead, and the client is answered in their order.

An answer that comes before its turn is kept. The gateway knows nothing of its topic meanwhile, so it holds only until
the owner has changed or tells anything of the topic: then the grant is given back, and the owner is asked again at
the topic's turn. Topics whose owners are away, or late, bind the order no longer.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from headgate.core.client.inbound import PRESENCE_CHANGES, Subscribe
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Leave, Refused, Subscribed

AHEAD: Final = 16  # topics of one query that are asked for at once
PATIENCE_S: Final = 1.0  # how long the topics of a query wait for the answer to the one before

QueryTopic = tuple[str, Subscribe | Refusal]  # the topic id as the query has it, and what it asks for
Send = Callable[[int, Leave], None]  # to the owner of a shard


class _Query:
    """The query of one session. Exists while topics of it are left, or the answer to one of them is awaited.

    `topics` were not asked for yet; `turns` were, and are answered in this order; `in_turn` is set while the hub asks
    for them.
    """

    __slots__ = ("admitted_at", "in_turn", "topics", "turns")

    def __init__(self, topics: Iterable[QueryTopic]) -> None:
        self.topics = deque(topics)
        self.turns: deque[PendingSubscribe] = deque()
        self.in_turn = False
        self.admitted_at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return not self.topics and not self.turns and not self.in_turn


class QueryTurns:
    """The queries of all sessions. Grants that are not used are given back by `send`. `now` is monotonic seconds.

    `kept` are the subscribes whose answers are kept, by topic.
    """

    def __init__(self, send: Send) -> None:
        self.kept: dict[str, dict[PendingSubscribe, None]] = {}
        self._send = send
        self._queries: dict[Session, _Query] = {}
        # Those whose answers others of their query wait for: one that is late may wait a second more.
        self._turns: dict[PendingSubscribe, None] = {}

    # What is wanted

    def want(self, session: Session, topics: Iterable[QueryTopic]) -> None:
        """Takes the topics of a session's query, in their order; asked for after `begin`."""
        query = _Query(topics)
        if query.topics:
            self._queries[session] = query

    def begin(self, session: Session, now: float) -> Subscribe | None:
        """The session is admitted: the topics of its query have their deadlines from now.

        Returns the only topic of a query, which then is not in it any longer: there is no order to keep.
        """
        query = self._queries.get(session)
        if query is None:
            return None
        query.admitted_at = now
        wanted = query.topics[0][1]
        if len(query.topics) > 1 or isinstance(wanted, Refusal) or session.topics is not None:
            return None
        del self._queries[session]
        return wanted

    def names(self, session: Session) -> set[str]:
        """Returns the ids of the topics of a query that were not asked for yet."""
        query = self._queries.get(session)
        topics = () if query is None else query.topics
        return {topic_id for topic_id, wanted in topics if not isinstance(wanted, Refusal)}

    def count(self, session: Session) -> int:
        """Returns how many topics of a query were not asked for yet."""
        query = self._queries.get(session)
        return 0 if query is None else len(query.topics)

    def withdraw(self, session: Session, topic_id: str) -> None:
        """Takes a topic out of those that were not asked for yet."""
        query = self._queries.get(session)
        if query is not None:
            query.topics = deque(each for each in query.topics if each[0] != topic_id or isinstance(each[1], Refusal))
            self._tidy(session, query)

    def drop(self, session: Session) -> None:
        """The session ended, and so did its subscribes."""
        self._queries.pop(session, None)

    # Asking for it

    def enter(self, session: Session) -> bool:
        """Begins a series of `due` and `next`; false when there is no query, or a series is under way."""
        query = self._queries.get(session)
        if query is None or query.in_turn:
            return False
        query.in_turn = True
        return True

    def leave(self, session: Session) -> None:
        """Ends a series."""
        query = self._queries.get(session)
        if query is not None:
            query.in_turn = False
            self._tidy(session, query)

    def next(self, session: Session) -> tuple[str, Subscribe | Refusal, bool] | None:
        """Returns the next topic to ask for, and whether others of the query are awaited. It stays in the query.

        None when there is none, or it is to be asked for once those before it are answered.
        """
        query = self._queries.get(session)
        if query is None or not query.topics:
            return None
        topic_id, wanted = query.topics[0]
        if query.turns and (len(query.turns) >= AHEAD or not _may_go_ahead(wanted)):
            return None
        return topic_id, wanted, bool(query.turns)

    def take(self, session: Session) -> float:
        """Takes the topic that `next` returned out of the query; returns when the session was admitted."""
        query = self._queries[session]
        query.topics.popleft()
        return query.admitted_at

    def await_turn(self, pending: PendingSubscribe, now: float) -> None:
        """A topic is about to be asked for. Where the query is late already, its order binds no longer."""
        if not self.is_late(pending.session, now):
            self._queries[pending.session].turns.append(pending)
            self._turns[pending] = None

    def is_late(self, session: Session, now: float) -> bool:
        """Whether a session's query has taken so long that its order binds no longer."""
        return now - self._queries[session].admitted_at >= PATIENCE_S

    # Answers

    def keeps(self, pending: PendingSubscribe, answer: Answer) -> bool:
        """Returns whether an answer came before its turn: it is kept then.

        No turn comes while the socket is full, where others were asked for as well. That a topic's owner is away is
        told at once. A list of who follows it is not kept: it changes.
        """
        if pending not in self._turns:
            return False
        is_next = self._queries[pending.session].turns[0] is pending
        if is_next and not (pending.session.paused and _may_go_ahead(pending.subscribe)):
            return False
        if isinstance(answer, Refused):
            if answer.code == "not_ready":
                return False
            self._keep(pending, answer)
        elif isinstance(answer, Subscribed):
            if answer.settings.get("presence") == "list":
                self.give_back(pending, answer)
                pending.ask_in_turn()
            else:
                self._keep(pending, answer)
        return True

    def due(self, session: Session) -> tuple[PendingSubscribe, Subscribed | Refused | None] | None:
        """Returns the subscribe whose turn it is, with the answer that was kept; None where its owner is being asked.

        Without an answer the owner is to be asked now.
        """
        query = self._queries.get(session)
        if query is None or not query.turns:
            return None
        pending = query.turns[0]
        if not pending.is_answered:
            return None
        self._forget(pending)
        return pending, pending.take_turn()

    def end(self, pending: PendingSubscribe) -> None:
        """A subscribe was granted, ended or is held: no topic of its query waits for it."""
        if pending not in self._turns:
            return
        del self._turns[pending]
        session = pending.session
        query = self._queries[session]
        query.turns.remove(pending)
        self._forget(pending)
        if isinstance(answer := pending.take_turn(), Subscribed):
            self.give_back(pending, answer)
        self._tidy(session, query)

    def binds(self, pending: PendingSubscribe) -> bool:
        """Whether the client is told of a subscribe in its turn."""
        return pending in self._turns

    def stalled(self) -> list[Session]:
        """Returns the admitted sessions whose next topics wait, and not for a turn."""
        waiting = [session for session, query in self._queries.items() if query.topics and not query.turns]
        return [session for session in waiting if session.caller is not None]

    def late(self, now: float) -> list[Session]:
        """Ends the turns that took too long; returns their sessions, whose next topics may be asked for.

        Those with an answer stay in their order, also where a fault kept them from it.
        """
        late = []
        for pending in self._turns:
            if now - pending.begun < PATIENCE_S:
                break
            late.append(pending)
        for pending in late:
            if not pending.is_answered:
                self.end(pending)
        return list(dict.fromkeys(pending.session for pending in late))

    # What is kept no longer

    def give_back(self, pending: PendingSubscribe, answer: Subscribed) -> None:
        """Tells the owner that a grant is not used."""
        assert pending.shard is not None, "the owner of a shard has answered"
        self._send(pending.shard, Leave(pending.topic_id, answer.epoch))

    def told(self, topic_id: str) -> None:
        """The owner tells something of a topic: what it was when the answers came, it is not any longer."""
        for pending in self.kept.pop(topic_id, ()):
            answer = pending.early
            pending.ask_in_turn()
            if isinstance(answer, Subscribed):
                self.give_back(pending, answer)

    def lose(self, shard: int) -> None:
        """The owner of a shard has gone, and knows nothing of its grants; or another one has come."""
        for pending in [each for kept in self.kept.values() for each in kept if each.shard == shard]:
            self._forget(pending)
            pending.ask_in_turn()

    def _keep(self, pending: PendingSubscribe, answer: Subscribed | Refused) -> None:
        pending.put_off(answer)
        self.kept.setdefault(pending.topic_id, {})[pending] = None

    def _forget(self, pending: PendingSubscribe) -> None:
        kept = self.kept.get(pending.topic_id)
        if kept is not None and pending in kept:
            del kept[pending]
            if not kept:
                del self.kept[pending.topic_id]

    def _tidy(self, session: Session, query: _Query) -> None:
        if query.is_over:
            self._queries.pop(session, None)


def _may_go_ahead(wanted: Subscribe | Refusal) -> bool:
    """Returns whether a topic may be asked for while others of its query are: its answer is small and soon there."""
    if isinstance(wanted, Refusal) or wanted.position is not None:
        return False
    return not (wanted.ack or wanted.group or wanted.presence == PRESENCE_CHANGES)
