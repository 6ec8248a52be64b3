"""The messages of one feed whose publishers wait for their delivery, and how many subscribers each was written to.

Pieces of a feed are told as the numbers of their first and last message. A look-up costs the logarithm of the messages
that are counted, so that a piece for one slow subscriber stays cheap however many there are.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter


class WriteCount:
    """The count of message `number`, for the owner's question `watch`, until the second `expires`."""

    __slots__ = ("count", "expires", "is_flushed", "is_new", "number", "told", "watch")

    def __init__(self, number: int, watch: int, expires: float) -> None:
        self.number = number
        self.watch = watch
        self.expires = expires
        self.count = 0
        self.told = 0  # what the owner was told last
        self.is_flushed = False
        self.is_new = False  # flushed since the owner was told last


_number = attrgetter("number")


class PieceCounts:
    """The counts of one feed, by the numbers of their messages."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: list[WriteCount] = []

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[WriteCount]:
        return iter(self._counts)

    def add(self, count: WriteCount) -> None:
        """Takes a count of a message that has not been written yet."""
        insort(self._counts, count, key=_number)

    def remove(self, count: WriteCount) -> None:
        """Forgets a count."""
        self._counts.remove(count)

    def flushed(self, first: int, last: int, in_step: int) -> None:
        """A piece is written to the subscribers in step."""
        for count in self._of(first, last):
            count.count += in_step
            count.is_flushed = count.is_new = True

    def wrote(self, first: int, last: int, subscribers: int = 1) -> None:
        """A piece was written to one subscriber out of step, or to so many in a slice of a sweep."""
        for count in self._of(first, last):
            count.count += subscribers

    def set_back(self, cursor: int) -> None:
        """A subscriber in step did not get what is above `cursor` after all; it will get it later."""
        for count in self._counts[bisect_left(self._counts, cursor + 1, key=_number) :]:
            count.count -= count.is_flushed

    def _of(self, first: int, last: int) -> list[WriteCount]:
        begin = bisect_left(self._counts, first, key=_number)
        return self._counts[begin : bisect_left(self._counts, last + 1, begin, key=_number)]
