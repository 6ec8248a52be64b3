"""The first of one shard by members, messages, failures and backlog: what is counted, and the lists made of it."""

from collections.abc import Callable

from headgate.core.sequencer.frequent_topics import FrequentTopic, TopicHour
from headgate.core.wire.link_stats import TopEntry, TopLists


class ShardTops:
    """The lists of one shard. `size` is how many entries each has at most; 0: nothing is counted.

    `lists` is what was found last. Members and backlogs are put there by those who look through them.
    """

    def __init__(self, size: int, wall_ms: Callable[[], int]) -> None:
        self.size = size
        self._wall_ms = wall_ms
        self.lists = TopLists()
        self._messages = TopicHour()
        self._failures = TopicHour()

    def published(self, topic_id: str, count: int, at_ms: int) -> None:
        """Counts messages of a topic that were appended at a time (Unix milliseconds)."""
        if self.size:
            self._messages.add(topic_id, count, at_ms)

    def relayed(self, topic_id: str) -> None:
        """Counts a message of an ephemeral topic that was sent on now."""
        if self.size:
            self._messages.add(topic_id, 1, self._wall_ms())

    def failed(self, topic_id: str, count: int) -> None:
        """Counts deliveries of a topic that failed, as was told now."""
        if self.size and count:
            self._failures.add(topic_id, count, self._wall_ms())

    def deleted(self, topic_id: str) -> None:
        """The topic is gone: one that gets its id later begins at 0."""
        self._messages.forget(topic_id)
        self._failures.forget(topic_id)

    def count_hour(self) -> None:
        """Makes the lists of the last hour anew: a few milliseconds where all counters are in use."""
        if self.size:
            now_ms = self._wall_ms()
            self.lists.messages = _entries(self._messages.most(self.size, now_ms))
            self.lists.failures = _entries(self._failures.most(self.size, now_ms))


def _entries(found: list[FrequentTopic]) -> list[TopEntry]:
    return [TopEntry(*each) for each in found]
