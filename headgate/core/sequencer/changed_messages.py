"""The messages of a shard that were edited or redacted: one row each, with the version the message has now.

A message without a row is at version 1. At most MOST rows are kept: beyond it those of the messages that stand lowest
in the log leave, and `below` rises to the place of the last that left. A message at or below it can still be redacted,
and no longer edited, because nobody knows its version. All of this depends on the records alone.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

MOST: Final = 100_000  # rows of a shard: about 300 bytes each
NO_BOUND: Final = 1 << 62
FIRST_VERSION: Final = 1


class ChangedMessage(NamedTuple):
    """A message that is at `version`, or was redacted at it. `pos` is its place in the log: offset << 10 | item."""

    version: int
    pos: int
    redacted: bool


class _TopicRows(NamedTuple):
    epoch: int
    rows: dict[int, ChangedMessage]


class ChangedMessages:
    """The rows, by topic key and seq; those of a topic's older epoch count as absent."""

    __slots__ = ("_heap", "_most", "_topics", "below", "count")

    def __init__(self, below: int = -1, most: int = MOST) -> None:
        self._most = most
        self._topics: dict[bytes, _TopicRows] = {}
        self._heap: list[tuple[int, bytes, int]] = []  # pos, key, seq; some of topics that are gone
        self.below = below
        self.count = 0

    def get(self, key: bytes, epoch: int, seq: int) -> ChangedMessage | None:
        """Returns the row of a message, None where there is none."""
        topic = self._topics.get(key)
        return None if topic is None or topic.epoch != epoch else topic.rows.get(seq)

    def put(self, key: bytes, epoch: int, seq: int, row: ChangedMessage) -> None:
        """Takes the row of a message; of one at or below `below` nothing is kept."""
        if row.pos <= self.below:
            return
        topic = self._topics.get(key)
        if topic is None or topic.epoch < epoch:
            self.drop_topic(key)
            topic = self._topics[key] = _TopicRows(epoch, {})
        elif topic.epoch > epoch:
            return
        known = topic.rows.get(seq)
        if known is None:
            self.count += 1
            heappush(self._heap, (row.pos, key, seq))
            topic.rows[seq] = row
        else:  # its place never changes, whatever a record says
            topic.rows[seq] = row._replace(pos=known.pos)
        while self.count > self._most or (self._heap and self._heap[0][0] <= self.below):
            self._drop_lowest()

    def drop_topic(self, key: bytes) -> None:
        """Forgets the messages of a topic."""
        topic = self._topics.pop(key, None)
        if topic is None:
            return
        self.count -= len(topic.rows)
        if len(self._heap) > 2 * self._most:
            self._heap = [entry for entry in self._heap if self._is_live(*entry)]
            heapify(self._heap)

    def seqs(self, key: bytes) -> list[int]:
        """Returns the seqs of a topic's rows."""
        topic = self._topics.get(key)
        return [] if topic is None else list(topic.rows)

    def topic_keys(self) -> list[bytes]:
        """Returns the keys of the topics that have rows."""
        return list(self._topics)

    def __iter__(self) -> Iterator[tuple[bytes, int, int, ChangedMessage]]:
        """Yields (topic key, epoch, seq, row) of all. Nothing may change meanwhile."""
        for key, topic in self._topics.items():
            for seq, row in topic.rows.items():
                yield key, topic.epoch, seq, row

    def _is_live(self, pos: int, key: bytes, seq: int) -> bool:
        topic = self._topics.get(key)
        row = None if topic is None else topic.rows.get(seq)
        return row is not None and row.pos == pos

    def _drop_lowest(self) -> None:
        pos, key, seq = heappop(self._heap)
        if not self._is_live(pos, key, seq):
            return
        rows = self._topics[key].rows
        del rows[seq]
        self.count -= 1
        self.below = pos
        if not rows:
            del self._topics[key]
