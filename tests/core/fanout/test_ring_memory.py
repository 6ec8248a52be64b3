"""The bytes of all rings: bounded, and right after every change."""

from headgate.core.client.limits import Limits
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.ring_memory import RingMemory
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link_messages import Amended


def feed(topic: str, size: int) -> TopicFeed:
    made: TopicFeed = Feed(topic, 0, 7, 0, {"profile": "durable"})
    made.append(1, [1], [b"x" * size])
    return made


def test_what_was_written_longest_ago_is_freed_first() -> None:
    rings = RingMemory(Limits(rings_bytes=250))
    feeds = [feed(topic, 100) for topic in "abc"]
    for each in feeds:
        assert rings.take(each).frames == [b"x" * 100]
    assert [each.ring.size for each in feeds] == [0, 100, 100] and rings.size == 200 and list(rings) == feeds[1:]


def test_a_change_and_the_end_of_a_topic_are_counted() -> None:
    rings = RingMemory(Limits())
    one, other = feed("a", 100), feed("b", 100)
    rings.take(one)
    rings.amend(one, Amended("a", 7, 1, b"y" * 30, False))
    rings.amend(other, Amended("b", 7, 1, b"y" * 30, False))
    assert rings.size == one.ring.size == 30
    rings.forget(one)
    rings.forget(other)
    assert rings.size == one.ring.size == 0 and list(rings) == []
