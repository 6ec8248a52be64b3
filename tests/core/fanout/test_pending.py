"""Pending subscribes, on values: the order of a query, who is asked, held, answered, late and too late."""

from collections.abc import Sequence

import pytest

from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.fanout.pending import ASKED_AT_ONCE, PendingSubscribes, Unwanted
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.query_turns import PATIENCE_S
from headgate.core.fanout.session import Session
from headgate.core.fanout.subscription import IllegalSubscriptionEvent, SubscriptionState
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import AskSubscribe, Leave, Refused, Subscribed
from headgate.core.wire.position import from_query
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Scene

SHARD, OTHER = 3, 4
EARLIEST = from_query("earliest")
GRANT = Subscribed(1, "a", 7, 9, 1, 9, 1, None, None, {"profile": "durable"})
AWAY = Refused(1, "not_ready", "away")


def nothing_is_sent(shard: int, leave: Leave) -> None:
    raise AssertionError(f"sent to the owner of shard {shard}: {leave}")


def session(user: str = "bob") -> Session:
    scene = Scene()
    found = scene.open().session
    assert found is not None
    found.identify(Identity(Caller(user)), scene.moment)
    return found


def subscribe(topic_id: str) -> Subscribe:
    return Subscribe(topic_id, None, True)


def query(*topics: str) -> list[tuple[str, Subscribe | Refusal]]:
    return [(topic, subscribe(topic)) for topic in topics]


def resumed(*topics: str) -> list[tuple[str, Subscribe | Refusal]]:
    """What is asked for one by one."""
    return [(topic, Subscribe(topic, EARLIEST, True)) for topic in topics]


def asked(pending: PendingSubscribes, who: Session, topic_id: str = "a", now: float = 0.0) -> PendingSubscribe:
    made = pending.ask(who, subscribe(topic_id), None, now)
    assert made is not None
    made.place(SHARD)
    return made


def series(pending: PendingSubscribes, who: Session, now: float = 0.0) -> list[str | PendingSubscribe]:
    """What `next` hands out until it stops: subscribes, and the codes of refusals."""
    found: list[str | PendingSubscribe] = []
    pending.turns.enter(who)
    while (following := pending.next(who, now)) is not None:
        outcome = following[1]
        found.append(outcome.code if isinstance(outcome, Refusal) else outcome)
    pending.turns.leave(who)
    return found


def names(found: Sequence[str | PendingSubscribe]) -> list[str]:
    return [each if isinstance(each, str) else each.topic_id for each in found]


def test_a_grant_is_handed_to_the_hub_and_nothing_is_pending_any_longer() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    one = asked(pending, who)
    assert pending.count(who) == 1 and one.asked
    assert pending.answered(one, GRANT) == GRANT
    assert pending.count(who) == 0 and one.state is SubscriptionState.BEHIND
    assert pending.expired(1e9) == []


def test_a_refusal_is_handed_to_the_hub() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    one = asked(pending, who)
    outcome = pending.answered(one, Refused(1, "forbidden", "no"))
    assert isinstance(outcome, Refusal) and outcome.code == "forbidden"
    assert one.state is SubscriptionState.ENDED and pending.count(who) == 0


def test_an_owner_that_is_away_is_asked_again_when_it_is_linked() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    one, other = asked(pending, who), asked(pending, who, "b")
    other.place(OTHER)
    for each in (one, other):
        assert pending.answered(each, AWAY) is None and each.state is SubscriptionState.HELD
    assert pending.waiting() == [SHARD, OTHER]
    assert pending.resend(SHARD) == [one] and one.asked and not other.asked
    assert pending.resend(SHARD) == [] and pending.waiting() == [OTHER]


def test_an_answer_is_awaited_while_the_owner_is_asked_and_not_while_it_is_away() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    assert not pending.awaits_answer(who)
    of_a = asked(pending, who)
    assert pending.awaits_answer(who) and not pending.awaits_answer(session("eve"))
    pending.hold(of_a)
    assert not pending.awaits_answer(who)


def test_what_is_held_for_no_known_shard_is_asked_again_with_any_owner() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    one = pending.ask(who, subscribe("a"), None, 0.0)
    assert one is not None
    pending.hold(one)
    assert pending.waiting() == [None] and pending.resend(OTHER) == [one]


def test_a_grant_that_nobody_waits_for_is_given_back_and_a_refusal_is_not() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    one = asked(pending, who)
    pending.end(one)
    assert pending.answered(one, GRANT) == Unwanted(GRANT)
    assert pending.answered(one, Refused(1, "forbidden", "no")) is None


def test_what_ended_while_it_was_held_is_not_asked_again() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    one = asked(pending, who)
    pending.hold(one)
    pending.end(one)
    assert pending.waiting() == [] and pending.resend(SHARD) == []
    with pytest.raises(IllegalSubscriptionEvent):
        pending.hold(one)


def test_a_subscribe_is_refused_exactly_at_its_deadline() -> None:
    pending, who = PendingSubscribes(Limits(hold_s=10), nothing_is_sent), session()
    first, second = asked(pending, who, "a", 0.0), asked(pending, who, "b", 1.0)
    assert pending.expired(9.99) == []
    assert pending.expired(10.0) == [first] and first.state is SubscriptionState.ENDED
    assert pending.expired(11.0) == [second] and pending.count(who) == 0


def test_a_topic_is_followed_once_whether_asked_for_or_in_the_query() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    asked(pending, who)
    pending.want(who, query("b"))
    for topic in "ab":
        with pytest.raises(Refusal) as refused:
            pending.ask(who, subscribe(topic), None, 0.0)
        assert refused.value.code == "already_subscribed"
    assert pending.count(who) == 2


def test_the_limit_counts_subscribed_asked_and_wanted_topics() -> None:
    pending, who = PendingSubscribes(Limits(topics=3), nothing_is_sent), session()
    asked(pending, who)
    pending.want(who, [*query("b"), ("x", Refusal("bad_request", "bad"))])
    asked(pending, who, "c")
    with pytest.raises(Refusal) as refused:
        pending.ask(who, subscribe("d"), None, 0.0)
    assert refused.value.code == "limit_reached"


def test_a_ticket_for_topics_is_for_no_other_and_creates_none() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    who.identify(Identity(Caller("bob"), topics=frozenset({"a"})), Scene().moment)
    request = asked(pending, who).request(1, create=True)
    assert isinstance(request, AskSubscribe) and not request.create
    with pytest.raises(Refusal) as refused:
        pending.ask(who, subscribe("b"), None, 0.0)
    assert (refused.value.code, refused.value.detail) == ("forbidden", "this ticket is for other topics")


def test_a_refused_subscribe_leaves_nothing_behind() -> None:
    pending, who = PendingSubscribes(Limits(topics=0), nothing_is_sent), session()
    with pytest.raises(Refusal):
        pending.ask(who, subscribe("a"), None, 0.0)
    assert pending._asked == {}


def test_the_next_topic_of_a_query_may_wait_for_the_answer_to_the_one_before() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    pending.want(who, resumed("a", "b"))
    pending.begin(who, 5.0)
    (first,) = series(pending, who, 5.0)
    assert isinstance(first, PendingSubscribe) and (first.topic_id, first.begun) == ("a", 5.0)
    assert pending.answered(first, GRANT) == GRANT
    (last,) = series(pending, who, 5.5)
    assert isinstance(last, PendingSubscribe) and last.topic_id == "b"
    assert pending.answered(last, GRANT) == GRANT
    assert pending.turns._queries == {}, "a query that is answered takes no memory"


@pytest.mark.parametrize("how", ["held", "ended"])
def test_a_topic_that_is_held_or_ended_holds_up_no_other(how: str) -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    pending.want(who, resumed("a", "b"))
    (first,) = series(pending, who)
    assert isinstance(first, PendingSubscribe)
    if how == "held":
        pending.hold(first)
    else:
        pending.end(first)
    assert names(series(pending, who)) == ["b"]


def test_an_answer_that_is_late_binds_the_order_no_longer() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    pending.want(who, resumed("a", "b", "c"))
    assert names(series(pending, who)) == ["a"]
    assert pending.turns.late(PATIENCE_S - 0.01) == [] and pending.next(who, PATIENCE_S - 0.01) is None
    assert pending.turns.late(PATIENCE_S) == [who]
    assert names(series(pending, who, PATIENCE_S)) == ["b", "c"], "nothing waits any longer"
    assert pending.turns.late(PATIENCE_S) == []


def test_a_query_answers_bad_and_repeated_topics_in_their_place() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    topics = [*query("a"), ("?", Refusal("invalid_topic_id", "bad")), *query("a", "b")]
    pending.want(who, topics)
    pending.begin(who, 0.0)
    assert names(series(pending, who, PATIENCE_S)) == ["a", "invalid_topic_id", "already_subscribed", "b"]


def test_one_series_at_a_time_and_none_without_a_query() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    assert not pending.turns.enter(who)
    pending.want(who, query("a", "b"))
    assert pending.turns.enter(who) and not pending.turns.enter(who)
    series(pending, who)
    pending.turns.leave(who)
    assert pending.turns.enter(who), "b is left"


def test_a_withdrawal_means_what_is_asked_for_and_what_is_wanted() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    one = asked(pending, who)
    pending.want(who, [*query("a", "b"), ("a", Refusal("bad_request", "bad"))])
    assert pending.withdraw(who, "a") and one.state is SubscriptionState.ENDED
    assert not pending.withdraw(who, "a")
    assert names(series(pending, who, PATIENCE_S)) == ["b", "bad_request"]
    assert pending.withdraw(who, "b") and pending._asked == {} and pending.turns._queries == {}


def test_a_session_that_ends_takes_everything_with_it_and_nothing_of_another() -> None:
    pending, who, other = PendingSubscribes(Limits(), nothing_is_sent), session(), session("eve")
    one, two = asked(pending, who), asked(pending, other)
    pending.want(who, query("b"))
    pending.hold(one)
    pending.drop(who)
    assert one.state is SubscriptionState.ENDED and two.asked
    assert pending.count(who) == 0 and pending.count(other) == 1 and pending.waiting() == []
    assert pending.next(who, 0.0) is None


def test_the_only_topic_of_a_query_is_asked_for_at_its_beginning() -> None:
    pending, who = PendingSubscribes(Limits(hold_s=10), nothing_is_sent), session()
    pending.want(who, query("a"))
    one = pending.begin(who, 5.0)
    assert one is not None and one.asked and one.topic_id == "a" and pending.count(who) == 1
    assert pending.begin(who, 5.0) is None and not pending.turns.enter(who), "the query is over"
    assert pending.expired(14.9) == [] and pending.expired(15.0) == [one]


def test_a_query_with_an_error_or_with_an_order_to_keep_is_gone_through() -> None:
    ticket = session()
    ticket.identify(Identity(Caller("bob"), topics=frozenset({"b"})), Scene().moment)
    for who, topics in (
        (session(), query("a", "b")),
        (session(), [("?", Refusal("bad_request", "no"))]),
        (ticket, query("a")),
    ):
        pending = PendingSubscribes(Limits(), nothing_is_sent)
        pending.want(who, topics)
        assert pending.begin(who, 0.0) is None and pending.turns.enter(who)
    assert series(pending, ticket) == ["forbidden"]


def busy(who: Session) -> tuple[PendingSubscribes, list[PendingSubscribe]]:
    """As many topics of the session are asked for as may be at once."""
    pending = PendingSubscribes(Limits(), nothing_is_sent)
    return pending, [asked(pending, who, f"t{number}") for number in range(ASKED_AT_ONCE)]


def test_only_a_few_topics_of_a_session_are_asked_for_together() -> None:
    who = session()
    pending, first = busy(who)
    assert pending.ask(session("eve"), subscribe("last"), 7, 0.0) is not None
    assert pending.ask(who, subscribe("last"), 7, 0.0) is None and pending.count(who) == ASKED_AT_ONCE + 1
    with pytest.raises(Refusal):
        pending.ask(who, subscribe("last"), 8, 0.0)
    assert pending.next_deferred(who, 0.0) is None
    pending.hold(first[0])  # its owner is away
    last = pending.next_deferred(who, 0.5)
    assert last is not None and (last.topic_id, last.frame_id) == ("last", 7)
    assert last.begun == 0.0, "it is refused no later than one that was asked for at once"


def test_a_topic_that_waits_can_be_withdrawn_and_goes_with_its_session() -> None:
    who = session()
    pending, _ = busy(who)
    for topic in "ab":
        pending.ask(who, subscribe(topic), None, 0.0)
    assert pending.withdraw(who, "a") and not pending.withdraw(who, "a")
    assert pending.count(who) == ASKED_AT_ONCE + 1 and pending.stalled() == [who]
    pending.drop(who)
    assert pending.count(who) == 0 and pending.stalled() == []


def test_those_whose_answers_are_late_hold_up_nobody() -> None:
    who = session()
    pending, _ = busy(who)
    pending.ask(who, subscribe("last"), None, 0.5)
    assert pending.next_deferred(who, PATIENCE_S - 0.01) is None and pending.stalled() == [who]
    assert pending.next_deferred(who, PATIENCE_S) is not None


def test_a_query_that_is_late_is_asked_for_a_few_topics_at_a_time() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), session()
    topics = [f"t{number}" for number in range(2 * ASKED_AT_ONCE)]
    pending.want(who, query(*topics))
    pending.begin(who, 0.0)
    found = series(pending, who, PATIENCE_S)  # its socket was full for so long
    assert names(found) == topics[:ASKED_AT_ONCE] and pending.stalled() == [who]
    for one in found:
        assert isinstance(one, PendingSubscribe)
        pending.answered(one, GRANT)
    assert names(series(pending, who, PATIENCE_S)) == topics[ASKED_AT_ONCE:]


def test_nobody_is_asked_for_who_waits_for_auth() -> None:
    pending, who = PendingSubscribes(Limits(), nothing_is_sent), Scene().open().session
    assert who is not None
    pending.want(who, query("a"))
    assert pending.stalled() == []
