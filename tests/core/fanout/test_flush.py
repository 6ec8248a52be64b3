"""One flush, on values: what is written to whom, in how many writes, and whom to pump between two rounds."""

import pytest

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.flush import Flush
from headgate.core.fanout.ports import Moment
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.subscription import SubscriptionState
from tests.core.scene import Pipe, Scene
from tests.numbers_twin import Numbers
from tests.owners_twin import Owners

FRAME = b'{"type":"message","seq":%d}'


class Bench:
    """A flush, and sessions in step."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.scene = Scene(self.limits)
        self.numbers = Numbers()
        self.catchup = CatchUp(self.limits, Owners(), self.numbers)
        self.scheduled = 0
        self.flush = Flush(
            *(self.limits, self.numbers, self.catchup, self._schedule),
            DeliveryEvents(self.numbers.lifecycle_events),
            lambda _feed, _members, _piece: [],
            float,
        )

    def _schedule(self) -> None:
        self.scheduled += 1

    def feed(self, topic: str, profile: str = "durable") -> TopicFeed:
        return Feed(topic, 0, 7, 0, {"profile": profile})

    def follow(self, *feeds: TopicFeed, sse: bool = False) -> Pipe:
        pipe = self.scene.open(SSE) if sse else self.scene.open()
        assert pipe.session is not None
        for feed in feeds:
            self.catchup.admit(pipe.session.follow(feed, feed.sent, None))
        self.catchup.pump(pipe.session, 0)
        return pipe

    def publish(self, feed: TopicFeed, count: int, size: int = 0) -> None:
        first = feed.head + 1
        frames = [(FRAME % seq).ljust(size) for seq in range(first, first + count)]
        feed.append(first, [0] * count, frames)
        self.flush.add(feed)

    def run(self) -> list[list[Session]]:
        return list(self.flush.run(Moment(0.0, 1_000)))


def only(pipe: Pipe) -> Subscription:
    assert pipe.session is not None
    (subscription,) = pipe.session.subscriptions.values()
    return subscription


def test_a_turn_is_scheduled_once_and_written_once_to_each_socket() -> None:
    bench = Bench()
    a, b = bench.feed("a"), bench.feed("b")
    one, both, stream = bench.follow(a), bench.follow(a, b), bench.follow(a, sse=True)
    bench.publish(a, 2)
    bench.publish(b, 1)
    assert bench.scheduled == 1 and bench.run() == []
    assert (one.writes, both.writes, stream.writes) == (1, 1, 1)
    assert one.seqs() == [1, 2] and both.seqs() == [1, 2, 1] and b"id: 7:2\n" in stream.data
    assert bench.numbers.deliveries == {"durable": 7}
    bench.publish(a, 1)
    assert bench.scheduled == 2


@pytest.mark.parametrize(("wall_ms", "seconds"), [(1_500, 1.5), (-1, 0.0)])
def test_how_long_a_message_took_is_counted_in_seconds_and_never_below_zero(wall_ms: int, seconds: float) -> None:
    bench = Bench()
    feed = bench.feed("a")
    bench.follow(feed)
    bench.publish(feed, 1)
    list(bench.flush.run(Moment(0.0, wall_ms)))
    pipe = bench.scene.open()
    assert pipe.session is not None
    bench.catchup.admit(pipe.session.follow(feed, 0, None))
    bench.catchup.pump(pipe.session, wall_ms)
    assert bench.numbers.seconds == [seconds, seconds], "in step, and from the ring"


def test_an_ephemeral_topic_has_no_event_id() -> None:
    bench = Bench()
    feed = bench.feed("a", "ephemeral")
    stream = bench.follow(feed, sse=True)
    bench.publish(feed, 1)
    bench.run()
    assert stream.data.startswith(b"data: ") and bench.numbers.deliveries == {"ephemeral": 1}


def test_who_waits_is_to_be_pumped_after_the_first_round_while_the_ring_still_holds_it() -> None:
    bench = Bench(Limits(queue_frames=20, ring_frames=10))
    feed = bench.feed("a")
    pipe = bench.scene.open()
    assert pipe.session is not None
    bench.publish(feed, 40)
    bench.catchup.admit(pipe.session.follow(feed, 5, None))
    bench.catchup.pump(pipe.session, 0)
    assert only(pipe).state is SubscriptionState.WAITING
    rounds = bench.flush.run(Moment(0.0, 0))
    assert next(rounds) == [pipe.session] and feed.sent == 10
    assert only(pipe).state is SubscriptionState.BEHIND and not feed.waiting
    bench.catchup.pump(pipe.session, 0)
    assert list(rounds) == [] and pipe.seqs() == list(range(6, 41)), "the rest came in step"


def test_a_join_that_is_too_large_sets_the_session_back_and_pumps_it() -> None:
    bench = Bench(Limits(queue_bytes=40_000))
    feeds = [bench.feed(topic) for topic in "ab"]
    both, one = bench.follow(*feeds), bench.follow(feeds[0])
    for feed in feeds:
        bench.publish(feed, 9, size=1_000)
    assert bench.run() == [[both.session]]
    assert one.seqs() == list(range(1, 10)) and both.writes == 0
    assert both.session is not None
    behind = bench.catchup.behind(both.session)
    assert [(s.feed.topic_id, s.cursor, s.state.value) for s in behind] == [("a", 0, "BEHIND"), ("b", 0, "BEHIND")]
    bench.catchup.pump(both.session, 0)
    assert len(both.seqs()) == 18 and both.writes == 2


def test_one_feed_is_written_out_and_the_turn_has_nothing_left_of_it() -> None:
    bench = Bench()
    feed = bench.feed("a")
    pipe = bench.follow(feed)
    bench.publish(feed, 700)
    assert list(bench.flush.write_out(feed, 0)) == []
    assert pipe.seqs() == list(range(1, 701)) and pipe.writes == 2
    bench.run()
    assert pipe.writes == 2


def test_what_comes_while_the_turn_writes_has_its_own_turn() -> None:
    bench = Bench()
    a, b = bench.feed("a"), bench.feed("b")
    pipe = bench.follow(a)
    write = pipe.write

    def answering(data: bytes) -> None:
        write(data)
        bench.publish(b, 1)

    only(pipe).feed.sockets[only(pipe)] = answering
    bench.publish(a, 1)
    bench.run()
    assert b.pending and bench.scheduled == 2
    bench.run()
    assert not b.pending


def test_a_writer_that_raises_stops_no_other() -> None:
    bench = Bench()
    feed = bench.feed("a")
    pipes = [bench.follow(feed) for _ in range(3)]
    pipes[1].broken = True
    bench.publish(feed, 1)
    bench.run()
    assert [len(pipe.data) > 0 for pipe in pipes] == [True, False, True] and bench.flush.failures == 1


def test_the_ring_written_longest_ago_is_freed_first() -> None:
    bench = Bench(Limits(rings_bytes=2_500))
    feeds = [bench.feed(topic) for topic in "abc"]
    for feed in (feeds[0], feeds[1], feeds[0], feeds[2]):
        bench.publish(feed, 1, size=800)
        bench.run()
    assert [feed.ring.size for feed in feeds] == [1_600, 0, 800]


def test_a_feed_that_ended_gives_its_ring_back() -> None:
    bench = Bench(Limits(rings_bytes=2_000))
    ended, kept = bench.feed("a"), bench.feed("b")
    bench.publish(ended, 1, size=1_500)
    bench.run()
    bench.flush.forget(ended)
    bench.publish(kept, 1, size=1_500)
    bench.run()
    assert (ended.ring.size, kept.ring.size) == (0, 1_500), "its bytes do not count any longer"


def test_a_feed_that_ended_before_its_turn_is_not_kept() -> None:
    bench = Bench()
    ended, kept = bench.feed("a"), bench.feed("b")
    for feed in (ended, kept):
        bench.publish(feed, 1)
    bench.flush.forget(ended)
    bench.run()
    assert list(bench.flush.rings) == [kept]


@pytest.mark.parametrize(("size", "writes"), [(1_000, 1), (1_001, 0)])
def test_a_join_as_large_as_a_piece_is_one_write(size: int, writes: int) -> None:
    framed = len(WEBSOCKET.messages(7, 1, [b"x" * 1_000]))
    limits = Limits(queue_bytes=8 * framed)
    assert limits.piece_bytes == 2 * framed
    bench = Bench(limits)
    feeds = [bench.feed(topic) for topic in "ab"]
    both = bench.follow(*feeds)
    for feed in feeds:
        bench.publish(feed, 1, size)
    assert bench.run() == ([] if writes else [[both.session]])
    assert both.writes == writes


def test_a_feed_that_ends_in_a_flush_gets_no_ring_again() -> None:
    bench = Bench(Limits(queue_bytes=160_000))
    a, b = bench.feed("a"), bench.feed("b")
    bench.follow(a, b)
    for feed in (a, b):
        bench.publish(feed, 12, size=10_000)
    rounds = bench.flush.run(Moment(0.0, 1_000))
    next(rounds)  # a pump between two rounds may cut the last subscriber
    bench.flush.forget(a)
    list(rounds)
    assert not a.pending and a.ring.size == 0 and b.ring.size > 0
