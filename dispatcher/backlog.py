"""How many messages of each topic wait on one link, while much does.

The link knows only the bytes that wait on it. So each message that goes onto a link which is not nearly empty leaves a
mark: how many bytes had been queued up to its end. Once that many have gone, it was handed over.
"""

from collections import deque
from typing import Final

ABOVE: Final = 64 * 1024  # bytes; what waits on a link with less counts as handed over


class Backlog:
    """The marks of one link; false while there are none. `queued` is always what waits on the link now, in bytes.

    A link that takes no more live messages at 8 MiB bounds the marks: some ten thousand, 100 bytes each.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[int, str, int]] = deque()  # the end of a message, its topic, how many it carries
        self._counts: dict[str, int] = {}
        self._end = 0  # of all that was queued, counted from when there was no mark

    def __bool__(self) -> bool:
        return bool(self._marks)

    def sent(self, before: int, after: int) -> None:
        """Something was queued: `before` and `after` are the bytes that waited then."""
        self._end = self._end + after - before if self._marks else after
        self._settle(after)

    def mark(self, topic_id: str, count: int) -> None:
        """What was just queued carries `count` messages of a topic."""
        self._marks.append((self._end, topic_id, count))
        self._counts[topic_id] = self._counts.get(topic_id, 0) + count

    def counts(self, queued: int) -> dict[str, int]:
        """Returns how many messages of each topic wait."""
        self._settle(queued)
        return self._counts

    def _settle(self, queued: int) -> None:
        handed = self._end - queued
        while self._marks and self._marks[0][0] <= handed:
            _, topic_id, count = self._marks.popleft()
            left = self._counts[topic_id] - count
            if left > 0:
                self._counts[topic_id] = left
            else:
                del self._counts[topic_id]
