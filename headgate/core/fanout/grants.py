"""What an owner's grant means: the feed it begins and the first frames the client gets."""

from headgate.core.client import outbound
from headgate.core.client.framing import ClientFrame
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.pace import Pace, known_heat
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.ports import GatewayMetrics
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link import Subscribed


def new_feed(pending: PendingSubscribe, answer: Subscribed, pace: Pace) -> TopicFeed:
    """Returns the feed of a topic that nobody here followed; an ephemeral topic is counted from 1."""
    head = answer.seq if answer.settings.get("profile", "durable") == "durable" else 0
    assert pending.shard is not None, "the owner of a shard has answered"
    feed: TopicFeed = Feed(pending.topic_id, pending.shard, answer.epoch, head, answer.settings, answer.fence, pace)
    feed.warm(known_heat(answer.heat))
    return feed


def begin_of(pending: PendingSubscribe, answer: Subscribed, feed: TopicFeed) -> tuple[int, int | None]:
    """Returns the cursor and the target of the subscription; see `headgate.core.fanout.session.Subscription`.

    A group's member has no target: the owner, who shares out the messages, tells it when it has caught up.
    """
    cursor, target = (answer.cursor, answer.seq) if feed.durable else (feed.head, feed.head)
    return cursor, None if pending.subscribe.position is None or pending.subscribe.group else target


def first_frames(
    pending: PendingSubscribe, answer: Subscribed, metrics: GatewayMetrics, presence: ClientFrame | None
) -> list[ClientFrame]:
    """Returns `subscribed`, then `presence` where there is one, then the gap of a position too old."""
    topic_id, position = pending.topic_id, pending.position
    frames = [outbound.subscribed(answer, topic_id, pending.frame_id)]
    if presence is not None:
        frames.append(presence)
    if answer.reason == "expired" and position is not None and answer.cursor > position.number:
        lost_from = position.number + 1
        metrics.gap("retention", answer.cursor - lost_from + 1, missed=False)
        frames.append(
            outbound.gap(topic_id, answer.epoch, lost_from, answer.cursor, reason="retention", recoverable=False)
        )
    return frames
