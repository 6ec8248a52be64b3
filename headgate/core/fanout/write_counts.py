"""Counts for publishers that wait until their message is delivered: how many sockets took it on this gateway.

A count begins before its message comes. A flush adds the subscribers in step, all at once; a subscriber out of step is
added when the message is written to it. Feeds without a count pay one look at an attribute a flush and a piece.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from headgate.core.fanout.piece_counts import PieceCounts, WriteCount
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link_deliveries import COUNTED_S, NOT_COUNTED, CountWritten, Written

MAX_COUNTS: Final = 10_000  # of one gateway, about 300 bytes each
LOOKED_THROUGH: Final = 10_000  # subscribers out of step; with more a count is not known to be final


class WriteCounts:
    """The counts of a gateway; `feeds` are those of its hub, `upstream` reaches the owners that ask.

    The shell calls `report` behind each flush, and `tick` behind each tick of the hub.
    """

    def __init__(self, feeds: Mapping[str, TopicFeed], upstream: Upstream) -> None:
        self._feeds = feeds
        self._upstream = upstream
        self._counts: OrderedDict[WriteCount, TopicFeed] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._counts)

    def begin(self, ask: CountWritten, now: float) -> None:
        """Counts who gets the message that the topic's owner sends next."""
        feed = self._feeds.get(ask.topic_id)
        number = 0 if feed is None else ask.seq or feed.head + 1
        if feed is None or feed.epoch != ask.epoch or number <= feed.sent:
            self._upstream.send(self._upstream.shard_of(ask.topic_id), Written(ask.topic_id, ask.watch, 0, True))
            return
        if len(self._counts) >= MAX_COUNTS:
            self._upstream.send(feed.shard, Written(ask.topic_id, ask.watch, NOT_COUNTED, True))
            return
        count = WriteCount(number, ask.watch, now + COUNTED_S)
        self._counts[count] = feed
        if feed.counts is None:
            feed.counts = PieceCounts()
        feed.counts.add(count)

    def report(self, *, only_new: bool = True) -> None:
        """Tells the owners what has changed; with `only_new` of the messages that were just flushed."""
        lowest: dict[TopicFeed, int] = {}
        for count, feed in list(self._counts.items()):
            if only_new and not count.is_new:
                continue
            count.is_new = False
            if feed not in lowest:
                lowest[feed] = _lowest_cursor(feed)
            # Up to there each subscriber has what he gets; a message that was skipped is written to nobody.
            done = feed.sent >= count.number and lowest[feed] >= count.number
            self._tell(count, feed, done=done or self._feeds.get(feed.topic_id) is not feed)

    def tick(self, now: float) -> None:
        """Tells of all that has changed, and forgets what nobody waits for any longer."""
        while self._counts and (oldest := next(iter(self._counts))).expires <= now:
            self._forget(oldest)
        self.report(only_new=False)

    def owner_changed(self, shard: int) -> None:
        """The owner who asked is gone, and his questions with him."""
        for count in [count for count, feed in self._counts.items() if feed.shard == shard]:
            self._forget(count)

    def _tell(self, count: WriteCount, feed: TopicFeed, *, done: bool) -> None:
        if done or count.count != count.told:
            count.told = count.count
            self._upstream.send(feed.shard, Written(feed.topic_id, count.watch, count.count, done))
        if done:
            self._forget(count)

    def _forget(self, count: WriteCount) -> None:
        feed = self._counts.pop(count)
        assert feed.counts is not None
        feed.counts.remove(count)
        if not feed.counts:
            feed.counts = None


def _lowest_cursor(feed: TopicFeed) -> int:
    """Returns the number up to which all subscribers have what they get; -1 where too many are out of step."""
    if len(feed.behind) > LOOKED_THROUGH:
        return -1
    behind = min((subscription.cursor for subscription in feed.behind), default=feed.head + 1)
    return min(behind, feed.lowest_in_step())
