"""Roles of users in topics, as the topics' owners told them: bounded, the oldest is forgotten first."""

from collections import OrderedDict
from typing import Final, NamedTuple

from headgate.core.wire.member_roles import Role

MAX_ROLES: Final = 100_000  # about 41 MB


class KnownRole(NamedTuple):
    """A role and the second in which its answer came. It belongs to the entry of the topic that has the same `mark`."""

    role: Role
    at: float
    mark: int


class KnownRoles:
    """The roles. That somebody is no member is not remembered: it lets nobody in.

    A topic's entry has a `mark`. A role that was learnt under another one is not returned: so all roles of a topic are
    dropped with its entry.
    """

    def __init__(self) -> None:
        self._roles: OrderedDict[tuple[str, str], KnownRole] = OrderedDict()  # by topic and user, oldest first

    def __len__(self) -> int:
        return len(self._roles)

    def get(self, topic_id: str, user_id: str, mark: int) -> KnownRole | None:
        """Returns a user's role in a topic, None where it is not known."""
        known = self._roles.get((topic_id, user_id))
        return known if known is not None and known.mark == mark else None

    def put(self, topic_id: str, user_id: str, role: Role | None, at: float, mark: int) -> None:
        """Remembers what an owner answered; `role` is None for one who is no member."""
        key = (topic_id, user_id)
        self._roles.pop(key, None)
        if role is None:
            return
        if len(self._roles) >= MAX_ROLES:
            self._roles.popitem(last=False)
        self._roles[key] = KnownRole(role, at, mark)

    def drop(self, topic_id: str, user_id: str) -> None:
        """Forgets a role that is known to have changed."""
        self._roles.pop((topic_id, user_id), None)
