"""Kept verdicts and who waits for them: bounded in messages, whatever their records hold."""

import time
import tracemalloc
from collections.abc import Sequence

import pytest

from headgate.core.sequencer import recent_verdicts as module
from headgate.core.sequencer.recent_verdicts import KEPT_MESSAGES, RecentVerdicts
from headgate.core.wire.verdict import Code, Verdict

ONE = [Verdict(Code.ACCEPTED, 1, 9)]
MIXED = [
    Verdict(Code.ACCEPTED, 7, 9),
    Verdict(Code.ACCEPTED, 8, 9),
    Verdict(Code.DUPLICATE, 8, 9),
    Verdict(Code.DUPLICATE, 8, 9),
    Verdict(Code.ACCEPTED, 9, 9),
    Verdict(Code.NO_TOPIC),
]


def accepted(first: int, count: int) -> list[Verdict]:
    return [Verdict(Code.ACCEPTED, seq, 1 << 44) for seq in range(first, first + count)]


def test_a_waiter_is_called_once_and_only_at_release() -> None:
    verdicts, called = RecentVerdicts(), list[Sequence[Verdict]]()
    verdicts.wait(5, "link", called.append)
    verdicts.put(4, ONE)
    verdicts.put(5, ONE)
    assert called == []
    verdicts.release()
    verdicts.release()
    assert called == [ONE]


def test_what_was_decided_comes_back_whatever_it_was() -> None:
    verdicts = RecentVerdicts()
    given = [
        [Verdict(Code.ACCEPTED, 1, 1)],
        *(ONE, MIXED, accepted(10, 1_000), [Verdict(Code.CREATED, 0, (1 << 64) - 1)]),
        *([Verdict(Code.DUPLICATE, 0, 9)] * 3, [Verdict(Code.DUPLICATE, seq, 9) for seq in (3, 9, 3)]),
        [Verdict(Code.ACCEPTED, seq, 9) for seq in (3, 9, 10)],
    ]
    for place, decided in enumerate(given):
        verdicts.put(10 + 2 * place, decided)  # a transaction's marker leaves a gap
    assert [verdicts.get(10 + 2 * place) for place in range(len(given))] == given
    assert [verdicts.get(offset) for offset in (9, 11, 10 + 2 * len(given))] == [None, None, None]


def test_a_bundle_whose_messages_were_all_accepted_is_one_run() -> None:
    verdicts = RecentVerdicts()
    verdicts.put(1, accepted(1, 1_000))
    (block,) = verdicts._blocks
    assert len(block._codes) == 1


@pytest.mark.parametrize("bundle", [1, 3, 1_000])
def test_only_the_newest_messages_are_kept_and_never_fewer(bundle: int) -> None:
    verdicts = RecentVerdicts(kept=10_000)
    records = 40_000 // bundle
    for offset in range(records):
        verdicts.put(offset, accepted(1 + offset * bundle, bundle))
        if offset >= 9_999 and bundle == 1:
            assert verdicts.get(offset - 9_999) is not None
    kept = [offset for offset in range(records) if verdicts.get(offset) is not None]
    assert kept == list(range(kept[0], records)), "the newest, without a hole"
    assert 10_000 <= len(kept) * bundle <= 10_000 + 2 * module.BLOCK_MESSAGES + bundle


@pytest.mark.parametrize(("bundle", "most"), [(1, 5_000_000), (1_000, 200_000)])
def test_memory_at_the_bound_is_small(bundle: int, most: int) -> None:
    verdicts, decided = RecentVerdicts(), accepted(1, bundle)
    tracemalloc.start()
    for offset in range(3 * KEPT_MESSAGES // bundle):
        verdicts.put(offset, decided)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < most


def test_a_put_costs_no_more_at_the_bound_than_below_it() -> None:
    verdicts = RecentVerdicts()

    def cost(first: int) -> float:
        started = time.thread_time()
        for offset in range(first, first + 50_000):
            verdicts.put(offset, ONE)
        return time.thread_time() - started

    below = cost(0)
    for first in range(50_000, 150_000, 50_000):
        cost(first)
    assert cost(150_000) < 3 * below


def test_the_waiters_of_a_holder_that_is_gone_are_released() -> None:
    verdicts, called = RecentVerdicts(), list[object]()
    for holder in ("gone", "here"):
        verdicts.wait(1, holder, lambda _, holder=holder: called.append(holder))  # type: ignore[misc]
        verdicts.wait(2, holder, lambda _, holder=holder: called.append(holder))  # type: ignore[misc]
    verdicts.put(1, ONE)
    verdicts.forget("gone")
    verdicts.put(2, ONE)
    verdicts.release()
    assert called == ["here", "here"]


def test_waiters_are_bounded_and_those_that_ended_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITERS", 3)
    verdicts = RecentVerdicts()
    assert [verdicts.wait(offset, "a", lambda _: None) for offset in range(4)] == [True, True, True, False]
    verdicts.put(0, ONE)
    verdicts.release()
    assert verdicts.wait(4, "b", lambda _: None)
    assert not verdicts.wait(5, "b", lambda _: None)
    verdicts.forget("a")
    assert verdicts.wait(5, "b", lambda _: None)
