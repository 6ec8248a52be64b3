"""The load of a dispatcher: what makes it rise, and when LOW messages are shed and taken again."""

import pytest

from headgate.core.sequencer.load import FULL_LAG_S, NORMAL_BELOW, SHED_ABOVE, Load

STEP_S = 0.1
ROOM = 1_000


def run(load: Load, seconds: float, lag_s: float = 0.0, queued: int = 0) -> list[bool]:
    """Samples as the meter does: each one comes late by the lag; returns `sheds` behind each."""
    found, passed = [], 0.0
    while passed < seconds - STEP_S / 2:
        load.sample(STEP_S + lag_s, lag_s, queued, ROOM)
        passed += STEP_S + lag_s
        found.append(load.sheds)
    return found


def test_at_rest_it_is_0() -> None:
    load = Load()
    assert run(load, 1) == [False] * 10 and load.value == 0


@pytest.mark.parametrize(("lag", "sheds"), [(0.7, False), (0.9, True), (40.0, True)])
def test_a_loop_that_is_late_all_the_time_is_load(lag: float, sheds: bool) -> None:
    load = Load()
    run(load, 5, lag * FULL_LAG_S)
    assert load.sheds is sheds
    assert load.value == pytest.approx(min(lag, 1.5), abs=0.01)


def test_one_pause_is_none() -> None:
    load = Load()
    run(load, 1)
    load.sample(STEP_S + 0.25, 0.25, 0, ROOM)
    assert not load.sheds and load.value < SHED_ABOVE


@pytest.mark.parametrize(("queued", "sheds"), [(800, False), (801, True), (3_000, True)])
def test_full_links_are_load_at_once(queued: int, sheds: bool) -> None:
    load = Load()
    load.sample(STEP_S, 0, queued, ROOM)
    assert (load.sheds, load.value) == (sheds, queued / ROOM)


def test_without_gateways_there_is_no_queue() -> None:
    load = Load()
    load.sample(STEP_S, 0, 0, 0)
    assert load.value == 0


@pytest.mark.parametrize("seconds", [1, 10, 100])
def test_it_is_back_to_normal_within_2_seconds_however_long_it_lasted(seconds: float) -> None:
    load = Load()
    assert run(load, seconds, 1.0)[-1]
    after = run(load, 2)
    assert after.index(False) * STEP_S <= 1, "a second to spare"
    assert not any(after[after.index(False) :])


def test_between_the_two_bounds_it_stays_as_it_is() -> None:
    load = Load()
    between = int((SHED_ABOVE + NORMAL_BELOW) / 2 * ROOM)
    assert run(load, 1, queued=between) == [False] * 10
    assert run(load, 0.1, queued=900) == [True]
    assert run(load, 1, queued=between) == [True] * 10
    assert run(load, 0.1, queued=int(NORMAL_BELOW * ROOM) - 1) == [False]
