"""Work in steps: one after the other, and a fault of one stops no other."""

import asyncio
from collections.abc import Generator

import pytest

from dispatcher.sliced_work import SlicedWork
from headgate.core.wire.errors import Refusal
from tests.dispatcher.bed import until


def steps(log: list[str], name: str, count: int = 2) -> Generator[None, None, str]:
    for _ in range(count):
        log.append(name)
        yield
    return name


async def test_one_step_in_a_turn_and_the_result_at_the_end() -> None:
    work, log, ended = SlicedWork(), list[str](), list[str]()
    for name in "ab":
        work.begin(steps(log, name), ended.append, lambda refusal: None)
    assert log == []
    await asyncio.sleep(0)
    assert log == ["a"]
    await until(lambda: len(ended) == 2)
    assert sorted(log) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("where", ["step", "answer"])
async def test_a_fault_is_told_and_the_next_goes_on(where: str) -> None:
    work, failed, ended = SlicedWork(), list[str](), list[str]()

    def broken() -> Generator[None, None, str]:
        yield
        if where == "step":
            raise ValueError("planted")
        return "x"

    def answer(result: str) -> None:
        raise ValueError(f"planted {result}")

    def told(refusal: Refusal) -> None:
        failed.append(refusal.code)

    work.begin(broken(), answer, told)
    work.begin(steps([], "b"), ended.append, told)
    await until(lambda: ended)
    assert (failed, ended) == (["internal"], ["b"])
    work.begin(steps([], "c"), ended.append, told)
    await until(lambda: len(ended) == 2)
