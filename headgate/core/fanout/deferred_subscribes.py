"""Subscribes of frames that wait: few topics of a session are asked for together.

Each grant may bring a list of 1,000 users, and a client that does not read must not be sent very many of them.
"""

from collections import deque
from collections.abc import Set
from typing import Final, NamedTuple

from headgate.core.client.inbound import Subscribe
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.session import Session

_NO_TOPICS: Final[frozenset[str]] = frozenset()


class Deferred(NamedTuple):
    """A subscribe whose frame came at `since`, in monotonic seconds."""

    subscribe: Subscribe
    frame_id: FrameId
    since: float


class DeferredSubscribes:
    """Those of all sessions, in the order of their frames."""

    def __init__(self) -> None:
        self._waiting: dict[Session, deque[Deferred]] = {}
        self._in_turn: set[Session] = set()

    def add(self, session: Session, subscribe: Subscribe, frame_id: FrameId, now: float) -> None:
        """Takes the subscribe of a frame that came now."""
        self._waiting.setdefault(session, deque()).append(Deferred(subscribe, frame_id, now))

    def sessions(self) -> list[Session]:
        """Returns the sessions with subscribes that wait."""
        return list(self._waiting)

    def names(self, session: Session) -> Set[str]:
        """Returns the ids of a session's topics."""
        waiting = self._waiting.get(session)
        return _NO_TOPICS if waiting is None else {each.subscribe.topic_id for each in waiting}

    def count(self, session: Session) -> int:
        """Returns how many of a session wait."""
        return len(self._waiting.get(session, ()))

    def withdraw(self, session: Session, topic_id: str) -> bool:
        """Forgets a topic; false where it does not wait."""
        before = self.count(session)
        kept = deque(each for each in self._waiting.get(session, ()) if each.subscribe.topic_id != topic_id)
        self._keep(session, kept)
        return len(kept) < before

    def drop(self, session: Session) -> None:
        """The session ended."""
        self._waiting.pop(session, None)

    # Asking for them

    def enter(self, session: Session) -> bool:
        """Begins a series of `take`; false when nothing waits, or a series is under way."""
        if session not in self._waiting or session in self._in_turn:
            return False
        self._in_turn.add(session)
        return True

    def leave(self, session: Session) -> None:
        """Ends a series."""
        self._in_turn.discard(session)

    def take(self, session: Session) -> Deferred | None:
        """Returns the one that waits longest, no longer here; None where none is left."""
        waiting = self._waiting.get(session)
        if waiting is None:
            return None
        found = waiting.popleft()
        self._keep(session, waiting)
        return found

    def _keep(self, session: Session, waiting: deque[Deferred]) -> None:
        if waiting:
            self._waiting[session] = waiting
        else:
            self._waiting.pop(session, None)
