"""Messages that are held back on this gateway by the strategies of topics, and when to ask a strategy again.

A feed whose topic is delivered at once has no `Hold`, and costs nothing here. Of the others the newest pending messages
are held: they stay among the pending ones of their feed, in order, so that a change of a message, the end of the topic
or a fence finds them where it finds all others. The strategy is asked when the feed is flushed, and at its own time.
"""

from collections.abc import Callable, Iterable
from typing import Final

from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.delivery.strategy import Held, ImmediateDeliveryStrategy
from headgate.core.delivery.timers import Timer, Timers
from headgate.core.fanout.hold import Hold
from headgate.core.fanout.ports import Moment
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.event_names import EventName

HELD_BYTES: Final = 256 * 1024  # of one topic; with more all of it is written at once
HELD_BYTES_OF_ALL: Final = 64 * 1024 * 1024  # of all topics; above it nothing more is held


class HeldMessages:
    """The holds of one gateway. `add` has a feed flushed at the end of the loop turn. Times are monotonic seconds."""

    def __init__(self, add: Callable[[TopicFeed], None], events: DeliveryEvents) -> None:
        self._add = add
        self._events = events
        self._timers: Timers[TopicFeed] = Timers()
        self._planned: dict[TopicFeed, Timer[TopicFeed]] = {}
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
            self._planned.pop(feed, None)
            self._add(feed)

    def plan(self, feed: TopicFeed, due: float) -> None:
        """Has a feed flushed at `due` that is swept no sooner."""
        timer = self._planned.get(feed)
        if timer is None or not timer.live:
            self._planned[feed] = self._timers.at(due, feed)

    def flush(self, feed: TopicFeed) -> None:
        """Lets go of all that a feed holds, at the end of the loop turn."""
        if feed.hold is not None and feed.pending:
            feed.hold.is_open = True
            self._add(feed)

    def write_out(self, feed: TopicFeed, wall_ms: int) -> None:
        """Holds nothing of a feed any longer: its messages are being written."""
        if feed.hold is not None and feed.hold.count:
            self._tell(feed, feed.hold.count, "flush", wall_ms)
        self.release(feed)

    def release(self, feed: TopicFeed) -> None:
        """Holds nothing of a feed any longer: its messages are dropped."""
        planned = self._planned.pop(feed, None)
        if planned is not None:
            self._timers.cancel(planned)
        if feed.hold is not None:
            feed.hold.is_open = False
            self._settle(feed, feed.hold, 0, 0, None)

    def released(self, feeds: Iterable[TopicFeed], moment: Moment) -> list[TopicFeed]:
        """Returns those of the feeds that have something to write; asks the strategies of those that have one."""
        return [feed for feed in feeds if feed.hold is None or self._ask(feed, feed.hold, moment)]

    def _ask(self, feed: TopicFeed, hold: Hold, moment: Moment) -> bool:
        """Asks a strategy until it releases nothing; returns whether there is something to write."""
        frames, now = feed.pending, moment.now
        count, fresh = len(frames), len(frames) - hold.count
        if not hold.count:
            hold.since = now
        size = hold.size + _size(frames, fresh)
        is_over = size > HELD_BYTES or self._size - hold.size + size > HELD_BYTES_OF_ALL
        reason = _reason_of(hold, now)
        is_flush, hold.is_open, hold.is_swapped = hold.is_open or is_over, False, False
        goes_through = not hold.count and isinstance(hold.strategy, ImmediateDeliveryStrategy)
        wake_at: float | None = None
        while count:
            held = Held(count, hold.since, frames[-1])
            release = hold.strategy.flush(held, now) if is_flush else hold.strategy.publish(held, now)
            is_flush, wake_at = False, release.wake_at
            if not release.size:
                break
            if not goes_through:
                self._tell(feed, min(release.size, count), reason, moment.wall_ms)
            count -= min(release.size, count)
            if count <= fresh:  # what is left has just come
                hold.since = now
        self._settle(feed, hold, count, size if count == len(frames) else _size(frames, count), wake_at)
        return count < len(frames)

    def _tell(self, feed: TopicFeed, size: int, reason: str, wall_ms: int) -> None:
        self._events.count(EventName.BATCH_FLUSH, 1)
        if self._events.on:
            name, at = EventName.BATCH_FLUSH, wall_ms / 1_000
            event = Event(name, at, feed.topic_id, None, None, 0, None, size=size, reason=reason, epoch=feed.epoch)
            self._events.emit(feed.shard, event)

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


def _reason_of(hold: Hold, now: float) -> str:
    """Returns why a strategy is asked: it was swapped, flushed by hand, its time has come, or messages came."""
    if hold.is_swapped:
        return "swap"
    if hold.is_open:
        return "flush"
    return "delay" if hold.timer is not None and hold.timer.due <= now else "size"


def _size(frames: list[bytes], newest: int) -> int:
    """Returns the bytes of the newest frames."""
    return sum(map(len, frames[len(frames) - newest :])) if newest else 0
