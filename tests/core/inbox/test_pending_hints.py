"""Hints that wait: one a second and user, the topics that moved last first, and nothing above the bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.inbox import pending_hints
from headgate.core.inbox.pending_hints import BETWEEN_S, PendingHints
from headgate.core.wire.link_inbox import HINT_TOPICS


def taken(hints: PendingHints, now: float) -> list[tuple[str, list[str]]]:
    found = []
    while (one := hints.take(now)) is not None:
        found.append(one)
    return found


def test_a_user_is_told_at_his_time_of_all_that_moved_until_then_the_last_first() -> None:
    hints = PendingHints()
    hints.add("bob", "a", 0.5)
    hints.add("eve", "a", 0.2)
    hints.add("bob", "b", 0.9)  # he is told at 0.5 all the same
    hints.add("bob", "a", 0.9)
    assert taken(hints, 0.1) == []
    assert taken(hints, 0.6) == [("eve", ["a"]), ("bob", ["a", "b"])]
    assert taken(hints, 0.7) == []


def test_a_second_lies_between_two_hints_and_a_quiet_user_is_forgotten() -> None:
    hints = PendingHints()
    hints.add("bob", "a", 0)
    assert taken(hints, 0) == [("bob", ["a"])]
    hints.add("bob", "b", 0.1)
    assert taken(hints, BETWEEN_S - 0.01) == []
    assert taken(hints, BETWEEN_S) == [("bob", ["b"])]
    assert bool(hints)
    assert taken(hints, 2 * BETWEEN_S) == [] and not hints


def test_what_is_too_much_for_one_hint_comes_with_the_next() -> None:
    hints = PendingHints()
    for n in range(HINT_TOPICS + 5):
        hints.add("bob", f"t{n}", 0)
    ((_, first),) = taken(hints, 0)
    assert first == [f"t{n}" for n in reversed(range(5, HINT_TOPICS + 5))]
    ((_, second),) = taken(hints, BETWEEN_S)
    assert second == [f"t{n}" for n in reversed(range(5))]


def test_what_waits_is_bounded_and_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_hints, "MAX_WAITING", 3)
    hints = PendingHints()
    for user, topic in (("ann", "a"), ("ann", "b"), ("bob", "a"), ("bob", "b"), ("eve", "a"), ("ann", "a")):
        hints.add(user, topic, 0)
    assert sorted(taken(hints, 0)) == [("ann", ["a", "b"]), ("bob", ["a"])]
    hints.add("eve", "a", 0)
    assert taken(hints, 0) == [("eve", ["a"])]


def test_a_user_of_very_many_topics_leaves_room_for_others_and_is_told_of_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pending_hints, "MAX_WAITING", 6)
    monkeypatch.setattr(pending_hints, "USER_TOPICS", 4)
    hints = PendingHints()
    for n in range(20):
        hints.add("ann", f"t{n}", 0)
    hints.add("ann", "t17", 0)
    hints.add("bob", "a", 0)
    hints.add("bob", "b", 0)
    assert sorted(taken(hints, 0)) == [("ann", ["t17", "t19", "t18", "t16"]), ("bob", ["b", "a"])]
    assert taken(hints, BETWEEN_S) == [] and not hints, "what was dropped is not counted"
    for n in range(6):
        hints.add(f"u{n}", "a", 0)
    assert len(taken(hints, 0)) == 6


@given(st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from("abcd"), st.floats(0, 0.4)), max_size=40))
def test_every_topic_is_told_once_after_it_moved_and_no_user_twice_in_a_second(
    steps: list[tuple[str, str, float]],
) -> None:
    hints, now = PendingHints(), 0.0
    last: dict[str, float] = {}
    open_topics: set[tuple[str, str]] = set()
    for user, topic, passed in [*steps, *[("ann", "", 0.3)] * 12]:
        now += passed
        if topic:
            hints.add(user, topic, now + passed)
            open_topics.add((user, topic))
        for told, topics in taken(hints, now):
            assert now - last.get(told, -9) >= BETWEEN_S - 1e-9
            last[told] = now
            assert topics and {(told, each) for each in topics} <= open_topics
            open_topics -= {(told, each) for each in topics}
    assert not open_topics and not hints
