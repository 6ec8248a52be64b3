"""Messages of the owners on their way into the feeds: repeats are dropped, missing ones are asked for."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.feed import page_request
from headgate.core.fanout.flush import Flush, flushed
from headgate.core.fanout.gap_repair import GapRepair
from headgate.core.fanout.ports import GatewayMetrics, Upstream
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.wire.amended_frames import targets_of
from headgate.core.wire.link import Answer, EphemeralMessages, Messages, Page
from headgate.core.wire.link_messages import Amended


class FeedInput:
    """Serves all feeds. `write_out` writes what a feed has pending, `pump` pumps sessions, round by round.

    `came` is how many messages came over links since `tell` was last called.
    """

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        flush: Flush,
        catchup: CatchUp,
        write_out: Callable[[TopicFeed], None],
        pump: Callable[[Iterable[list[Session]]], None],
    ) -> None:
        self._limits = limits
        self._upstream = upstream
        self._flush = flush
        self._catchup = catchup
        self._write_out = write_out
        self._pump = pump
        self._gaps = GapRepair(upstream.linked)
        self.came = 0

    def take(self, feed: TopicFeed, message: Messages | EphemeralMessages | Page) -> None:
        """Takes messages of a feed; those without seqs follow its newest."""
        seq = message.seq if isinstance(message, (Messages, Page)) else feed.head + 1
        if not feed.append(seq, message.ts, message.frames):
            self._repair(feed)
        if feed.pending:
            self._flush.add(feed)

    def tell(self, metrics: GatewayMetrics) -> None:
        """Counts what came: once a flush, and with each tick what nobody follows here."""
        if self.came:
            metrics.link_messages("in", self.came)
            self.came = 0

    def configure(self, feed: TopicFeed, settings: dict[str, Any]) -> None:
        """The topic's settings are these now. Another strategy is asked about what the one before held."""
        feed.configure(settings)
        if feed.pending:
            self._flush.add(feed)

    def begun(self, subscription: Subscription, head: int) -> None:
        """A subscription has begun at the topic's `head`: asks for messages that have not come.

        What it wants to read again is not held back from it.
        """
        feed = subscription.feed
        if feed.durable and feed.misses(head):
            self._repair(feed)
        if subscription.target is not None:
            self._flush.held.flush(feed)

    def repair_due(self) -> None:
        """Asks again for what is still missing; called about once a second."""
        for feed in self._gaps.due():
            self._repair(feed)

    def forget(self, feed: TopicFeed) -> None:
        """The feed ended."""
        self._gaps.forget(feed)

    def _repair(self, feed: TopicFeed) -> None:
        if self._gaps.ask(feed):
            build = partial(page_request, feed, feed.head, self._limits)
            self._upstream.request(feed.shard, build, partial(self._repaired, feed))

    def _repaired(self, feed: TopicFeed, answer: Answer) -> None:
        repair = self._gaps.answered(feed, answer)
        if repair is None:
            return
        before = feed.head
        if repair.lost_below is not None:
            self._lose(feed, repair.lost_below)
        if repair.page.frames:
            for seq, redacted in targets_of(repair.page.frames).items():  # their amendments were lost with the rest
                self._flush.amend(feed, Amended(feed.topic_id, feed.epoch, seq, b"", redacted))
            self.take(feed, repair.page)
        if feed.head > before and self._gaps.moved(feed):
            self._repair(feed)

    def _lose(self, feed: TopicFeed, seq: int) -> None:
        """Tells the subscribers in step that everything below `seq` will not come, and continues there."""
        self._write_out(feed)
        self._flush.forget(feed)
        self._catchup.tell_lost(feed, seq)
        self._pump([flushed(feed)])
