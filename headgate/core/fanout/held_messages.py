"""Messages that the strategies of topics hold back on this gateway, and when to ask a strategy again.

A feed whose topic is delivered at once has no `Hold`, and costs nothing here. Of the others the newest pending messages
are held: they stay among the pending ones of their feed, in order, so that a change of a message, the end of the topic
or a fence finds them where it finds all others. The strategy is asked when the feed is flushed, and at its own time.
"""

from collections.abc import Callable, Iterable
from typing import Final

from headgate.core.delivery.strategy import Held
from headgate.core.delivery.timers import Timers
from headgate.core.fanout.hold import Hold
from headgate.core.fanout.session import TopicFeed

HELD_BYTES: Final = 256 * 1024  # of one topic; with more all of it is written at once
HELD_BYTES_OF_ALL: Final = 64 * 1024 * 1024  # of all topics; above it nothing more is held


class HeldMessages:
    """The holds of one gateway. `add` has a feed flushed at the end of the loop turn. Times are monotonic seconds."""

    def __init__(self, add: Callable[[TopicFeed], None]) -> None:
        self._add = add
        self._timers: Timers[TopicFeed] = Timers()
        self._size = 0

    @property
    def next_due(self) -> float | None:
        """When `wake` is to be called next; None while nothing waits for its time."""
        return self._timers.next_due()

    @property
    def size(self) -> int:
        """The bytes that are held."""
        return self._size

    def wake(self, now: float) -> None:
        """Has the feeds flushed whose time has come."""
        while (feed := self._timers.pop(now)) is not None:
            self._add(feed)

    def flush(self, feed: TopicFeed) -> None:
        """Lets go of all that a feed holds, at the end of the loop turn."""
        if feed.hold is not None and feed.pending:
            feed.hold.is_open = True
            self._add(feed)

    def release(self, feed: TopicFeed) -> None:
        """Holds nothing of a feed any longer: its messages are being written, or dropped."""
        if feed.hold is not None:
            feed.hold.is_open = False
            self._settle(feed, feed.hold, 0, 0, None)

    def released(self, feeds: Iterable[TopicFeed], now: float) -> list[TopicFeed]:
        """Returns those of the feeds that have something to write; asks the strategies of those that have one."""
        return [feed for feed in feeds if feed.hold is None or self._ask(feed, feed.hold, now)]

    def _ask(self, feed: TopicFeed, hold: Hold, now: float) -> bool:
        """Asks a strategy until it releases nothing; returns whether there is something to write."""
        frames = feed.pending
        count, fresh = len(frames), len(frames) - hold.count
        if not hold.count:
            hold.since = now
        size = hold.size + _size(frames, fresh)
        is_over = size > HELD_BYTES or self._size - hold.size + size > HELD_BYTES_OF_ALL
        is_flush, hold.is_open = hold.is_open or is_over, False
        wake_at: float | None = None
        while count:
            held = Held(count, hold.since, frames[-1])
            release = hold.strategy.flush(held, now) if is_flush else hold.strategy.publish(held, now)
            is_flush, wake_at = False, release.wake_at
            if not release.size:
                break
            count -= min(release.size, count)
            if count <= fresh:  # what is left has just come
                hold.since = now
        self._settle(feed, hold, count, size if count == len(frames) else _size(frames, count), wake_at)
        return count < len(frames)

    def _settle(self, feed: TopicFeed, hold: Hold, count: int, size: int, wake_at: float | None) -> None:
        """Holds the newest `count` messages, `size` bytes, until `wake_at`."""
        self._size += size - hold.size
        hold.count, hold.size = count, size
        due = wake_at if count else None
        timer = hold.timer
        if timer is not None and timer.live:
            if timer.due == due:
                return
            self._timers.cancel(timer)
        hold.timer = None if due is None else self._timers.at(due, feed)


def _size(frames: list[bytes], newest: int) -> int:
    """Returns the bytes of the newest frames."""
    return sum(map(len, frames[len(frames) - newest :])) if newest else 0
