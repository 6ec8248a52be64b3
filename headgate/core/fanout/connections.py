"""The sessions of one gateway, counted by user."""

from collections import Counter

from headgate.core.fanout.session import Session
from headgate.core.wire.rights import Caller


class Connections:
    """All sessions from their opening to their end; at most `per_user` of one user, unless it is a service."""

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._sessions: dict[Session, None] = {}
        self._users: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Session]:
        """Returns all sessions."""
        return list(self._sessions)

    def of(self, user_id: str) -> list[Session]:
        """Returns the sessions of a user."""
        return [s for s in self._sessions if s.caller is not None and s.caller.user_id == user_id]

    def open(self, session: Session) -> None:
        """Takes a session; nobody knows yet whose it is."""
        self._sessions[session] = None

    def admit(self, caller: Caller) -> bool:
        """Counts a session for its user; false, and not counted, when there are too many."""
        if self._users[caller.user_id] >= self._per_user and not caller.service:
            return False
        self._users[caller.user_id] += 1
        return True

    def close(self, session: Session) -> bool:
        """Forgets a session; false when it is not known."""
        if session not in self._sessions:
            return False
        del self._sessions[session]
        caller = session.caller
        if caller is not None:
            self._users[caller.user_id] -= 1
            if self._users[caller.user_id] <= 0:
                del self._users[caller.user_id]
        return True
