"""The users of a shard with the most unread messages, found by looking at all of them in turn.

Nothing is counted when a message comes. So a number is as old as the last look: the users that were found are looked at
at the beginning of each round and again after LOOKED others; a round is as long as the shard has memberships.
"""

from collections.abc import Iterator
from heapq import nlargest
from typing import Final

from headgate.core.inbox.inbox_pages import SLICE_TOPICS, count_of
from headgate.core.inbox.users import UserTopics

TOP: Final = 10  # users that are kept, or more where longer lists are wanted
LOOKED: Final = 500  # users between two looks at those


class TopBacklogs:
    """The backlogs of one shard: unread messages of a user over all his topics. `kept` are known at a time."""

    def __init__(self, users: UserTopics, kept: int = TOP) -> None:
        self._kept = kept
        self._users = users
        self._top: dict[str, int] = {}
        self._looked = 0  # topics since the last step

    @property
    def most(self) -> int:
        """The largest backlog that was found."""
        return max(self._top.values(), default=0)

    def first(self, size: int) -> list[tuple[str, int]]:
        """Returns the `size` users with the largest backlogs that were found, largest first."""
        return nlargest(size, self._top.items(), key=lambda item: item[1])

    def round(self) -> Iterator[None]:
        """Looks at all users once, at about SLICE_TOPICS topics in a step."""
        for at, user_id in enumerate(self._users.memberships.users()):
            if at % LOOKED == 0:
                for known in list(self._top):
                    yield from self._look(known)
            yield from self._look(user_id)

    def _look(self, user_id: str) -> Iterator[None]:
        unread = 0
        for topics in self._users.memberships.topics(user_id, SLICE_TOPICS):
            unread += sum([self._unread(user_id, topic_id) for topic_id in topics])
            self._looked += len(topics)
            if self._looked >= SLICE_TOPICS:
                self._looked = 0
                yield
        self._note(user_id, unread)

    def _unread(self, user_id: str, topic_id: str) -> int:
        topic = self._users.membership(user_id, topic_id)
        return 0 if topic is None else count_of(self._users, user_id, topic_id, topic).unread

    def _note(self, user_id: str, unread: int) -> None:
        if not unread:
            self._top.pop(user_id, None)
            return
        self._top[user_id] = unread
        if len(self._top) > self._kept:
            del self._top[min(self._top, key=self._top.__getitem__)]
