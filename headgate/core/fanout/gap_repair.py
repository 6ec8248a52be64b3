"""Messages that a feed is missing: which to ask the owner for, and what its answer means.

The answer comes in the order of the link's messages. A page holds everything up to the moment it was sent, so messages
that arrive above a hole while it is open can be dropped, and those after the answer continue it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link import Answer, Page

MAX_TRIES: Final = 10  # a second apart: after so many empty pages the owner no longer has the messages


class Repair(NamedTuple):
    """What an answer means: everything below `lost_below` will never come (None: nothing is lost), then `page`."""

    lost_below: int | None
    page: Page


class _Hole:
    __slots__ = ("asked", "tries")

    def __init__(self) -> None:
        self.asked = False
        self.tries = 0  # empty pages since the feed last moved


class GapRepair:
    """The feeds with a hole. `linked` returns whether a shard's owner is linked."""

    def __init__(self, linked: Callable[[int], bool]) -> None:
        self._linked = linked
        self._holes: dict[TopicFeed, _Hole] = {}

    def ask(self, feed: TopicFeed) -> bool:
        """Returns whether to ask the owner for what is missing above the feed's head; one request at a time.

        Without an owner nothing is asked: a new one sends what is missing above the cursor that Attach names.
        """
        hole = self._holes.get(feed)
        if hole is None:
            hole = self._holes[feed] = _Hole()
        if hole.asked or not self._linked(feed.shard):
            return False
        hole.asked = True
        return True

    def due(self) -> list[TopicFeed]:
        """Returns the feeds that still have a hole, for another `ask`; called about once a second."""
        for feed in [feed for feed in self._holes if _closed(feed)]:
            del self._holes[feed]
        return list(self._holes)

    def forget(self, feed: TopicFeed) -> None:
        """The feed ended."""
        self._holes.pop(feed, None)

    def answered(self, feed: TopicFeed, answer: Answer) -> Repair | None:
        """Takes the answer to a request; None when there is nothing to do."""
        hole = self._holes.get(feed)
        if hole is None:
            return None
        hole.asked = False
        if not isinstance(answer, Page) or answer.epoch != feed.epoch or _closed(feed):
            return None
        begin = answer.seq if answer.frames else answer.first_seq
        if not answer.frames and begin <= feed.head + 1:
            hole.tries += 1
            if hole.tries >= MAX_TRIES:
                begin = feed.hole + 1
        return Repair(begin if begin > feed.head + 1 else None, answer)

    def moved(self, feed: TopicFeed) -> bool:
        """The feed's head has moved; returns whether messages are still missing."""
        hole = self._holes.get(feed)
        if hole is not None:
            hole.tries = 0
        return hole is not None and not _closed(feed)


def _closed(feed: TopicFeed) -> bool:
    return feed.head >= feed.hole
