"""The memory of recent publishes: what a repeat may be told, and that it stays bounded."""

import time

import pytest

from headgate.core.publish.recent_publishes import (
    KNOWN_S,
    TRANSITIONS,
    UNRESOLVED_S,
    LogPlace,
    PublishEvent,
    PublishState,
    RecentPublish,
    RecentPublishes,
)
from headgate.core.wire.errors import IllegalTransition, Refusal

KEY = (1, b"id")
PLACE = LogPlace(0, 10, 0)


def key(number: int) -> tuple[int, bytes]:
    return 1, number.to_bytes(16, "big")


def test_a_first_publish_is_not_known() -> None:
    assert RecentPublishes().find(KEY, b"a", 0) is None


def test_one_in_flight_is_joined_and_one_acknowledged_is_known() -> None:
    recent = RecentPublishes()
    entry = recent.attempt(KEY, b"a", "attempt", 0)
    assert recent.find(KEY, b"a", 1) is entry
    assert (entry.state, entry.attempt, entry.place) == (PublishState.IN_FLIGHT, "attempt", None)
    recent.acknowledged(KEY, entry, PLACE, 2)
    assert recent.find(KEY, b"a", 3) is entry
    assert (entry.state, entry.attempt, entry.place) == (PublishState.KNOWN, None, PLACE)


def test_another_body_is_a_conflict_and_another_epoch_is_not() -> None:
    recent = RecentPublishes()
    recent.attempt(KEY, b"a", None, 0)
    with pytest.raises(Refusal) as caught:
        recent.find(KEY, b"b", 0)
    assert caught.value.code == "idempotency_conflict"
    assert recent.find((2, b"id"), b"b", 0) is None


def test_a_refused_publish_is_forgotten() -> None:
    recent = RecentPublishes()
    entry = recent.attempt(KEY, b"a", "attempt", 0)
    recent.refused(KEY, entry)
    assert (entry.state, entry.attempt) == (PublishState.FORGOTTEN, None)
    assert recent.find(KEY, b"b", 0) is None
    assert len(recent) == 0


def test_an_unresolved_one_stays_so_until_it_is_acknowledged() -> None:
    recent = RecentPublishes()
    entry = recent.attempt(KEY, b"a", "first", 0)
    recent.unknown(KEY, entry, 6)
    assert recent.find(KEY, b"a", 7) is entry
    assert (entry.state, entry.attempt) == (PublishState.UNRESOLVED, None)
    for at in (7, 8):
        assert recent.attempt(KEY, b"a", "again", at) is entry
        assert (entry.state, entry.attempt, entry.is_unresolved) == (PublishState.RETRYING, "again", True)
        recent.refused(KEY, entry)
        assert entry.state is PublishState.UNRESOLVED
        assert recent.find(KEY, b"a", at) is entry
    recent.attempt(KEY, b"a", "third", 9)
    recent.unknown(KEY, entry, 15)
    assert entry.at == 6, "its age counts from the first unknown outcome"
    recent.attempt(KEY, b"a", "fourth", 16)
    recent.acknowledged(KEY, entry, PLACE, 17)
    assert (entry.state, entry.is_unresolved, entry.at) == (PublishState.KNOWN, False, 17)
    assert recent.find(KEY, b"a", 18) is entry
    assert len(recent) == 1


@pytest.mark.parametrize(
    ("state", "answered", "unresolved"),
    [
        (PublishState.IN_FLIGHT, True, False),
        (PublishState.KNOWN, True, False),
        (PublishState.FORGOTTEN, False, False),
        (PublishState.UNRESOLVED, False, True),
        (PublishState.RETRYING, True, True),
    ],
)
def test_which_states_answer_a_repeat_and_which_are_unresolved(
    state: PublishState, answered: bool, unresolved: bool
) -> None:
    entry = entry_in(state)
    assert (entry.is_answered, entry.is_unresolved) == (answered, unresolved)


@pytest.mark.parametrize("state", PublishState)
@pytest.mark.parametrize("event", PublishEvent)
def test_an_illegal_event_raises_and_changes_nothing(state: PublishState, event: PublishEvent) -> None:
    entry = entry_in(state)
    expected = TRANSITIONS[state].get(event)
    if expected is not None:
        entry.move(event, "next")
        assert (entry.state, entry.attempt) == (expected, "next")
        return
    before = entry.attempt
    with pytest.raises(IllegalTransition) as caught:
        entry.move(event, "next")
    assert (entry.state, entry.attempt) == (state, before)
    assert (caught.value.state, caught.value.step) == (state, event)


def test_every_state_is_reached_and_the_final_ones_are_not_left() -> None:
    reached = {after for row in TRANSITIONS.values() for after in row.values()}
    assert reached | {PublishState.IN_FLIGHT} == set(TRANSITIONS) == set(PublishState)
    assert {state for state, row in TRANSITIONS.items() if not row} == {PublishState.KNOWN, PublishState.FORGOTTEN}


def test_an_illegal_outcome_leaves_the_memory_as_it_was() -> None:
    recent = RecentPublishes()
    entry = recent.attempt(KEY, b"a", None, 0)
    recent.acknowledged(KEY, entry, PLACE, 1)
    for illegal in (
        lambda: recent.attempt(KEY, b"a", "second", 2),
        lambda: recent.acknowledged(KEY, entry, LogPlace(0, 99, 0), 2),
        lambda: recent.refused(KEY, entry),
        lambda: recent.unknown(KEY, entry, 2),
    ):
        with pytest.raises(IllegalTransition):
            illegal()
    assert (entry.place, entry.at, entry.attempt) == (PLACE, 0, None)
    assert recent.find(KEY, b"a", 2) is entry
    assert len(recent) == 1


def entry_in(state: PublishState) -> RecentPublish:
    """An entry that came to this state by legal events."""
    entry = RecentPublish(b"f", "first", 0)
    ways: dict[PublishState, list[PublishEvent]] = {
        PublishState.IN_FLIGHT: [],
        PublishState.KNOWN: [PublishEvent.ACKNOWLEDGED],
        PublishState.FORGOTTEN: [PublishEvent.REFUSED],
        PublishState.UNRESOLVED: [PublishEvent.OUTCOME_UNKNOWN],
        PublishState.RETRYING: [PublishEvent.OUTCOME_UNKNOWN, PublishEvent.ATTEMPT],
    }
    for event in ways[state]:
        entry.move(event)
    return entry


def test_age_ends_what_is_known() -> None:
    recent = RecentPublishes()
    known = recent.attempt(key(1), b"a", None, 0)
    recent.acknowledged(key(1), known, PLACE, 0)
    open_one = recent.attempt(key(2), b"a", None, 0)
    recent.unknown(key(2), open_one, 0)
    assert recent.find(key(1), b"b", KNOWN_S + 1) is None
    assert recent.find(key(2), b"a", KNOWN_S + 1) is open_one
    assert recent.find(key(2), b"b", UNRESOLVED_S + 1) is None
    assert recent.attempt(key(2), b"b", None, UNRESOLVED_S + 1) is not open_one
    assert len(recent) == 1, "the old ones went as the new one came"


def test_count_is_bounded_and_traffic_does_not_push_out_the_unresolved() -> None:
    recent = RecentPublishes(max_known=5, max_unresolved=3)
    for number in range(4):
        entry = recent.attempt(key(number), b"a", None, 0)
        recent.unknown(key(number), entry, 0)
    for number in range(10, 100):
        recent.acknowledged(key(number), recent.attempt(key(number), b"a", None, 0), PLACE, 0)
    assert len(recent) == 8
    assert [recent.find(key(number), b"a", 0) is not None for number in range(4)] == [False, True, True, True]
    assert recent.find(key(99), b"a", 0) is not None


def test_one_that_was_pushed_out_in_flight_is_not_brought_back() -> None:
    recent = RecentPublishes(max_known=1)
    entry = recent.attempt(key(1), b"a", "attempt", 0)
    recent.attempt(key(2), b"a", "attempt", 0)
    recent.acknowledged(key(1), entry, PLACE, 0)
    assert len(recent) == 1
    assert recent.find(key(1), b"a", 0) is None
    assert entry.place == PLACE


def test_one_that_was_pushed_out_in_flight_and_refused_does_not_end_its_successor() -> None:
    recent = RecentPublishes(max_known=1)
    first = recent.attempt(key(1), b"a", "attempt", 0)
    recent.attempt(key(2), b"a", "attempt", 0)
    second = recent.attempt(key(1), b"a", "attempt", 0)
    recent.refused(key(1), first)
    assert recent.find(key(1), b"a", 0) is second


def test_an_answer_at_the_bound_costs_what_one_below_it_does() -> None:
    """Popping the first key of a dict looks at every deleted slot before it: 80 us and more at 100,000."""
    recent = RecentPublishes()
    seconds = []
    for begin in (0, 100_000, 200_000):
        started = time.process_time()
        for at in range(begin, begin + 100_000):
            entry = recent.attempt(key(at), b"a", None, 0)
            recent.acknowledged(key(at), entry, PLACE, 0)
        seconds.append(time.process_time() - started)
    assert len(recent) == 100_000
    assert max(seconds[1:]) < 4 * seconds[0] + 0.1


def test_unresolved_answers_at_the_bound_cost_what_those_below_it_do() -> None:
    recent = RecentPublishes()
    seconds = []
    for begin in (0, 100_000, 200_000):
        started = time.process_time()
        for at in range(begin, begin + 100_000):
            recent.unknown(key(at), recent.attempt(key(at), b"a", None, 0), 0)
        seconds.append(time.process_time() - started)
    assert len(recent) == 100_000
    assert max(seconds[1:]) < 4 * seconds[0] + 0.1
