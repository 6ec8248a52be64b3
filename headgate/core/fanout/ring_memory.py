"""The bytes of all rings of a gateway: what was written longest ago is freed first."""

from collections import OrderedDict
from collections.abc import Iterator

from headgate.core.client.limits import Limits
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link_messages import Amended


class RingMemory:
    """The feeds that have a ring with something in it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # The feed that was written longest ago first; a plain dict would scan for its first key.
        self._feeds: OrderedDict[TopicFeed, None] = OrderedDict()
        self._size = 0

    def __iter__(self) -> Iterator[TopicFeed]:
        return iter(self._feeds)

    @property
    def size(self) -> int:
        """The bytes of all rings."""
        return self._size

    def take(self, feed: TopicFeed) -> Piece:
        """Moves the oldest pending messages of a feed into its ring and returns them; see `Feed.take`."""
        before = feed.ring.size
        piece = feed.take(self._limits)
        self._size += feed.ring.size - before
        try:
            self._feeds.move_to_end(feed)
        except KeyError:
            self._feeds[feed] = None
        while self._size > self._limits.rings_bytes:
            oldest, _ = self._feeds.popitem(last=False)
            self._size -= oldest.ring.clear()
        return piece

    def amend(self, feed: TopicFeed, message: Amended) -> None:
        """Replaces what a feed holds of a message that was changed."""
        before = feed.ring.size
        feed.amend(message.seq, message.frame, redacted=message.redacted, limits=self._limits)
        if feed in self._feeds:
            self._size += feed.ring.size - before

    def forget(self, feed: TopicFeed) -> None:
        """Frees the ring of a feed."""
        if feed in self._feeds:
            del self._feeds[feed]
            self._size -= feed.ring.clear()
