"""`read` frames: to the other sessions of who has read, and receipts to those who published what was read."""

from collections.abc import Mapping
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.fanout.connections import Connections
from headgate.core.fanout.read_reports import ReadReports
from headgate.core.fanout.session import Subscription, TopicFeed
from headgate.core.fanout.side_frames import SideFrames
from headgate.core.wire.link_inbox import RECEIPT_PUBLISHERS, ReadReceipt, UserRead

SESSIONS: Final = 100  # of one user that are told; a service may have more


class ReadFrames:
    """Serves the sessions of one gateway. A session whose socket is full misses a frame: it was a hint."""

    def __init__(
        self, feeds: Mapping[str, TopicFeed], connections: Connections, reads: ReadReports, side: SideFrames
    ) -> None:
        self._feeds = feeds
        self._connections = connections
        self._reads = reads
        self._side = side

    def receive(self, message: ReadReceipt | UserRead) -> None:
        """Takes what an owner tells."""
        if isinstance(message, UserRead):
            self._tell_reader(message)
        else:
            self._tell_publishers(message)

    def _tell_reader(self, read: UserRead) -> None:
        """Tells those of the user's sessions that have not read so far themselves."""
        data = WEBSOCKET.control(outbound.read(read.topic_id, read.user_id, read.seq, read.unread))
        for session in self._connections.of(read.user_id)[:SESSIONS]:
            if session.framing is not WEBSOCKET or session.paused or session.closed:
                continue
            if session.may_be_told_of(read.topic_id) and not self._reads.has_read(session, read.topic_id, read.seq):
                session.put(data)

    def _tell_publishers(self, receipt: ReadReceipt) -> None:
        feed = self._feeds.get(receipt.topic_id)
        if feed is None or feed.epoch != receipt.epoch:
            return
        told: list[Subscription] = []
        for publisher in receipt.publishers[:RECEIPT_PUBLISHERS]:
            if publisher != receipt.user_id:
                told += self._following(publisher, feed)
        self._side.add(outbound.read(receipt.topic_id, receipt.user_id, receipt.seq, None), told, _missed)

    def _following(self, user_id: str, feed: TopicFeed) -> list[Subscription]:
        sessions = self._connections.of(user_id)[:SESSIONS]
        found = [each.subscriptions.get(feed.topic_id) for each in sessions if each.framing is WEBSOCKET]
        return [each for each in found if each is not None and each.feed is feed]


def _missed(subscription: Subscription) -> None:
    """It was a hint."""
