"""The sessions of one gateway, by user and by the shard of the user."""

import math
from collections.abc import Callable, Iterable

from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller

_Sessions = Session | dict[Session, None]  # who has one session, as most have, costs one entry
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, without the whole part, fill 0 to 1 evenly however many there are
_NOWHERE = -1  # the shard of users while the number of shards is not known


class Connections:
    """All sessions from their opening to their end; at most `per_user` of one user, unless it is a service.

    `shard_of` returns the shard of a user id. It raises Refusal while the number of shards is not known.
    """

    def __init__(self, per_user: int, shard_of: Callable[[str], int]) -> None:
        self._per_user = per_user
        self._shard_of = shard_of
        self._sessions: dict[Session, None] = {}
        self._users: dict[int, dict[str, _Sessions]] = {}  # the users that were admitted, by shard
        self._changed: dict[int, dict[str, None]] = {}  # users with one session more or less, by shard
        self._devices: dict[Session, str] = {}  # of those that named one
        self._greeted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Session]:
        """Returns all sessions."""
        return list(self._sessions)

    def of(self, user_id: str) -> list[Session]:
        """Returns the sessions of a user, the oldest first."""
        return list(_each(self._users_of(self.shard_of(user_id)).get(user_id)))

    def count(self, user_id: str) -> int:
        """Returns how many sessions a user has."""
        return _size(self._users_of(self.shard_of(user_id)).get(user_id))

    def counts(self, shard: int) -> list[tuple[str, int]]:
        """Returns the users of a shard, each with how many sessions he has here."""
        self.shard_of("")  # moves those that were admitted before the number of shards was known
        return [(user_id, _size(sessions)) for user_id, sessions in self._users_of(shard).items()]

    @property
    def has_changed(self) -> bool:
        """Whether `take_changed` has something to return."""
        return bool(self._changed)

    def take_changed(self) -> dict[int, list[tuple[str, int]]]:
        """Returns who has one session more or less since the last call, by shard, each with how many there are now."""
        changed, self._changed = self._changed, {}
        return {
            shard: [(user_id, _size(self._users_of(shard).get(user_id))) for user_id in users]
            for shard, users in changed.items()
        }

    def shard_of(self, user_id: str) -> int:
        """Returns the shard of a user, -1 while the number of shards is not known."""
        try:
            shard = self._shard_of(user_id)
        except Refusal:
            return _NOWHERE
        if _NOWHERE in self._users:
            for user, sessions in self._users.pop(_NOWHERE).items():
                self._users_of(self._shard_of(user))[user] = sessions
        return shard

    def open(self, session: Session) -> None:
        """Takes a session; nobody knows yet whose it is."""
        self._sessions[session] = None

    def admit(self, session: Session, caller: Caller) -> bool:
        """Gives a session to its user; false, and not given, when he has too many."""
        user_id = caller.user_id
        shard = self.shard_of(user_id)
        users = self._users_of(shard)
        before = users.get(user_id)
        if not caller.service and _size(before) >= self._per_user:
            return False
        if before is None:
            users[user_id] = session
        elif isinstance(before, dict):
            before[session] = None
        else:
            users[user_id] = {before: None, session: None}
        self._note(shard, user_id)
        return True

    def jitter(self) -> float:
        """Returns the next client's `reconnect_jitter`, from 0 to 1: those of all clients are spread evenly."""
        self._greeted += 1
        return round(self._greeted * _GOLDEN % 1.0, 4)

    def too_many(self, user_id: str, elsewhere: int) -> list[Session]:
        """Returns the newest sessions of a user that are above the bound with those `elsewhere`; none of a service."""
        sessions = self.of(user_id)
        excess = len(sessions) + elsewhere - self._per_user
        bounded = [session for session in sessions if session.caller is not None and not session.caller.service]
        return bounded[-excess:] if excess > 0 else []

    def use_device(self, session: Session, device_id: str) -> None:
        """The client has named its device."""
        self._devices[session] = device_id

    def device(self, session: Session) -> str | None:
        """Returns the device that the client has named."""
        return self._devices.get(session)

    def close(self, session: Session) -> bool:
        """Forgets a session; false when it is not known."""
        if session not in self._sessions:
            return False
        del self._sessions[session]
        self._devices.pop(session, None)
        if session.caller is not None:
            self._take_from(session, session.caller.user_id)
        return True

    def _take_from(self, session: Session, user_id: str) -> None:
        shard = self.shard_of(user_id)
        users = self._users_of(shard)
        found = users.get(user_id)
        if isinstance(found, dict):
            found.pop(session, None)
        if found is session or found == {}:
            del users[user_id]
        self._note(shard, user_id)

    def _note(self, shard: int, user_id: str) -> None:
        changed = self._changed.get(shard)
        if changed is None:
            changed = self._changed[shard] = {}
        changed[user_id] = None

    def _users_of(self, shard: int) -> dict[str, _Sessions]:
        users = self._users.get(shard)
        if users is None:
            users = self._users[shard] = {}
        return users


def _size(found: _Sessions | None) -> int:
    if found is None:
        return 0
    return len(found) if isinstance(found, dict) else 1


def _each(found: _Sessions | None) -> Iterable[Session]:
    if found is None:
        return ()
    return found if isinstance(found, dict) else (found,)
