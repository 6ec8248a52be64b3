"""Large topics that ended: their subscriptions end some in each loop turn, once the last sweep is over."""

from collections import deque
from collections.abc import Callable
from typing import Final

from headgate.core.fanout.session import Subscription, TopicFeed
from headgate.core.fanout.sweeps import Sweeps

SLICE: Final = 200  # subscriptions that end in one loop turn: about 3 ms


class _EndingTopic:
    """A feed of which everything was taken, and who is left of it."""

    __slots__ = ("feed", "left", "reason")

    def __init__(self, feed: TopicFeed, reason: str) -> None:
        self.feed = feed
        self.reason = reason
        self.left: list[Subscription] | None = None  # not known before the sweep is over


class Endings:
    """The ended topics of one gateway. `schedule` asks the shell for a call of `write`.

    `end` ends a subscription and gives the reason, `forget` frees what is held of a feed.
    """

    def __init__(
        self,
        sweeps: Sweeps,
        schedule: Callable[[], None],
        end: Callable[[Subscription, str], None],
        forget: Callable[[TopicFeed], None],
    ) -> None:
        self._sweeps = sweeps
        self._schedule = schedule
        self._end = end
        self._forget = forget
        self._endings: deque[_EndingTopic] = deque()

    def __len__(self) -> int:
        return len(self._endings)

    def add(self, feed: TopicFeed, reason: str) -> None:
        """Takes a feed that ended; all it had pending is in its sweep."""
        self._endings.append(_EndingTopic(feed, reason))
        if len(self._endings) == 1:
            self._schedule()

    def write(self) -> None:
        """Ends some subscriptions, and asks for the next call."""
        room = SLICE
        for _ in range(len(self._endings)):
            ending = self._endings.popleft()
            if ending.feed not in self._sweeps:
                room -= self._end_some(ending, room)
            if ending.left is None or ending.left:
                self._endings.append(ending)
            else:
                self._forget(ending.feed)
            if not room:
                break
        if self._endings:
            self._schedule()

    def _end_some(self, ending: _EndingTopic, room: int) -> int:
        if ending.left is None:
            ending.left = ending.feed.subscriptions()
        part = ending.left[-room:]
        del ending.left[-room:]
        for subscription in part:
            if not subscription.is_over:
                self._end(subscription, ending.reason)
        return len(part)
