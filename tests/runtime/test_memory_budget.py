"""headgate.runtime.http.memory_budget: what requests hold is bounded for all and for each user, and given back."""

import pytest

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.memory_budget import REQUEST_BYTES, MemoryBudget

FREE = 1_000


def test_a_share_is_given_back_at_the_end_also_after_an_error() -> None:
    budget = MemoryBudget()
    with pytest.raises(RuntimeError), budget.share() as share:
        share.open("ana", 10)
        assert (budget.size, budget.by_user) == (REQUEST_BYTES + 10, {"ana": REQUEST_BYTES + 10})
        raise RuntimeError
    assert (budget.size, budget.by_user, share.size) == (0, {}, 0)


def test_only_bytes_that_were_not_announced_are_added() -> None:
    budget = MemoryBudget()
    with budget.share() as share:
        share.open("ana", 10)
        share.hold(10)
        assert share.size == REQUEST_BYTES + 10
        share.hold(15)
        assert share.size == budget.size == REQUEST_BYTES + 15


def test_one_user_at_his_bound_refuses_no_other() -> None:
    budget = MemoryBudget(10 * REQUEST_BYTES, REQUEST_BYTES + FREE)
    with budget.share() as ana, budget.share() as again, budget.share() as bo:
        ana.open("ana", FREE)
        with pytest.raises(Refusal, match="your requests") as refused:
            again.open("ana", 0)
        assert refused.value.code == "overloaded"
        bo.open("bo", FREE)
        assert budget.size == 2 * (REQUEST_BYTES + FREE)


def test_all_together_are_bounded_and_a_refusal_adds_nothing() -> None:
    budget = MemoryBudget(REQUEST_BYTES + FREE, 10 * REQUEST_BYTES)
    with budget.share() as ana:
        ana.open("ana", FREE)
        with budget.share() as bo, pytest.raises(Refusal, match="too many requests"):
            bo.open("bo", 0)
        assert (budget.size, budget.by_user) == (ana.size, {"ana": ana.size})


@pytest.mark.parametrize(
    "bounds", [(10 * REQUEST_BYTES, REQUEST_BYTES + FREE), (REQUEST_BYTES + FREE, 10 * REQUEST_BYTES)]
)
def test_a_request_that_is_above_a_bound_alone_is_too_large(bounds: tuple[int, int]) -> None:
    budget = MemoryBudget(*bounds)
    with budget.share() as ana:
        ana.open("ana", FREE)
        with pytest.raises(Refusal, match=f"above {min(bounds)} bytes") as refused:
            ana.grow(1)
        assert refused.value.code == "too_large" and ana.size == budget.size == REQUEST_BYTES + FREE


def test_room_is_required_and_not_taken_and_never_more_than_half_of_the_bound() -> None:
    budget = MemoryBudget(max_user_bytes=4 * REQUEST_BYTES)
    with budget.share() as ana, budget.share() as other:
        ana.open("ana", 0)
        ana.require_room(100 * REQUEST_BYTES)
        assert budget.size == REQUEST_BYTES
        other.open("ana", 1)
        with pytest.raises(Refusal, match="overloaded"):
            ana.require_room(100 * REQUEST_BYTES)
        ana.require_room(REQUEST_BYTES)
