"""What the runs of the service levels decide: when a send is due, which step of a churn holds, which sizes."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter

import pytest

from bench.crowd import Report
from bench.log_dirs import sizes_in
from bench.slo.crowds import Churned
from bench.slo.kills import Waits
from bench.slo.many_topics import sizes_at
from bench.slo.peak import Rate, best_of
from bench.slo.place import descendants, dues, open_loop
from bench.slo.writes import splits


def test_sends_are_due_one_part_after_the_other() -> None:
    assert dues((2, 2), (4, 0.5)) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.25]


async def test_a_slow_answer_does_not_hold_back_the_next_send() -> None:
    begun, gaps = time.time(), list[float]()

    async def send(n: int, due: float) -> None:
        gaps.append(due - begun)
        await until_over(begun + 0.3)

    async def until_over(at: float) -> None:
        while time.time() < at:
            await pause()

    took = await open_loop("test", dues((100, 0.1)), send)
    assert len(took) == len(gaps) == 10
    assert gaps == sorted(gaps)
    assert gaps[-1] < 0.25, "the last was due before the first had ended"
    assert took[0] > took[-1]  # all end at once, and each counts from when it was due


async def test_a_send_that_fails_ends_the_run() -> None:
    async def send(n: int, _: float) -> None:
        assert n != 3, "the fourth"

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await open_loop("test", dues((100, 0.1)), send)


async def test_an_answer_that_never_comes_ends_the_run() -> None:
    async def send(_: int, __: float) -> None:
        while True:
            await pause()

    with pytest.raises(TimeoutError):
        await open_loop("test", [0.0], send, grace_s=0.1)


async def pause() -> None:
    await asyncio.sleep(0.005)


def report(ms: int) -> Report:
    return Report([{"late": {str(ms): 100}, "last": {}, "faults": []}])


@pytest.mark.parametrize(
    ("subscribe", "message", "failed", "good"),
    [(99, 49, [], True), (100, 49, [], False), (99, 50, [], False), (99, 49, ["refused"], False)],
)
def test_a_step_of_the_churn_holds_when_both_limits_do_and_nobody_failed(
    subscribe: int, message: int, failed: list[str], good: bool
) -> None:
    assert Churned(10_000, Counter({subscribe: 100}), failed, report(message), 1.0).good is good


def test_a_step_without_a_connect_or_a_message_does_not_hold() -> None:
    assert not Churned(10_000, Counter(), [], report(1), 1.0).good
    assert not Churned(10_000, Counter({1: 1}), [], Report([]), 1.0).good


def rate(per_s: float, ms: int, last_s: float) -> Rate:
    late = Report([{"late": {str(ms): 100}, "last": {"1": last_s}, "faults": []}])
    return Rate(per_s, late, 100, 1.0, 1.0, 1.0)


def test_a_rate_is_fast_below_50_ms_and_holds_within_a_second() -> None:
    fast, slow, lost = rate(10, 49, 0.9), rate(20, 50, 0.9), rate(30, 49, 1.0)
    assert best_of([fast, slow, lost]) == (fast, slow)
    assert best_of([slow, lost]) == (slow, slow)
    assert best_of([lost]) is None
    assert best_of([fast._replace(refused=1)]) is None


def test_topics_are_measured_at_three_sizes_and_the_largest() -> None:
    assert sizes_at(1) == [1_000, 10_000, 100_000]
    assert sizes_at(10) == [1_000, 10_000, 100_000, 1_000_000]
    assert sizes_at(0.02) == [200, 2_000]


def test_bursts_are_told_apart() -> None:
    assert splits([1.0, 2.0, 3.0, 4.0], [0.0, 54.9, 55.0, 61.0], 60.0) == ([1.0, 2.0, 4.0], [3.0])


def test_a_wait_counts_to_the_last_reader_and_from_when_it_was_due() -> None:
    waits = Waits([], ["t"])
    waits.found = [(100.0, 0.2), (105.0, 3.0), (111.0, 9.0)]
    assert waits.longest(100.0, 110.0) == 3.0
    assert waits.longest(112.0, 120.0) == 0.0


def test_processes_of_this_one_are_found_and_others_are_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in descendants()
        assert os.getpid() not in descendants()
        assert os.getppid() not in descendants()
        child.communicate(b"\n")
    assert child.pid not in descendants()


def test_bytes_of_partitions_are_added_by_topic() -> None:
    def partition(number: int, size: int) -> bytes:
        return number.to_bytes(4) + size.to_bytes(8) + bytes(9)

    def topic(name: bytes, *sizes: int) -> bytes:
        parts = b"".join(partition(n, size) for n, size in enumerate(sizes))
        return len(name).to_bytes(2) + name + len(sizes).to_bytes(4) + parts

    folder = b"\0\0" + b"\0\4/tmp" + b"\0\0\0\2" + topic(b"a", 10, 1 << 40) + topic(b"b", 5)
    assert sizes_in(bytes(4) + b"\0\0\0\1" + folder) == {"a": 10 + (1 << 40), "b": 5}
    with pytest.raises(OSError, match="error 57 for /tmp"):
        sizes_in(bytes(4) + b"\0\0\0\1" + b"\0\x39" + b"\0\4/tmp" + bytes(4))
