"""The soak's checks fail on planted faults: a check that was never seen to fail proves nothing."""

import pytest

from tests.soak.availability import DELIVERY_S
from tests.soak.figures import Sample, judge
from tests.soak.subject import Findings, Reading, Subject


def _reading(settled: int = 10) -> tuple[Subject, Reading, Findings]:
    found = Findings()
    subject = Subject("t", count=settled, settled=settled)
    return subject, Reading("r", subject, found), found


def _take(reading: Reading, *numbers: int, life: int = 1) -> None:
    for number in numbers:
        reading.take(life, number)


def test_a_whole_stream_is_no_finding() -> None:
    _, reading, found = _reading()
    _take(reading, *range(4, 11))  # live from 4 on
    assert not found.counts and reading.is_done


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [((1, 2, 4), "lost"), ((1, 2, 2), "repeated"), ((1, 3, 2), "reordered"), ((1, 3), "lost"), ((11,), "invented")],
)
def test_a_hole_a_repeat_and_an_invention_are_found(numbers: tuple[int, ...], kind: str) -> None:
    _, reading, found = _reading()
    _take(reading, *numbers)
    assert found.counts[kind]


def test_what_has_no_outcome_may_be_missing_or_late_but_not_twice() -> None:
    subject, reading, found = _reading()
    subject.maybe = {(1, 2), (1, 3)}
    _take(reading, 1, 4, 3)
    assert not found.counts
    _take(reading, 3)
    assert found.counts == {"repeated": 1}


def test_a_reader_that_stops_before_the_end_is_not_done() -> None:
    subject, reading, _ = _reading()
    _take(reading, *range(1, 10))
    assert not reading.is_done
    subject.maybe = {(1, 10)}
    assert reading.is_done


def test_a_new_life_begins_at_1_and_an_old_one_never_comes_back() -> None:
    subject, reading, found = _reading()
    _take(reading, 1, 2)
    subject.recreated()
    subject.count = subject.settled = 2
    _take(reading, 1, 2, life=2)
    assert not found.counts and reading.is_done
    _take(reading, 3)
    assert found.counts == {"reordered": 1}
    _take(reading, 1, life=3)
    assert found.counts == {"reordered": 1, "invented": 1}, "there was no third life"
    subject, other, found = _reading()
    _take(other, 1)
    subject.recreated()
    subject.count = 2
    _take(other, 2, life=2)
    assert found.counts == {"lost": 1}, "what a reader missed of a new life"


def test_what_was_lost_and_comes_later_was_reordered() -> None:
    _, reading, found = _reading()
    _take(reading, 1, 4)
    assert found.counts == {"lost": 2}
    _take(reading, 3)
    assert +found.counts == {"lost": 1, "reordered": 1}
    _take(reading, 3)
    assert +found.counts == {"lost": 1, "reordered": 1, "repeated": 1}


def test_what_was_refused_is_not_missed_and_may_not_come() -> None:
    subject, reading, found = _reading()
    subject.refused = {(1, 2), (1, 10)}
    _take(reading, 1, *range(3, 10))
    assert not found.counts and reading.is_done
    _take(reading, 10)
    assert found.counts == {"refused and there": 1}


def test_another_content_is_an_invention() -> None:
    _, reading, found = _reading()
    reading.changed(1, 1)
    assert found.counts == {"invented": 1}


def test_what_never_comes_is_lost_and_late_at_the_end() -> None:
    subject, reading, found = _reading()
    subject.maybe = {(1, 9)}
    subject.acknowledge(range(1, 11), 0.0)
    _take(reading, *range(1, 8))
    reading.end()
    assert found.counts == {"lost": 2}
    assert len(found.deliveries.late) >= 2


def test_a_delivery_is_in_time_within_its_deadline_of_the_acknowledgement() -> None:
    now = 100.0
    found = Findings(lambda: now)
    subject = Subject("t", count=10, settled=10)
    reading = Reading("r", subject, found)
    subject.acknowledge([1, 2, 3], 100.0)
    _take(reading, 1)
    now = 100.0 + DELIVERY_S
    _take(reading, 2)
    assert not reading.is_late
    now += 0.1
    assert reading.is_late, "3 was acknowledged and has not come"
    _take(reading, 3, 4)
    assert not reading.is_late
    deliveries = found.deliveries
    assert (deliveries.total, list(deliveries.late)) == (4, [100.0]), "4 came before its acknowledgement"


def test_a_gap_is_a_finding() -> None:
    _, reading, found = _reading()
    reading.gap("retention")
    assert found.counts == {"gaps": 1}


def test_memory_is_flat_within_a_tenth_after_the_first_ten_minutes() -> None:
    def process(first: float, then: float, later: float) -> list[Sample]:
        return [
            Sample(at, first if at < 600 else then if at < 1_200 else later, at * 1_000) for at in range(0, 1_801, 2)
        ]

    assert judge(process(60, 100, 109))[1]
    assert not judge(process(60, 100, 112))[1]
    assert judge(process(60, 100, 112), 40)[1], "600,000 ids of 40 bytes"
    assert not judge(process(60, 100, 140), 40)[1]
