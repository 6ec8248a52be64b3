"""The events of messages that were written to the subscribers in step: one a message, built only for who watches."""

from headgate.core.delivery.delivery import Status
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.event_names import EventName
from headgate.core.wire.frames import message_id_in


def tell_delivered(events: DeliveryEvents, feed: TopicFeed, piece: Piece, subscribers: int, wall_ms: int) -> None:
    """Emits a `delivered` for each message of a piece that so many sockets took at Unix milliseconds `wall_ms`."""
    topic_id = feed.topic_id
    if not subscribers or not events.wants(feed.shard, topic_id, EventName.DELIVERED):
        return
    at = wall_ms / 1_000
    for seq, frame in enumerate(piece.frames, piece.seq):
        event = Event(
            EventName.DELIVERED,
            at,
            topic_id,
            message_id_in(frame),
            None,
            1,
            Status.DELIVERED,
            subscribers=subscribers,
            epoch=feed.epoch,
            seq=seq if feed.durable else None,
        )
        events.emit(feed.shard, event)
