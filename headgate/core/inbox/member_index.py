"""Which users of a shard are members of a topic: an index of its memberships, never stored.

Most topics have one member here or two, some have very many. So a topic's members are one id, a short tuple or a set.
"""

from collections.abc import Collection
from typing import Final

FEW: Final = 8  # a set takes as much as 20 ids


class MemberIndex:
    """Members by topic."""

    def __init__(self) -> None:
        self._topics: dict[str, str | tuple[str, ...] | set[str]] = {}

    def __contains__(self, topic_id: str) -> bool:
        """Whether a topic has members here."""
        return topic_id in self._topics

    def of(self, topic_id: str) -> Collection[str]:
        """Returns the members of a topic, in no order; not to be kept."""
        found = self._topics.get(topic_id, ())
        return (found,) if isinstance(found, str) else found

    def add(self, topic_id: str, user_id: str) -> None:
        """Adds a member, who may be one already."""
        found = self.of(topic_id)
        if user_id in found:
            return
        if isinstance(found, set):
            found.add(user_id)
        elif len(found) < FEW:
            self._topics[topic_id] = (*found, user_id) if found else user_id
        else:
            self._topics[topic_id] = {*found, user_id}

    def remove(self, topic_id: str, user_id: str) -> None:
        """Removes a member, who may be none."""
        found = self.of(topic_id)
        if isinstance(found, set):
            found.discard(user_id)
            rest: Collection[str] = found
        else:
            rest = tuple([member for member in found if member != user_id])
            if rest:
                self._topics[topic_id] = rest if len(rest) > 1 else rest[0]
        if not rest:
            self._topics.pop(topic_id, None)
