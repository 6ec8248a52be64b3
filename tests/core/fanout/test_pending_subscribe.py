"""One pending subscribe, on values: its request, its deadline, and the answer that waits for its turn."""

from headgate.core.client.inbound import Subscribe, subscribe_from_query
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.session import Session
from headgate.core.wire.link import AskSubscribe, Subscribed
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Scene

GRANT = Subscribed(1, "a", 7, 9, 1, 9, 1, None, None, {"profile": "durable"})


def session(topics: frozenset[str] | None = None) -> Session:
    scene = Scene()
    found = scene.open().session
    assert found is not None
    found.identify(Identity(Caller("bob"), topics=topics), scene.moment)
    return found


def pending(who: Session, subscribe: Subscribe | None = None) -> PendingSubscribe:
    return PendingSubscribe(who, subscribe or Subscribe("a", None, 0), None, 5.0, 30.0)


def test_the_request_carries_the_rights_of_the_moment_it_is_sent() -> None:
    who = session()
    one = pending(who)
    fresh = Caller("bob", subscribe=("a",))
    who.identify(Identity(fresh), Scene().moment)
    assert one.request(5, create=True) == AskSubscribe(5, "a", fresh, None, True) and one.caller is fresh


def test_a_ticket_for_topics_makes_none() -> None:
    one = pending(session(frozenset("a")))
    assert not one.may_create and not one.request(5, create=True).create  # type: ignore[union-attr]


def test_it_waits_until_its_deadline() -> None:
    one = pending(session())
    assert (one.begun, one.deadline, one.asked) == (5.0, 35.0, True)


def test_what_takes_a_lease_asks_the_owner_of_the_topic_first() -> None:
    one = pending(session(), subscribe_from_query("a", {"ack": "true", "from": "cursor"}))
    assert not one.may_lease and one.wants_cursor
    one.allow()
    assert one.may_lease
    one.close()
    assert not one.may_lease, "the rights may have changed"


def test_an_answer_that_is_kept_is_taken_once() -> None:
    one = pending(session())
    one.put_off(GRANT)
    assert one.early is GRANT and one.take_turn() is GRANT
    assert one.take_turn() is None and one.early is None


def test_an_answer_that_does_not_hold_any_longer_is_forgotten() -> None:
    one = pending(session())
    one.put_off(GRANT)
    one.ask_in_turn()
    assert one.early is None and one.must_ask
    assert one.take_turn() is None and not one.must_ask
