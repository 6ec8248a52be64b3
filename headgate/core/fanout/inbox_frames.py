"""`inbox` frames: what is new for a user in topics that a session of his does not follow, at most one a second."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.fanout.connections import Connections
from headgate.core.fanout.session import Session
from headgate.core.wire.link_inbox import HINT_TOPICS, HintTopic, UserHints
from headgate.core.wire.rights import ANYBODY

EVERY_S: Final = 1.0
SLICE: Final = 500  # writes of one loop turn: about 4 ms


class InboxFrames:
    """Serves the sessions of one gateway. `schedule` asks the shell for a call of `write`.

    A session that was told within the last second gets the newest of what came since when the second is over. One whose
    socket is full misses it: it was a hint.
    """

    def __init__(self, connections: Connections, schedule: Callable[[], None]) -> None:
        self._connections = connections
        self._schedule = schedule
        self._new: dict[Session, OrderedDict[str, HintTopic]] = {}  # what a session was not told yet
        self._due: OrderedDict[Session, None] = OrderedDict()  # a part of those, to be written now
        self._told: OrderedDict[Session, float] = OrderedDict()  # within the last second, the oldest first

    def receive(self, hints: UserHints) -> None:
        """Takes what the owner of users' shard tells."""
        for user in hints.users:
            if user.user_id == ANYBODY:
                continue  # its topics are those of all who gave no name
            for session in self._connections.of(user.user_id):
                if _takes(session):
                    self._add(session, user.topics)

    def write(self, now: float) -> None:
        """Writes one slice, and asks for the next."""
        for _ in range(min(SLICE, len(self._due))):
            self._tell(self._due.popitem(last=False)[0], now)
        if self._due:
            self._schedule()

    def tick(self, now: float) -> None:
        """The second of some sessions is over."""
        while self._told:
            session, at = next(iter(self._told.items()))
            if now - at < EVERY_S:
                break
            self._told.popitem(last=False)
            if session in self._new:
                self._want(session)

    def drop(self, session: Session) -> None:
        """A session has ended."""
        self._new.pop(session, None)
        self._due.pop(session, None)
        self._told.pop(session, None)

    def _add(self, session: Session, topics: list[HintTopic]) -> None:
        new = self._new.get(session)
        if new is None:
            new = self._new[session] = OrderedDict()
        for topic in topics:
            new[topic.topic_id] = topic
            new.move_to_end(topic.topic_id)
            if len(new) > HINT_TOPICS:
                new.popitem(last=False)
        if session not in self._told:
            self._want(session)

    def _want(self, session: Session) -> None:
        if not self._due:
            self._schedule()
        self._due[session] = None

    def _tell(self, session: Session, now: float) -> None:
        new, followed = self._new.pop(session), session.subscriptions
        topics = [
            {"topic_id": topic.topic_id, "head_seq": topic.head_seq, "unread": topic.unread}
            for topic in new.values()
            if topic.topic_id not in followed and session.may_be_told_of(topic.topic_id)
        ]
        if topics and _takes(session):
            self._told[session] = now
            session.emit(outbound.inbox(topics))


def _takes(session: Session) -> bool:
    return session.framing is WEBSOCKET and not session.paused and not session.closed
