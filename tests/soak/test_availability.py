"""What was in time is counted for the right fault, and the sums of a month and the page are those of the counts."""

import math
from pathlib import Path

import msgspec
import pytest

from tests.soak import chaos_page
from tests.soak.availability import (
    ALLOWED_S,
    MONTH_S,
    NONE,
    SETTLE_S,
    TWO,
    Cost,
    Episode,
    Share,
    Timeline,
    Timely,
    month_of,
    nines,
)
from tests.soak.chaos_page import ASSUMED, Run, page
from tests.soak.faults import count_by_state
from tests.soak.states import ANOTHER, STATES, STEADY


def _timeline() -> Timeline:
    return Timeline(
        [
            Episode("broker killed", STEADY, 100.0, 110.0),
            Episode("sockets cut", STEADY, 114.0, 114.0),
            Episode("gateway killed", ANOTHER, 115.0, 120.0, is_second=True),
        ]
    )


@pytest.mark.parametrize(
    ("due", "account"),
    [
        (98.9, NONE),
        (99.0, "broker killed"),  # its deadline had not passed when the fault struck
        (110.5, "broker killed"),
        (113.5, "sockets cut"),
        (114.5, TWO),
        (120.0 + SETTLE_S, TWO),
        (120.1 + SETTLE_S, NONE),
    ],
)
def test_an_event_counts_for_the_last_fault_before_its_deadline(due: float, account: str) -> None:
    assert _timeline().account(due, 1.0) == account


def test_a_fault_that_lasts_when_another_strikes_is_one_of_two() -> None:
    timeline = Timeline(
        [Episode("broker killed", STEADY, 100.0, 110.0), Episode("gateway killed", ANOTHER, 105.0, 110.0, True)]
    )
    assert timeline.account(102.0, 1.0) == timeline.account(107.0, 1.0) == TWO
    assert set(timeline.costs(Timely(1.0), Timely(5.0), 90.0, 130.0)) == {NONE, TWO}


def test_a_fault_that_is_not_healed_has_no_end() -> None:
    assert Timeline([Episode("broker killed", STEADY, 0.0)]).account(1e6, 1.0) == "broker killed"


def test_events_are_in_time_up_to_their_deadline() -> None:
    events = Timely(1.0)
    events.add(10.25, 11.25)
    events.add(10.25, 11.375, 2)
    events.add(10.25, math.inf)
    assert (events.total, events.in_time[10], list(events.late)) == (4, 1, [10.25] * 3)


def test_a_fault_costs_the_share_of_what_was_late_times_the_length_of_its_window() -> None:
    timeline = Timeline([Episode("broker killed", STEADY, 100.0, 110.0)])
    publishes, deliveries = Timely(1.0), Timely(5.0)
    for second in range(80, 140):
        late = 104 <= second < 109
        publishes.add(second + 0.5, math.inf if late else second + 0.6, 100)
        deliveries.add(second + 0.5, second + 0.6, 100)
    costs = timeline.costs(publishes, deliveries, 80.0, 140.0)
    killed = costs["broker killed"]
    assert (killed.played, killed.publishes.late, killed.deliveries.late) == (1, 500, 0)
    assert killed.publishes.seconds == 10 + SETTLE_S + 1, "it includes the second whose deadline came after the strike"
    assert killed.lost_s == pytest.approx(5.0)
    assert killed.a_month == pytest.approx(ALLOWED_S / 5)
    assert costs[NONE].publishes.within == 1
    assert sum(cost.publishes.total for cost in costs.values()) == publishes.total


def test_two_runs_are_one_with_the_sums_of_both() -> None:
    one = Cost(1, Share(100, 50, 10.0), Share(100, 0, 10.0))
    both = one.plus(Cost(1, Share(100, 0, 10.0), Share(100, 0, 10.0)))
    assert one.lost_s == pytest.approx(5.0)
    assert both.lost_s == pytest.approx(2.5)


def test_a_month_is_the_sum_over_its_faults() -> None:
    costs = {"broker killed": Cost(2, Share(100, 50, 40.0), Share()), NONE: Cost(0, Share(9, 9, 9.0), Share())}
    lost, available = month_of(costs, {"broker killed": 3, "gateway killed": 7})
    assert lost == {"broker killed": pytest.approx(30.0)}
    assert available == pytest.approx(1 - 30.0 / MONTH_S)
    assert nines(0.999) == pytest.approx(3.0)
    assert math.isinf(nines(1.0))


def test_faults_are_counted_by_state() -> None:
    episodes = [Episode("a", STEADY, 1.0), Episode("a", STEADY, 2.0), Episode("a", ANOTHER, 3.0, is_second=True)]
    assert count_by_state(episodes) == {"a": {STEADY: 2, ANOTHER: 1}}


def _run(seed: int, **changes: object) -> Run:
    costs = {"broker killed": Cost(1, Share(1_000, 100, 20.0), Share(5_000, 0, 25.0)), NONE: Cost(0, Share(), Share())}
    states = {"broker killed": {STEADY: 1}}
    run = Run(seed, 3.0, "2 cores", "2026-11-27", 900, 30_000, 60_000, 12, {"lost": 0}, states, costs, [], True)
    return msgspec.structs.replace(run, **changes)


def test_a_run_replaces_the_one_of_the_same_seed_and_no_other(tmp_path: Path) -> None:
    for run in (_run(7, minutes=30.0), _run(8), _run(7, acked=44_444, verdict={"lost": 3}, kept=False)):
        chaos_page.keep(run, tmp_path)
    text = (tmp_path / "chaos.md").read_text("utf-8")
    assert "| 900 | 44,444 | 60,000 | 12 | 3 | 0 | 0 | 0 | 0 | 0 | **no** |" in text
    assert text.count("| `make chaos SEED=7 MINUTES=3` |") == text.count("| `make chaos SEED=8 MINUTES=3` |") == 1
    assert "MINUTES=30`" not in text.partition("|")[2]
    zeros = "|  " * (len(STATES) - 1)
    assert f"| broker killed | 2 {zeros}| 2 |" in text, "both runs together"


def test_the_page_says_when_the_machine_was_too_slow() -> None:
    run = _run(7)
    assert "could not carry" not in page([run])
    late = run.costs | {NONE: Cost(0, Share(1_000, 2, 60.0), Share(1_000, 0, 60.0))}
    assert "could not carry" in page([_run(7, costs=late)])


def test_the_page_has_the_sums() -> None:
    text = page([_run(7, left_out=["slow disks"])])
    assert "| broker killed | 1 | 20 s each | 1,000 | 90.0000 % | 5,000 | 100 % | 2.00 s | 657 |" in text
    assert f"| broker killed | {ASSUMED['broker killed']} | 2.00 s | 4.0 s |" in text
    assert "1 - 4 s / 2,628,000 s = **99.9998 %**: 5.8 nines" in text
    assert "Not played, and not in the sum: broker cut off from all," in text
    assert "left out slow disks" in text
    assert _run(7, rate=50.0).command == "make chaos SEED=7 MINUTES=3 RATE=50"
