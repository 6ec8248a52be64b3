"""Subscribes of frames that wait: their order, their names, and what is withdrawn."""

from headgate.core.client.inbound import Subscribe
from headgate.core.fanout.deferred_subscribes import Deferred, DeferredSubscribes
from headgate.core.fanout.session import Session
from tests.core.scene import Scene

A, B = (Subscribe(topic, None, 1) for topic in "ab")


def session() -> Session:
    found = Scene().open().session
    assert found is not None
    return found


def test_they_are_taken_in_the_order_of_their_frames_and_then_nothing_is_kept() -> None:
    waiting, who, other = DeferredSubscribes(), session(), session()
    waiting.add(who, A, 5, 9.0)
    waiting.add(who, B, None, 9.5)
    waiting.add(other, A, 1, 9.5)
    assert waiting.sessions() == [who, other] and waiting.names(who) == {"a", "b"} and waiting.count(who) == 2
    assert [waiting.take(who), waiting.take(who), waiting.take(who)] == [
        Deferred(A, 5, 9.0),
        Deferred(B, None, 9.5),
        None,
    ]
    assert waiting.sessions() == [other] and waiting.names(who) == set() and waiting.count(who) == 0


def test_a_topic_is_withdrawn_once_and_a_session_that_ends_takes_all_with_it() -> None:
    waiting, who = DeferredSubscribes(), session()
    waiting.add(who, A, None, 0.0)
    waiting.add(who, B, None, 0.0)
    assert waiting.withdraw(who, "a") and not waiting.withdraw(who, "a")
    waiting.drop(who)
    assert waiting.sessions() == [] and not waiting.withdraw(who, "b")


def test_one_series_at_a_time_and_none_where_nothing_waits() -> None:
    waiting, who = DeferredSubscribes(), session()
    assert not waiting.enter(who)
    waiting.add(who, A, None, 0.0)
    assert waiting.enter(who) and not waiting.enter(who)
    waiting.leave(who)
    assert waiting.enter(who)
