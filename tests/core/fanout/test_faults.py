"""Defects of single sessions: stopped, kept within a bound, and handed out once."""

import pytest

from headgate.core.fanout.faults import KEPT, Faults


def test_an_exception_is_stopped_and_kept_once() -> None:
    faults, error = Faults(), ValueError("planted")
    with faults:
        raise error
    assert faults.take() == ([error], 0)
    assert faults.take() == ([], 0)


def test_what_is_no_defect_passes() -> None:
    faults = Faults()
    with faults:
        pass
    with pytest.raises(KeyboardInterrupt), faults:
        raise KeyboardInterrupt
    assert faults.take() == ([], 0)


def test_above_the_bound_they_are_counted_only() -> None:
    faults = Faults()
    for number in range(KEPT + KEPT // 2):
        faults.note(ValueError(number))
    kept, more = faults.take()
    assert (len(kept), more) == (KEPT, KEPT // 2)
