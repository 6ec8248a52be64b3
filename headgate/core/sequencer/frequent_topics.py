"""The topics that something happens to most often in the last hour, without a counter for each topic.

It is the summary of Misra and Gries (1982), with the purge of many counters at once by Anderson and others ("A
High-Performance Algorithm for Identifying Frequent Items in Data Streams", 2017): one step costs the same at the bound
as below it, spread over the steps. A topic's true count is never below what is shown, and at most `error` above it.
"""

from collections import Counter
from heapq import nlargest
from typing import Final, NamedTuple

COUNTERS: Final = 512  # topics of one slot
KEPT: Final = 256  # of them after a purge; what was seen divided by KEPT + 1 is the largest error of a slot
SLOT_MS: Final = 300_000
SLOTS: Final = 12  # an hour: of the last 55 to 60 minutes


class FrequentTopic(NamedTuple):
    """A topic that was counted: at least `times` times, and at most `error` more."""

    topic_id: str
    times: int
    error: int


class FrequentTopics:
    """The counters of one slot. `error` is how much the count of any topic may be too low."""

    __slots__ = ("counts", "error")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.error = 0

    def add(self, topic_id: str, count: int) -> None:
        """Counts a topic `count` times."""
        found = self.counts.get(topic_id)
        if found is not None:
            self.counts[topic_id] = found + count
            return
        self.counts[topic_id] = count
        if len(self.counts) > COUNTERS:
            self._purge()

    def _purge(self) -> None:
        """Takes what the largest counter that must go has from all counters. Those without anything left go."""
        cut = sorted(self.counts.values(), reverse=True)[KEPT]
        self.counts = {topic_id: count - cut for topic_id, count in self.counts.items() if count > cut}
        self.error += cut


class TopicHour:
    """What happened to the topics of one shard in the last hour, in SLOTS slots. Times are Unix milliseconds."""

    def __init__(self) -> None:
        self._slots: dict[int, FrequentTopics] = {}  # by time divided by SLOT_MS
        self._newest = 0

    def __len__(self) -> int:
        """Returns the number of counters."""
        return sum(len(slot.counts) for slot in self._slots.values())

    def add(self, topic_id: str, count: int, at_ms: int) -> None:
        """Counts a topic `count` times at a time. What is older than an hour, seen from the newest, is left out."""
        number = at_ms // SLOT_MS
        slot = self._slots.get(number)
        if slot is None:
            if number <= self._newest - SLOTS:
                return
            slot = self._begin(number)
        slot.add(topic_id, count)

    def most(self, size: int, now_ms: int) -> list[FrequentTopic]:
        """Returns the `size` topics that were counted most often in the hour up to now, most frequent first."""
        oldest = now_ms // SLOT_MS - SLOTS
        slots = [slot for number, slot in self._slots.items() if number > oldest]
        counts: Counter[str] = Counter()
        for slot in slots:
            counts.update(slot.counts)
        error = sum(slot.error for slot in slots)
        largest = nlargest(size, counts.items(), key=lambda item: item[1])
        return [FrequentTopic(topic_id, count, error) for topic_id, count in largest]

    def forget(self, topic_id: str) -> None:
        """Takes a topic's counters away."""
        for slot in self._slots.values():
            slot.counts.pop(topic_id, None)

    def _begin(self, number: int) -> FrequentTopics:
        self._newest = max(self._newest, number)
        self._slots = {known: slot for known, slot in self._slots.items() if known > self._newest - SLOTS}
        slot = self._slots[number] = FrequentTopics()
        return slot
