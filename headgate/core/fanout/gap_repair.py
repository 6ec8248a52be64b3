"""Messages that a feed is missing: asked of the owner before the feed goes on; knows neither sessions nor sockets.

The answer comes in band: a page holds everything up to the moment it was sent, so messages that arrive above a hole
while it is open can be dropped, and those behind the answer follow on it.
"""

from functools import partial
from typing import Final, Protocol

from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import page_request
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.ports import Upstream
from headgate.core.wire.link import Answer, Page

MAX_TRIES: Final = 10  # a second apart: an owner whose history is so far behind its deliveries has lost them


class Filler(Protocol):
    """What filling asks of the hub."""

    limits: Limits
    upstream: Upstream
    feeds: dict[str, Feed]

    def received_late(self, feed: Feed, seq: int, ts: list[int], frames: list[bytes]) -> None:
        """Takes messages that were missing."""

    def lose(self, feed: Feed, seq: int) -> None:
        """Tells the subscribers in step that everything below `seq` will not come, and goes on there."""


class GapRepair:
    """The feeds with a hole."""

    def __init__(self, hub: Filler) -> None:
        self._hub = hub
        self._open: dict[Feed, None] = {}

    def fill(self, feed: Feed) -> None:
        """Asks for what is missing, once at a time."""
        self._open[feed] = None
        if feed.filling or not self._hub.upstream.linked(feed.shard):
            return  # a new owner sends what is missing above the cursor that Attach names
        feed.filling = True
        build = partial(page_request, feed, feed.head, self._hub.limits)
        self._hub.upstream.request(feed.shard, build, partial(self._answered, feed))

    def tick(self) -> None:
        """Asks again where an answer brought nothing."""
        for feed in list(self._open):
            if self._closed(feed):
                del self._open[feed]
            else:
                self.fill(feed)

    def _answered(self, feed: Feed, answer: Answer) -> None:
        feed.filling = False
        if not isinstance(answer, Page) or answer.epoch != feed.epoch or self._closed(feed):
            return
        before = feed.head
        begin = answer.seq if answer.frames else answer.first_seq
        if not answer.frames and begin <= feed.head + 1:
            feed.tries += 1
            begin = feed.hole + 1 if feed.tries >= MAX_TRIES else begin
        if begin > feed.head + 1:
            self._hub.lose(feed, begin)
        if answer.frames:
            self._hub.received_late(feed, answer.seq, answer.ts, answer.frames)
        if feed.head > before:
            feed.tries = 0
            if not self._closed(feed):
                self.fill(feed)

    def _closed(self, feed: Feed) -> bool:
        return feed.head >= feed.hole or self._hub.feeds.get(feed.topic_id) is not feed
