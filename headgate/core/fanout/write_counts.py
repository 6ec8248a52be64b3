"""Counts for publishers that wait until their message is delivered: how many sockets took it on this gateway.

A count begins before its message comes. A flush adds the subscribers in step, all at once; a subscriber out of step is
added when the message is written to it. Feeds without a count pay one look at an empty list a flush and a piece.
"""

from collections.abc import Mapping
from typing import Final

from headgate.core.fanout.feed import Piece
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link_deliveries import COUNTED_S, CountWritten, Written

MAX_COUNTS: Final = 10_000  # of one gateway, about 300 bytes each
LOOKED_THROUGH: Final = 10_000  # subscribers out of step; with more a count is not known to be final


class WriteCount:
    """The count of message `number` of a feed, for the owner's question `watch`."""

    __slots__ = ("count", "expires", "feed", "is_flushed", "is_new", "number", "told", "watch")

    def __init__(self, feed: TopicFeed, number: int, watch: int, expires: float) -> None:
        self.feed = feed
        self.number = number
        self.watch = watch
        self.expires = expires
        self.count = 0
        self.told = 0  # what the owner was told last
        self.is_flushed = False
        self.is_new = False  # flushed since the last report

    def flushed(self, piece: Piece, in_step: int) -> None:
        """A piece is written to the subscribers in step."""
        if piece.seq <= self.number < piece.seq + len(piece.frames):
            self.count += in_step
            self.is_flushed = self.is_new = True

    def wrote(self, piece: Piece) -> None:
        """A piece was written to one subscriber out of step."""
        self.count += piece.seq <= self.number < piece.seq + len(piece.frames)

    def set_back(self, cursor: int) -> None:
        """A subscriber in step did not get what is above `cursor` after all; it will get it later."""
        self.count -= self.is_flushed and self.number > cursor


class WriteCounts:
    """The counts of a gateway; `feeds` are those of its hub, `upstream` reaches the owners that ask.

    The shell calls `report` behind each flush, and `tick` behind each tick of the hub.
    """

    def __init__(self, feeds: Mapping[str, TopicFeed], upstream: Upstream) -> None:
        self._feeds = feeds
        self._upstream = upstream
        self._counts: list[WriteCount] = []  # oldest first

    def __len__(self) -> int:
        return len(self._counts)

    def begin(self, ask: CountWritten, now: float) -> None:
        """Counts who gets the message that the topic's owner sends next."""
        feed = self._feeds.get(ask.topic_id)
        number = 0 if feed is None else ask.seq or feed.head + 1
        if feed is None or feed.epoch != ask.epoch or number <= feed.sent or len(self._counts) >= MAX_COUNTS:
            self._upstream.send(self._upstream.shard_of(ask.topic_id), Written(ask.topic_id, ask.watch, 0, True))
            return
        count = WriteCount(feed, number, ask.watch, now + COUNTED_S)
        self._counts.append(count)
        feed.counts.append(count)

    def report(self, *, only_new: bool = True) -> None:
        """Tells the owners what has changed; with `only_new` of the messages that were just flushed."""
        lowest: dict[TopicFeed, int] = {}
        for count in list(self._counts):
            if only_new and not count.is_new:
                continue
            count.is_new = False
            feed = count.feed
            if feed not in lowest:
                lowest[feed] = _lowest_cursor(feed)
            # Up to there each subscriber has what he gets; a message that was skipped is written to nobody.
            done = feed.sent >= count.number and lowest[feed] >= count.number
            self._tell(count, done=done or self._feeds.get(feed.topic_id) is not feed)

    def tick(self, now: float) -> None:
        """Tells of all that has changed, and forgets what nobody waits for any longer."""
        while self._counts and self._counts[0].expires <= now:
            self._forget(self._counts[0])
        self.report(only_new=False)

    def owner_changed(self, shard: int) -> None:
        """The owner who asked is gone, and his questions with him."""
        for count in [count for count in self._counts if count.feed.shard == shard]:
            self._forget(count)

    def _tell(self, count: WriteCount, *, done: bool) -> None:
        if done or count.count != count.told:
            count.told = count.count
            self._upstream.send(count.feed.shard, Written(count.feed.topic_id, count.watch, count.count, done))
        if done:
            self._forget(count)

    def _forget(self, count: WriteCount) -> None:
        self._counts.remove(count)
        count.feed.counts.remove(count)


def _lowest_cursor(feed: TopicFeed) -> int:
    """Returns the number up to which all subscribers out of step have what they get; -1 where they are too many."""
    if len(feed.behind) > LOOKED_THROUGH:
        return -1
    return min((subscription.cursor for subscription in feed.behind), default=feed.head + 1)
