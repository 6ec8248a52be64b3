"""What somebody was last told about each user, and what is different now: who came and went in between is no news."""

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class UserChange(NamedTuple, Generic[V]):
    """A user's value as it was told, and as it is; None where he is not among them."""

    user_id: str
    before: V | None
    now: V | None


class ToldUsers(Generic[V]):
    """Bounded by the users told, now and shown: any other that is as it was told takes no place."""

    def __init__(self, told: Mapping[str, V]) -> None:
        self._told = dict(told)
        self._changed: dict[str, V | None] = {}
        self._shown: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._changed)

    def note(self, user_id: str, now: V | None) -> None:
        """A user is now so; None: he is not among them any longer."""
        if self._told.get(user_id) == now and user_id not in self._shown:
            self._changed.pop(user_id, None)
        else:
            self._changed[user_id] = now

    def shown(self) -> None:
        """Somebody more was shown all as it is now: what differs at present is told to him also if it is undone."""
        self._shown.update(self._changed)

    def take(self) -> list[UserChange[V]]:
        """Returns what is different; it is told with that."""
        changed, self._changed = self._changed, {}
        self._shown.clear()
        changes = [UserChange(user_id, self._told.get(user_id), now) for user_id, now in changed.items()]
        for user_id, _, now in changes:
            if now is None:
                self._told.pop(user_id, None)
            else:
                self._told[user_id] = now
        return changes
