"""The ids of a shard's topics in order, and their epochs. Reading a page costs in proportion to its length."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final

CHUNK: Final = 1_000  # ids moved at most by one insertion


class TopicList:
    """Sorted ids in chunks of at most CHUNK."""

    def __init__(self) -> None:
        self._chunks: list[list[str]] = []
        self._lasts: list[str] = []  # the greatest id of each chunk
        self._epochs: dict[int, str] = {}

    def add(self, topic_id: str, epoch: int) -> None:
        """Adds a topic that is not here."""
        self._epochs[epoch] = topic_id
        if not self._chunks:
            self._chunks, self._lasts = [[topic_id]], [topic_id]
            return
        at = min(bisect_left(self._lasts, topic_id), len(self._chunks) - 1)
        chunk = self._chunks[at]
        insort(chunk, topic_id)
        if len(chunk) > CHUNK:
            half = len(chunk) // 2
            self._chunks[at : at + 1] = [chunk[:half], chunk[half:]]
            self._lasts[at : at + 1] = [chunk[half - 1], chunk[-1]]
        else:
            self._lasts[at] = chunk[-1]

    def remove(self, topic_id: str, epoch: int) -> None:
        """Removes a topic that is here."""
        self._epochs.pop(epoch, None)
        at = bisect_left(self._lasts, topic_id)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, topic_id)]
        if chunk:
            self._lasts[at] = chunk[-1]
        else:
            del self._chunks[at], self._lasts[at]

    def has_epoch(self, epoch: int) -> bool:
        """Returns whether a topic of this epoch is here."""
        return epoch in self._epochs

    def topic_of(self, epoch: int) -> str | None:
        """Returns the id of the topic of an epoch, None where there is none."""
        return self._epochs.get(epoch)

    def above(self, after: str, prefix: str) -> Iterator[str]:
        """Yields the ids above `after` that begin with `prefix`, ascending. The list must not change meanwhile."""
        start, find = (prefix, bisect_left) if prefix > after else (after, bisect_right)
        first = find(self._lasts, start)
        for at in range(first, len(self._chunks)):
            chunk = self._chunks[at]
            for n in range(find(chunk, start) if at == first else 0, len(chunk)):
                if not chunk[n].startswith(prefix):
                    return
                yield chunk[n]
