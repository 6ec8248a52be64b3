"""The subscriber's circuit breaker: opens, half-opens, closes, and its table refuses the rest."""

import pytest

from headgate.core.delivery.breaker import BREAKER_TRANSITIONS, Breaker, BreakerPolicy, BreakerState
from headgate.core.wire.errors import IllegalTransition


def tripped() -> Breaker:
    breaker = Breaker(BreakerPolicy(failures=2, open_s=10.0))
    assert breaker.record(False, 0.0, 1.0) is None
    assert breaker.record(False, 0.0, 2.0) == 12.0
    return breaker


def test_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(BreakerPolicy(failures=2))
    for ok in (False, True, False, True):
        assert breaker.record(ok, 0.0, 0.0) is None
        assert breaker.allows
    tripped_one = tripped()
    assert tripped_one.state is BreakerState.OPEN
    assert not tripped_one.allows


def test_half_open_closes_on_success_and_opens_again_on_failure() -> None:
    breaker = tripped()
    breaker.probe()
    assert (breaker.state, breaker.allows) == (BreakerState.HALF_OPEN, True)
    assert breaker.record(False, 0.0, 12.0) == 22.0
    assert breaker.state is BreakerState.OPEN
    breaker.probe()
    assert breaker.record(True, 0.0, 22.0) is None
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)


def test_a_slow_success_counts_as_a_failure() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, open_s=5.0, slow_s=1.0))
    assert breaker.record(True, 1.0, 0.0) is None
    assert breaker.record(True, 1.001, 3.0) == 8.0


def test_a_try_from_before_it_opened_opens_nothing_twice() -> None:
    breaker = tripped()
    assert breaker.record(False, 0.0, 3.0) is None
    assert breaker.state is BreakerState.OPEN


def test_probe_is_legal_in_open_only_and_changes_nothing_elsewhere() -> None:
    breaker = Breaker(BreakerPolicy())
    with pytest.raises(IllegalTransition, match="closed"):
        breaker.probe()
    assert breaker.state is BreakerState.CLOSED


def test_every_state_can_be_left() -> None:
    assert {source for source, _ in BREAKER_TRANSITIONS} == set(BreakerState)


@pytest.mark.parametrize(("failures", "open_s"), [(0, 1.0), (1, 0.0)])
def test_nonsense_is_refused(failures: int, open_s: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        BreakerPolicy(failures, open_s)


def test_the_smallest_policy_opens_at_the_first_failure() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, open_s=0.5))
    assert breaker.record(False, 0.0, 1.0) == 1.5
