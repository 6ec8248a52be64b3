"""The table of a subscription's life: what is legal, what is refused, and which of its states a subscriber is in."""

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout.session import Subscription
from headgate.core.fanout.subscription import (
    TRANSITIONS,
    IllegalSubscriptionEvent,
    Life,
    SubscriptionEvent,
    SubscriptionState,
)
from headgate.core.wire.errors import HeadgateError
from tests.core.scene import Pipe, Scene

BIG = "x" * 1_000
LISTED = [(state, event) for state, row in TRANSITIONS.items() for event in row]
UNLISTED = [(s, e) for s in SubscriptionState for e in SubscriptionEvent if (s, e) not in LISTED]


def only(pipe: Pipe) -> Subscription:
    assert pipe.session is not None
    (subscription,) = pipe.session.subscriptions.values()
    return subscription


def state_of(subscription: Subscription) -> SubscriptionState:
    return subscription.state


@pytest.mark.parametrize(("state", "event"), LISTED)
def test_a_listed_event_changes_the_state_as_the_table_says(state: SubscriptionState, event: SubscriptionEvent) -> None:
    life = Life(state)
    life.move(event)
    assert life.state is TRANSITIONS[state][event]


@pytest.mark.parametrize(("state", "event"), UNLISTED)
def test_an_event_that_is_not_listed_raises_one_error_and_changes_nothing(
    state: SubscriptionState, event: SubscriptionEvent
) -> None:
    life = Life(state)
    with pytest.raises(IllegalSubscriptionEvent) as refused:
        life.move(event)
    assert life.state is state and isinstance(refused.value, HeadgateError)
    assert (refused.value.state, refused.value.event) == (state, event)
    assert state in str(refused.value) and event in str(refused.value)


@pytest.mark.parametrize(
    ("state", "event", "text"),
    [
        (SubscriptionState.ENDED, SubscriptionEvent.PARK, "'socket is full' in state ENDED; expected one of: none"),
        (
            SubscriptionState.HELD,
            SubscriptionEvent.GRANT,
            "'granted' in state HELD; expected one of: 'an owner is linked', 'ended'",
        ),
    ],
)
def test_the_error_names_the_events_that_are_legal(
    state: SubscriptionState, event: SubscriptionEvent, text: str
) -> None:
    assert str(IllegalSubscriptionEvent(state, event)) == text


def test_every_state_is_reached_from_asked_and_every_state_but_ended_may_end() -> None:
    reached, new = {SubscriptionState.ASKED}, {SubscriptionState.ASKED}
    while new:
        new = {after for state in new for after in TRANSITIONS[state].values()} - reached
        reached |= new
    assert reached == set(SubscriptionState) == set(TRANSITIONS)
    may_end = {state for state, row in TRANSITIONS.items() if row.get(SubscriptionEvent.END) is SubscriptionState.ENDED}
    assert may_end == set(SubscriptionState) - {SubscriptionState.ENDED}


def test_only_a_subscription_that_was_granted_and_caught_up_comes_into_step() -> None:
    into = [(s, e) for s, row in TRANSITIONS.items() for e, after in row.items() if after is SubscriptionState.IN_STEP]
    assert into == [(SubscriptionState.BEHIND, SubscriptionEvent.CATCH_UP)]


def test_a_subscription_goes_through_its_states() -> None:
    scene = Scene(Limits(ring_frames=10))
    scene.owners.create("a")
    pipe = scene.socket("a")
    subscription = only(pipe)
    assert state_of(subscription) is SubscriptionState.IN_STEP
    pipe.stuck = True
    for _ in range(200):
        scene.publish("a", BIG)
        scene.turn()
    assert state_of(subscription) is SubscriptionState.BEHIND
    scene.owners.slow = True
    pipe.stuck = False
    pipe.drain()
    assert state_of(subscription) is SubscriptionState.FETCHING, "the ring has forgotten"
    scene.owners.slow = False
    scene.owners.deliver()
    assert state_of(subscription) is SubscriptionState.IN_STEP and pipe.seqs() == list(range(1, 201))
    scene.say(pipe, type="unsubscribe", topic_id="a")
    assert state_of(subscription) is SubscriptionState.ENDED and scene.hub.feeds == {}


def test_a_subscription_whose_grant_lies_above_what_is_written_waits_for_the_flush() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", 1)
    late = only(scene.socket("a"))
    assert state_of(late) is SubscriptionState.WAITING and late in late.feed.waiting
    scene.turn()
    assert state_of(late) is SubscriptionState.IN_STEP and not late.feed.waiting


def test_who_ends_while_he_waits_is_not_looked_at_by_the_flush() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", 1)
    pipe = scene.socket("a")
    late, feed = only(pipe), scene.hub.feeds["a"]
    scene.say(pipe, type="unsubscribe", topic_id="a")
    assert state_of(late) is SubscriptionState.ENDED and not feed.waiting
    scene.turn()
    assert pipe.seqs() == []


def test_a_second_end_is_illegal_and_counts_nothing() -> None:
    scene = Scene()
    scene.owners.create("a")
    subscription = only(scene.socket("a"))
    scene.hub.unsubscribe(subscription, "ended")
    with pytest.raises(IllegalSubscriptionEvent):
        subscription.end()
    assert scene.hub.subscription_count == 0 and scene.owners.topics["a"].count == 0
