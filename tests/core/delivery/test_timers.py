"""The timer heap: order, cancelling, and that cancelled timers do not pile up."""

from hypothesis import given
from hypothesis import strategies as st

from headgate.core.delivery.timers import Timer, Timers


def drain(timers: Timers[str], now: float) -> list[str]:
    found = []
    while (what := timers.pop(now)) is not None:
        found.append(what)
    return found


def test_in_order_of_time_and_then_of_making() -> None:
    timers: Timers[str] = Timers()
    for due, what in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b"), (3.0, "e")):
        timers.at(due, what)
    assert timers.next_due() == 1.0
    assert drain(timers, 0.999) == []
    assert drain(timers, 2.0) == ["a", "b", "c", "d"]
    assert (timers.next_due(), len(timers)) == (3.0, 1)


def test_a_cancelled_timer_does_not_fire_and_may_be_cancelled_again() -> None:
    timers: Timers[str] = Timers()
    gone = timers.at(1.0, "gone")
    timers.at(2.0, "stays")
    timers.cancel(gone)
    timers.cancel(gone)
    assert (len(timers), timers.next_due()) == (1, 2.0)
    assert drain(timers, 5.0) == ["stays"]


def test_cancelling_one_that_has_fired_changes_nothing() -> None:
    timers: Timers[str] = Timers()
    fired = timers.at(1.0, "x")
    assert timers.pop(1.0) == "x"
    timers.cancel(fired)
    timers.at(2.0, "y")
    assert len(timers) == 1


def test_a_timer_knows_its_time_and_whether_it_will_fire() -> None:
    timers: Timers[str] = Timers()
    fires, cancelled = timers.at(1.0, "fires"), timers.at(2.0, "cancelled")
    assert [(timer.due, timer.live) for timer in (fires, cancelled)] == [(1.0, True), (2.0, True)]
    timers.cancel(cancelled)
    timers.pop(1.0)
    assert [fires.live, cancelled.live] == [False, False]


def test_without_a_timer_nothing_is_due() -> None:
    timers: Timers[str] = Timers()
    assert (timers.next_due(), timers.pop(1e9), len(timers)) == (None, None, 0)


def test_the_heap_is_rebuilt_when_more_than_64_and_more_than_half_are_cancelled() -> None:
    timers: Timers[str] = Timers()
    made = [timers.at(float(n), "x") for n in range(132)]
    for timer in made[66:]:
        timers.cancel(timer)
    assert (len(timers._heap), len(timers)) == (132, 66), "66 of 132: not more than half"
    timers.cancel(made[65])
    assert (len(timers._heap), len(timers)) == (65, 65), "67 of 132"
    few: Timers[str] = Timers()
    for timer in [few.at(float(n), "x") for n in range(64)]:
        few.cancel(timer)
    assert len(few._heap) == 64, "64 are few"
    few.cancel(few.at(64.0, "x"))
    assert (len(few._heap), len(few)) == (0, 0)


def test_cancelled_timers_that_come_up_are_dropped_and_the_count_stays_right() -> None:
    timers: Timers[str] = Timers()
    made = [timers.at(float(n), f"{n}") for n in range(5)]
    for timer in made[:3]:
        timers.cancel(timer)
    assert (timers.next_due(), len(timers)) == (3.0, 2)
    timers.cancel(made[3])
    assert (drain(timers, 9.0), len(timers)) == (["4"], 0)


def test_cancelled_timers_are_bounded_by_the_live_ones() -> None:
    timers: Timers[str] = Timers()
    timers.at(0.5, "first")
    for n in range(10_000):
        timers.cancel(timers.at(1.0 + n, "x"))
    assert len(timers._heap) < 200
    assert drain(timers, 1e9) == ["first"]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60))
def test_against_a_sorted_list(given_timers: list[tuple[int, bool]]) -> None:
    timers: Timers[str] = Timers()
    made: list[tuple[Timer[str], bool]] = []
    for index, (due, keep) in enumerate(given_timers):
        made.append((timers.at(float(due), f"{due}/{index:03}"), keep))
    for timer, keep in made:
        if not keep:
            timers.cancel(timer)
    expected = sorted(timer.item for timer, keep in made if keep)
    assert len(timers) == len(expected)
    assert drain(timers, 9.0) == expected
