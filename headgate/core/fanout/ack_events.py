"""What happens to acknowledged deliveries: counted always, in a topic's statistics, and as events for who watches."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from headgate.core.delivery.ack_window import Failure, Sending
from headgate.core.delivery.delivery import Status
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.delivery.retry import Draw
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.ports import Moment
from headgate.core.fanout.session import Subscription, TopicFeed
from headgate.core.fanout.subscription_acks import SubscriptionAcks
from headgate.core.fanout.topic_counts import GatewayCounts
from headgate.core.wire.event_names import EventName
from headgate.core.wire.frames import message_id_in


class AckEvents:
    """The deliveries of one gateway's acknowledged subscriptions.

    `redelivered` counts frames that are sent again. `moment` returns the time of the call.
    """

    def __init__(
        self,
        events: DeliveryEvents,
        counts: GatewayCounts,
        redelivered: Callable[[int], None],
        moment: Callable[[], Moment],
    ) -> None:
        self._events = events
        self._counts = counts
        self._redelivered = redelivered
        self._moment = moment

    def sent_new(self, feed: TopicFeed, subscriptions: Collection[Subscription], piece: Piece) -> None:
        """A piece is being written to acknowledged subscriptions in step."""
        if not subscriptions:
            return
        self._events.count(EventName.DELIVERING, len(subscriptions) * len(piece.frames))
        if self._wants(feed, EventName.DELIVERING):
            for subscription in subscriptions:
                for seq, frame in enumerate(piece.frames, piece.seq):
                    self._delivering(subscription, seq, message_id_in(frame), 1)

    def sent(self, acks: SubscriptionAcks, piece: Piece, sendings: Sequence[Sending]) -> None:
        """Some messages of a piece are being written to one subscription."""
        feed = acks.subscription.feed
        self._count_again(feed, sum(each.attempt > 1 for each in sendings))
        self._events.count(EventName.DELIVERING, len(sendings))
        if self._wants(feed, EventName.DELIVERING):
            for seq, attempt in sendings:
                self._delivering(acks.subscription, seq, message_id_in(piece.frames[seq - piece.seq]), attempt)

    def replayed(self, acks: SubscriptionAcks, seq: int, frame: bytes, attempt: int) -> None:
        """The message of a dead letter is being written again."""
        feed = acks.subscription.feed
        self._count_again(feed, 1)
        self._events.count(EventName.DELIVERING, 1)
        if self._wants(feed, EventName.DELIVERING):
            self._delivering(acks.subscription, seq, message_id_in(frame), attempt)

    def ack(self, acks: SubscriptionAcks, seq: int, now: float, draw: Draw) -> bool:
        """Has the window take an acknowledgement, and tells which messages it was for. True: something changed."""
        window, feed = acks.window, acks.subscription.feed
        watched = self._wants(feed, EventName.DELIVERED)
        before = window.above()
        count = window.acked + len(before)
        waiting = {}
        if watched:
            known = set(before)
            waiting = {n: window.deliveries(n) for n in range(window.acked + 1, window.sent + 1) if n not in known}
        if not window.ack(seq, now, draw):
            return False
        above = set(window.above())
        self._events.count(EventName.DELIVERED, window.acked + len(above) - count)
        for n, attempts in waiting.items():
            if n <= window.acked or n in above:
                self._delivered(acks.subscription, n, attempts)
        return True

    def acked_replay(self, acks: SubscriptionAcks, seq: int, attempts: int) -> None:
        """The message of a dead letter was acknowledged."""
        self._events.count(EventName.DELIVERED, 1)
        if self._wants(acks.subscription.feed, EventName.DELIVERED):
            self._delivered(acks.subscription, seq, attempts)

    def failed(self, acks: SubscriptionAcks, failure: Failure, attempts: int) -> None:
        """A delivery failed, `attempts` times sent so far; it is retried unless it is given up."""
        feed, seq = acks.subscription.feed, failure.seq
        self._counts.failed(feed, 1)
        self._events.count(EventName.FAILED, 1)
        if not failure.given_up:
            self._events.count(EventName.RETRY_SCHEDULED, 1)
        if not self._events.on:
            return
        message_id = _kept_id(feed, seq)
        self._emit(acks.subscription, EventName.FAILED, Status.FAILED, seq, message_id, attempts, error=failure.error)
        if not failure.given_up:
            name, status, delay_s = EventName.RETRY_SCHEDULED, Status.RETRY_SCHEDULED, round(failure.delay_s, 3)
            self._emit(acks.subscription, name, status, seq, message_id, attempts, delay_s=delay_s)

    def _count_again(self, feed: TopicFeed, count: int) -> None:
        if count:
            self._redelivered(count)
            self._counts.retried(feed, count)

    def _wants(self, feed: TopicFeed, name: EventName) -> bool:
        return self._events.on and self._events.wants(feed.shard, feed.topic_id, name)

    def _delivering(self, subscription: Subscription, seq: int, message_id: str | None, attempt: int) -> None:
        self._emit(subscription, EventName.DELIVERING, Status.DELIVERING, seq, message_id, attempt)

    def _delivered(self, subscription: Subscription, seq: int, attempts: int) -> None:
        message_id = _kept_id(subscription.feed, seq)
        self._emit(subscription, EventName.DELIVERED, Status.DELIVERED, seq, message_id, attempts)

    def _emit(
        self,
        subscription: Subscription,
        name: EventName,
        status: Status,
        seq: int,
        message_id: str | None,
        attempts: int,
        **more: Any,
    ) -> None:
        feed, acks = subscription.feed, subscription.acks
        assert isinstance(acks, SubscriptionAcks)
        lease, at = acks.lease, self._moment().wall_ms / 1_000
        event = Event(
            name,
            at,
            feed.topic_id,
            message_id,
            lease.user_id,
            attempts,
            status,
            epoch=feed.epoch,
            seq=seq,
            device_id=lease.device_id,
            **more,
        )
        self._events.emit(feed.shard, event)


def _kept_id(feed: TopicFeed, seq: int) -> str | None:
    """Returns the id of a message whose frame is kept here, None where it is not."""
    ring = feed.ring
    return message_id_in(ring.frames[seq - ring.first]) if 0 <= seq - ring.first < len(ring.frames) else None
