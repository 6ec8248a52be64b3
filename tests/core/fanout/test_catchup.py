"""From out of step into step, on values: ring, pages, gaps, turns, and who is too slow."""

import pytest

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import FETCHES, Limits
from headgate.core.fanout.catchup import CatchUp, Due
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.flush import flushed
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.subscription import SubscriptionState
from headgate.core.wire.link import Page, Refused
from tests.core.scene import Pipe, Scene
from tests.numbers_twin import Numbers
from tests.owners_twin import Owners

EPOCH = 7
FRAME = b'{"type":"message","seq":%d}'


class Bench:
    """A session, its socket and its catch-up."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.scene = Scene(self.limits)
        self.owners, self.numbers = Owners(), Numbers()
        self.catchup = CatchUp(self.limits, self.owners, self.numbers)
        self.pipe = Pipe(self.scene)
        self.session = Session(self.pipe, WEBSOCKET, b"c", 0.0)

    def feed(self, topic: str = "a", count: int = 0, **settings: str) -> TopicFeed:
        feed: TopicFeed = Feed(topic, 0, EPOCH, 0, {"profile": "durable", **settings})
        self.publish(feed, count)
        return feed

    def publish(self, feed: TopicFeed, count: int) -> None:
        """Takes messages and writes them, as a flush does."""
        first = feed.head + 1
        feed.append(first, [0] * count, [FRAME % seq for seq in range(first, first + count)])
        while feed.pending:
            feed.take(self.limits)

    def follow(self, feed: TopicFeed, cursor: int = 0, target: int | None = None) -> Subscription:
        subscription = self.session.follow(feed, cursor, target)
        self.catchup.admit(subscription)
        return subscription

    def pump(self) -> list[str]:
        pumped = self.catchup.pump(self.session, 0)
        assert not pumped.too_slow
        return [subscription.feed.topic_id for subscription in pumped.fetches]

    def page(self, subscription: Subscription, seq: int, count: int, first_seq: int = 1, epoch: int = EPOCH) -> bool:
        frames = [FRAME % n for n in range(seq, seq + count)]
        answer = Page(1, subscription.feed.topic_id, epoch, first_seq, seq, [0] * count, frames)
        return self.catchup.page(subscription, answer, 0)


def fetching(bench: Bench) -> Subscription:
    """A subscription whose ring has forgotten the first 5 of 10 messages, and whose page is asked for."""
    feed = bench.feed(count=10)
    feed.ring.clear()
    bench.publish(feed, 1)
    subscription = bench.follow(feed)
    assert bench.pump() == ["a"] and subscription.state is SubscriptionState.FETCHING
    return subscription


def test_the_ring_brings_a_subscription_into_step() -> None:
    bench = Bench()
    subscription = bench.follow(bench.feed(count=1_200), cursor=300)
    assert bench.pump() == []
    assert subscription.in_step and bench.pipe.seqs() == list(range(301, 1_201))
    assert bench.catchup.sessions() == [] and bench.numbers.deliveries == {"durable": 900}


def test_caught_up_is_said_once_and_only_for_a_replay() -> None:
    bench = Bench()
    replay, live = bench.follow(bench.feed("a", 3), 0, 3), bench.follow(bench.feed("b", 3), 3)
    bench.pump()
    assert replay.in_step and live.in_step and replay.target is None
    assert [frame["topic_id"] for frame in bench.pipe.frames("caught_up")] == ["a"]
    bench.catchup.park(bench.session, 0.0)
    bench.session.resume()
    bench.pump()
    assert replay.in_step and len(bench.pipe.frames("caught_up")) == 1


@pytest.mark.parametrize(("cursor", "target"), [(3, None), (2, 3)])
def test_who_is_ahead_of_the_writes_waits(cursor: int, target: int | None) -> None:
    bench = Bench()
    feed = bench.feed(count=2)
    subscription = bench.follow(feed, cursor, target)
    assert bench.pump() == [] and subscription.state is SubscriptionState.WAITING
    bench.publish(feed, 1)
    assert bench.pump() == [] and subscription.state is SubscriptionState.WAITING, "only a flush ends the wait"
    subscription.flushed()
    bench.pump()
    assert subscription.in_step and bench.pipe.seqs() == ([3] if cursor == 2 else [])


def test_a_page_is_written_and_the_rest_comes_from_the_ring() -> None:
    bench = Bench()
    subscription = fetching(bench)
    assert bench.page(subscription, 1, 10) and subscription.state is SubscriptionState.BEHIND
    bench.pump()
    assert subscription.in_step and bench.pipe.seqs() == list(range(1, 12))


def test_a_page_that_overlaps_is_cut() -> None:
    bench = Bench()
    feed = bench.feed(count=10)
    feed.ring.clear()
    subscription = bench.follow(feed, cursor=4)
    bench.pump()
    assert bench.page(subscription, 1, 8) and bench.pipe.seqs() == [5, 6, 7, 8] and subscription.cursor == 8


def test_a_page_that_begins_later_is_a_gap_and_so_is_an_empty_one_of_a_shorter_history() -> None:
    bench = Bench()
    subscription = fetching(bench)
    assert bench.page(subscription, 4, 2, first_seq=4)
    (gap,) = bench.pipe.frames("gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"], gap["recoverable"]) == (1, 3, "retention", False)
    assert bench.numbers.gaps == {"retention": 3} and subscription.cursor == 5
    assert bench.pump() == ["a"]
    assert bench.page(subscription, 6, 0, first_seq=9) and subscription.cursor == 8
    assert bench.pipe.frames("gap")[-1]["to_seq"] == 8


def test_one_message_that_a_page_has_lost_is_a_gap() -> None:
    bench = Bench()
    subscription = fetching(bench)
    assert bench.page(subscription, 2, 3, first_seq=2)
    (gap,) = bench.pipe.frames("gap")
    assert (gap["from_seq"], gap["to_seq"]) == (1, 1) and bench.pipe.seqs() == [2, 3, 4]


def test_an_empty_page_moves_nothing_and_asks_for_no_pump() -> None:
    bench = Bench()
    subscription = fetching(bench)
    assert not bench.page(subscription, 1, 0) and bench.pipe.data == b"" and subscription.cursor == 0
    assert subscription.state is SubscriptionState.BEHIND, "it is asked for again"


@pytest.mark.parametrize("why", ["epoch", "refused", "paused", "closed", "ended"])
def test_a_page_is_dropped_when_nobody_can_take_it(why: str) -> None:
    bench = Bench()
    subscription = fetching(bench)
    if why == "paused":
        bench.catchup.park(bench.session, 0.0)
    elif why == "closed":
        bench.session.lose()
    elif why == "ended":
        subscription.end()
    if why == "refused":
        moved = bench.catchup.page(subscription, Refused(1, "not_ready", "away"), 0)
    else:
        moved = bench.page(subscription, 1, 5, epoch=EPOCH + (why == "epoch"))
    assert not moved and bench.pipe.data == b"" and subscription.cursor == 0
    expected = SubscriptionState.ENDED if why == "ended" else SubscriptionState.BEHIND
    assert subscription.state is expected


def test_a_session_waits_for_two_pages_at_a_time_and_its_topics_take_turns() -> None:
    bench = Bench()
    feeds = [bench.feed(topic, 5) for topic in "abc"]
    for feed in feeds:
        feed.ring.clear()
    first, *_ = [bench.follow(feed) for feed in feeds]
    assert bench.pump() == ["a", "b"] and FETCHES == 2
    assert bench.page(first, 1, 3)
    assert bench.pump() == ["c"], "a has had its turn"


def test_no_page_is_asked_of_an_owner_that_is_away() -> None:
    bench = Bench()
    feed = bench.feed(count=5)
    feed.ring.clear()
    subscription = bench.follow(feed)
    bench.owners.up = False
    assert bench.pump() == [] and subscription.state is SubscriptionState.BEHIND
    bench.owners.up = True
    assert bench.pump() == ["a"]


def test_an_ephemeral_topic_has_no_pages_and_tells_how_many_are_lost() -> None:
    bench = Bench()
    feed = bench.feed(count=10, profile="ephemeral")
    feed.ring.clear()
    bench.publish(feed, 2)
    subscription = bench.follow(feed, 0, 12)
    assert bench.pump() == [] and subscription.in_step
    (gap,) = bench.pipe.frames("gap")
    assert gap["count"] == 10 and len(bench.pipe.frames("message")) == 2


def test_nothing_is_written_to_a_paused_session_and_a_park_in_the_middle_stops_the_pump() -> None:
    bench = Bench(Limits(queue_frames=20))
    feed = bench.feed(count=100)
    subscription = bench.follow(feed)
    bench.catchup.park(bench.session, 0.0)
    assert bench.pump() == [] and bench.pipe.data == b""
    bench.session.resume()
    write = bench.pipe.write

    def full(data: bytes) -> None:
        write(data)
        bench.catchup.park(bench.session, 0.0)

    bench.pipe.write = full  # type: ignore[method-assign]
    bench.pump()
    assert bench.pipe.seqs() == list(range(1, 11)), "one piece"
    assert subscription.state is SubscriptionState.BEHIND and bench.catchup.behind(bench.session) == [subscription]


@pytest.mark.parametrize("by", ["messages", "bytes"])
def test_a_slow_subscriber_is_ended_beyond_the_bound_and_not_at_it(by: str) -> None:
    size = len(FRAME % 1)
    limits = Limits(slow_messages=5) if by == "messages" else Limits(slow_bytes=5 * size)
    bench = Bench(limits)
    feed = bench.feed()
    subscription = bench.follow(feed)
    bench.pump()
    assert subscription.in_step
    bench.catchup.park(bench.session, 0.0)
    bench.pipe.waiting = 1
    bench.publish(feed, 5)
    assert bench.catchup.due(bench.session, 1.0) is Due.NOTHING
    bench.publish(feed, 1)
    assert bench.catchup.due(bench.session, 1.0) is Due.END_SLOW
    bench.session.resume()
    assert bench.catchup.pump(bench.session, 0).too_slow and bench.pipe.data == b""


def test_a_replay_is_never_too_slow() -> None:
    bench = Bench(Limits(slow_messages=5))
    bench.follow(bench.feed(count=100), 0, 100)
    bench.catchup.park(bench.session, 0.0)
    bench.pipe.waiting = 1
    assert bench.catchup.due(bench.session, 1.0) is Due.NOTHING
    bench.session.resume()
    assert bench.pump() == [] and bench.pipe.seqs() == list(range(1, 101))


def test_on_slow_drop_oldest_leaves_the_newest_and_tells_a_recoverable_gap() -> None:
    bench = Bench(Limits(slow_messages=5))
    feed = bench.feed(on_slow="drop_oldest")
    bench.follow(feed)
    bench.pump()
    bench.catchup.park(bench.session, 0.0)
    bench.publish(feed, 20)
    bench.session.resume()
    assert bench.pump() == []
    (gap,) = bench.pipe.frames("gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"], gap["recoverable"]) == (1, 15, "slow_consumer", True)
    assert bench.pipe.seqs() == [16, 17, 18, 19, 20]


def test_on_slow_drop_oldest_tells_no_gap_where_nothing_is_dropped() -> None:
    bench = Bench(Limits(slow_bytes=100))
    feed = bench.feed(on_slow="drop_oldest")
    bench.follow(feed)
    bench.pump()
    bench.catchup.park(bench.session, 0.0)
    bench.publish(feed, 5)
    bench.session.resume()
    assert bench.pump() == []
    assert bench.pipe.frames("gap") == [] and bench.pipe.seqs() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("paused", "before", "now", "seconds", "expected"),
    [
        (False, 9, 9, 1, Due.PUMP),  # its page may not have come
        (True, 100, 0, 60, Due.PUMP),  # it took all
        (True, 0, 0, 60, Due.PUMP),  # it had none to take
        (True, 100, 99, 60, Due.NOTHING),  # the transport says itself when there is room
        (True, 100, 100, 59, Due.NOTHING),
        (True, 100, 100, 60, Due.END_DEAD),  # no byte for a minute
        (True, 90_000, 80_000, 60, Due.NOTHING),
    ],
)
def test_what_is_due_for_a_session_out_of_step(
    paused: bool, before: int, now: int, seconds: float, expected: Due
) -> None:
    bench = Bench()
    bench.follow(bench.feed(), cursor=1)
    bench.pipe.waiting = before
    if paused:
        bench.catchup.park(bench.session, 0.0)
    bench.pipe.waiting = now
    assert bench.catchup.due(bench.session, seconds) is expected
    assert bench.session.paused is (paused and expected is not Due.PUMP)


def test_what_is_lost_is_told_to_those_in_step_and_the_feed_continues_above_it() -> None:
    bench = Bench()
    feed = bench.feed(count=3)
    subscription = bench.follow(feed)
    bench.pump()
    bench.catchup.tell_lost(feed, 8)
    (gap,) = bench.pipe.frames("gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (4, 7, "retention")
    assert subscription.in_step and (feed.head, feed.sent, feed.ring.first) == (7, 7, 8)


def test_a_session_that_ended_is_out_of_the_list() -> None:
    bench = Bench()
    subscription = bench.follow(bench.feed(), cursor=1)
    bench.catchup.forget(subscription)
    assert bench.catchup.behind(bench.session) == [] and bench.catchup.sessions() == [bench.session]
    bench.catchup.drop(bench.session)
    assert bench.catchup.sessions() == [] and bench.pump() == []


def test_nothing_is_kept_of_a_subscription_that_ends_after_its_release_from_a_fence() -> None:
    bench = Bench()
    subscription = bench.follow(bench.feed(count=3))
    bench.catchup.hold(subscription)
    bench.catchup.release(subscription)
    bench.catchup.forget(subscription)
    assert bench.catchup.behind(bench.session) == [] and not bench.catchup._released


@pytest.mark.parametrize(("policy", "kept"), [("drop_newest", 0), ("conflate", 1), ("drop_oldest", 4)])
def test_a_parked_session_of_an_ephemeral_topic_gets_the_newest_that_its_policy_keeps(policy: str, kept: int) -> None:
    bench = Bench()
    feed = bench.feed(profile="ephemeral", on_slow=policy)
    bench.follow(feed)
    bench.pump()
    bench.catchup.park(bench.session, 0.0)
    bench.publish(feed, 6)
    feed.ring.clear()
    bench.publish(feed, 4)
    bench.session.resume()
    bench.pump()
    assert bench.pipe.seqs() == list(range(11 - kept, 11))
    assert [gap["count"] for gap in bench.pipe.frames("gap")] == [10 - kept]


def test_an_ephemeral_topic_that_disconnects_ends_who_missed_a_message_of_the_ring_and_nobody_else() -> None:
    bench = Bench()
    feed = bench.feed(profile="ephemeral", on_slow="disconnect")
    bench.follow(feed)
    bench.pump()
    bench.catchup.park(bench.session, 0.0)
    bench.pipe.waiting = 1
    bench.publish(feed, 6)
    assert bench.catchup.due(bench.session, 1.0) is Due.NOTHING, "the ring holds them all"
    feed.ring.clear()
    assert bench.catchup.due(bench.session, 1.0) is Due.END_SLOW


@pytest.mark.parametrize(("profile", "seq", "event_id"), [("durable", 3, b"id: 7:1\n"), ("ephemeral", 0, b"")])
def test_only_a_durable_topic_names_its_seqs(profile: str, seq: int, event_id: bytes) -> None:
    bench = Bench()
    bench.session = Session(bench.pipe, SSE, b"c", 0.0)
    bench.follow(bench.feed(count=3, profile=profile), 0, 3)
    bench.pump()
    assert bench.pipe.data.startswith(event_id + b"data: ") and b'"seq":%d}\n\n' % seq in bench.pipe.data[-20:]


def test_who_is_parked_by_the_gap_continues_above_it() -> None:
    bench = Bench()
    feed = bench.feed(count=3)
    stays, parked = bench.follow(feed), bench.follow(bench.feed("b", 3))
    bench.pump()
    bench.catchup.tell_lost(feed, 8)
    assert stays.cursor != 7, "in step a cursor means nothing"
    write = bench.pipe.write

    def full(data: bytes) -> None:
        write(data)
        bench.catchup.park(bench.session, 0.0)

    bench.pipe.write = full  # type: ignore[method-assign]
    bench.catchup.tell_lost(parked.feed, 8)
    assert (parked.state, parked.cursor) == (SubscriptionState.BEHIND, 7)


def test_who_waited_for_a_long_flush_is_not_too_slow() -> None:
    bench = Bench(Limits(slow_bytes=100))
    feed = bench.feed(count=3)
    live = bench.follow(feed, cursor=13)  # the owner was at 13 at the grant; ten are still to be written here
    assert bench.pump() == [] and live.state is SubscriptionState.WAITING
    bench.publish(feed, 10)
    assert feed.size - live.mark > 100 and flushed(feed) == [bench.session]
    assert bench.catchup.due(bench.session, 1.0) is Due.PUMP
    bench.catchup.park(bench.session, 1.0)
    assert bench.catchup.due(bench.session, 2.0) is not Due.END_SLOW
    bench.session.resume()
    assert bench.pump() == [] and live.in_step
