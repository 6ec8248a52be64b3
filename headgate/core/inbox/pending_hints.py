"""Which users are to be told of new messages, of which topics, and when: at most one hint a second and user."""

from heapq import heappop, heappush
from typing import Final

from headgate.core.wire.link_inbox import HINT_TOPICS

BETWEEN_S: Final = 1.0  # two hints to a user
MAX_WAITING: Final = 500_000  # users and topics that wait: further ones are not told of
USER_TOPICS: Final = 1_000  # of one user that wait: ten hints. He is told of those that moved last


class PendingHints:
    """The hints of one shard. A user is in the heap once: for his next hint, or for the end of his pause after one."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, None]] = {}  # by user: topics, those that moved last at the end
        self._due: list[tuple[float, str]] = []
        self._waiting = 0

    def __bool__(self) -> bool:
        """Whether anything waits, or a pause lasts."""
        return bool(self._users)

    def add(self, user_id: str, topic_id: str, at: float) -> None:
        """Adds a topic that moved. `at` is when a user who has no hint coming, and had none lately, is told."""
        topics = self._users.get(user_id)
        if topics is None:
            if self._waiting >= MAX_WAITING:
                return
            topics = self._users[user_id] = {}
            heappush(self._due, (at, user_id))
        elif topic_id in topics:  # it is the newest now
            del topics[topic_id]
            topics[topic_id] = None
            return
        elif len(topics) >= USER_TOPICS:  # a few users of very many topics must not take all the room
            del topics[next(iter(topics))]
            self._waiting -= 1
        if self._waiting < MAX_WAITING:
            topics[topic_id] = None
            self._waiting += 1

    def take(self, now: float) -> tuple[str, list[str]] | None:
        """Takes a user whose time has come, with the topics that moved last, the last first; None: nobody's has.

        A hint has at most HINT_TOPICS topics; the rest comes a second later.
        """
        while self._due and self._due[0][0] <= now:
            _, user_id = heappop(self._due)
            topics = self._users[user_id]
            if not topics:
                del self._users[user_id]
                continue
            newest: list[str] = []
            while topics and len(newest) < HINT_TOPICS:
                newest.append(topics.popitem()[0])
            self._waiting -= len(newest)
            heappush(self._due, (now + BETWEEN_S, user_id))
            return user_id, newest
        return None
