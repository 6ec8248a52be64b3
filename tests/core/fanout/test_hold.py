"""What one feed holds."""

from headgate.core.delivery.strategy import BatchedDeliveryStrategy, ImmediateDeliveryStrategy
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.hold import Hold
from headgate.core.fanout.session import TopicFeed

BATCHED = {"kind": "batched", "max_messages": 3, "max_delay_ms": 500}


def test_a_feed_that_was_never_batched_has_none() -> None:
    feed: TopicFeed = Feed("t", 0, 1, 0, {"strategy": {"kind": "immediate"}})
    assert feed.hold is None
    feed.configure({"strategy": BATCHED})
    assert feed.hold is not None and feed.hold.strategy == BatchedDeliveryStrategy(3, 0.5)


def test_a_swap_keeps_what_is_held() -> None:
    hold = Hold(BatchedDeliveryStrategy(3))
    hold.count, hold.size, hold.since = 2, 20, 5.0
    hold.swap(ImmediateDeliveryStrategy())
    assert (hold.count, hold.size, hold.since) == (2, 20, 5.0)
    assert hold.strategy == ImmediateDeliveryStrategy()


def test_only_what_is_not_held_is_taken() -> None:
    feed: TopicFeed = Feed("t", 0, 1, 0, {"strategy": BATCHED})
    feed.append(1, [0, 0, 0], [b"a", b"b", b"c"])
    assert feed.hold is not None and feed.is_ready
    feed.hold.count = 3
    assert not feed.is_ready
    feed.hold.count = 1
    assert feed.is_ready
