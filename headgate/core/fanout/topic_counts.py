"""What happened to each topic's messages on this gateway, told to the topics' owners about once a second.

Nothing is counted per delivery: a flush and a catch-up tell how many subscribers a piece was written to.
"""

from collections import OrderedDict
from typing import Final

from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link_stats import MAX_REPORTED, DeliveryReport, TopicDelivered

MAX_TOPICS: Final = 100_000  # that wait for an owner who is away, about 300 bytes each; then the oldest is forgotten
REPORT_S: Final = 1.0


class GatewayCounts:
    """The counts of one gateway since its last report. The shell calls `tick` behind each tick of the hub."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._counts: OrderedDict[TopicFeed, TopicDelivered] = OrderedDict()  # oldest first
        self._reported_at = float("-inf")

    def __len__(self) -> int:
        return len(self._counts)

    def delivered(self, feed: TopicFeed, ts: list[int], subscribers: int, wall_ms: int) -> None:
        """A piece was written to so many subscribers; `ts` are the append times of its messages (Unix milliseconds)."""
        self.add(feed, len(ts) * subscribers, max(wall_ms * len(ts) - sum(ts), 0) * subscribers)

    def add(self, feed: TopicFeed, deliveries: int, latency_ms: int) -> None:
        """So many deliveries were made; `latency_ms` is the sum of their times from append to write."""
        counts = self._of(feed)
        counts.delivered += deliveries
        counts.latency_ms += latency_ms

    def taken_back(self, feed: TopicFeed, ts: list[int], wall_ms: int) -> None:
        """One of the subscribers just counted gets the piece later, and counts then."""
        self.delivered(feed, ts, -1, wall_ms)

    def failed(self, feed: TopicFeed, count: int) -> None:
        """So many deliveries of the topic failed."""
        self._of(feed).failed += count

    def retried(self, feed: TopicFeed, count: int) -> None:
        """So many messages of the topic were sent again."""
        self._of(feed).retried += count

    def tick(self, now: float) -> None:
        """Tells the owners what was counted, where that is due."""
        if now - self._reported_at >= REPORT_S:
            self._reported_at = now
            self.report()

    def report(self) -> None:
        """Tells the owners that are linked what was counted; for the others it is kept."""
        by_shard: dict[int, list[TopicFeed]] = {}
        for feed in self._counts:
            by_shard.setdefault(feed.shard, []).append(feed)
        for shard, feeds in by_shard.items():
            if not self._upstream.linked(shard):
                continue
            topics = [self._counts.pop(feed) for feed in feeds]
            for at in range(0, len(topics), MAX_REPORTED):
                self._upstream.send(shard, DeliveryReport(shard, topics[at : at + MAX_REPORTED]))

    def _of(self, feed: TopicFeed) -> TopicDelivered:
        counts = self._counts.get(feed)
        if counts is None:
            counts = self._counts[feed] = TopicDelivered(feed.topic_id, feed.epoch)
            if len(self._counts) > MAX_TOPICS:
                self._counts.popitem(last=False)
        return counts
