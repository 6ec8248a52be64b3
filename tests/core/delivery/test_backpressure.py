"""The verdict on a publish, for each policy, at each edge of the bounds."""

import pytest

from headgate.core.delivery.backpressure import Admittance, Backpressure, OnFull


@pytest.mark.parametrize("on_full", list(OnFull))
def test_there_is_room(on_full: OnFull) -> None:
    assert Backpressure(on_full, max_queue_size=10).admit(9, 0) is Admittance.ADMIT


@pytest.mark.parametrize(
    ("on_full", "verdict"),
    [
        (OnFull.REJECT, Admittance.REJECT),
        (OnFull.DROP_OLDEST, Admittance.EVICT),
        (OnFull.BLOCK, Admittance.WAIT),
        (OnFull.OVERFLOW, Admittance.SPILL),
    ],
)
def test_s2_bp_2_full(on_full: OnFull, verdict: Admittance) -> None:
    assert Backpressure(on_full, max_queue_size=10).admit(10, 0) is verdict
    assert Backpressure().on_full is OnFull.REJECT


def test_the_overflow_queue_is_bounded_too() -> None:
    pressure = Backpressure(OnFull.OVERFLOW, max_queue_size=10, overflow_size=5)
    assert pressure.admit(10, 4) is Admittance.SPILL
    assert pressure.admit(10, 5) is Admittance.REJECT


def test_nobody_overtakes_the_overflow_queue() -> None:
    assert Backpressure(OnFull.OVERFLOW, max_queue_size=10).admit(9, 1) is Admittance.SPILL


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0)])
def test_nonsense_is_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Backpressure(OnFull.REJECT, *sizes)


def test_the_smallest_sizes_are_taken() -> None:
    pressure = Backpressure(OnFull.OVERFLOW, max_queue_size=1, overflow_size=1)
    assert [pressure.admit(*sizes) for sizes in ((0, 0), (1, 0), (1, 1))] == [
        Admittance.ADMIT,
        Admittance.SPILL,
        Admittance.REJECT,
    ]
