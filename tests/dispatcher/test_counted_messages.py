"""Counted messages of a shard: from the push to the answer, over gateways that tell, stay silent or go."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dispatcher import counted_messages as module
from dispatcher.counted_messages import CountedMessages
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_deliveries import COUNTED_S, MAX_MESSAGES, NOT_COUNTED, CountWritten, Written
from tests.contract.virtual import VirtualLoop, run
from tests.dispatcher.members_bed import Far

ID = bytes(16)


class Bed:
    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.counted = CountedMessages(loop.now)
        self.answers: list[int] = []

    def expect(self, *ids: bytes) -> None:
        self.counted.expect("t", 5, list(ids or (ID,)))

    def push(self, *gateways: Far, message_id: bytes = ID, seq: int = 7) -> int:
        """Pushes a message; returns the number the gateways were asked under."""
        self.counted.pushed(5, message_id, seq, gateways)
        asked = [message for gateway in gateways for message in gateway.taken()]
        numbers = {message.watch for message in asked if isinstance(message, CountWritten)}
        assert len(numbers) <= 1
        return numbers.pop() if numbers else 0

    def tell(self, gateway: Far, watch: int, count: int, done: bool = True) -> None:
        self.counted.written(gateway, Written("t", watch, count, done))

    def ask(self, wait_s: float = 1.0, message_id: bytes = ID) -> None:
        self.counted.ask(5, message_id, wait_s, self.answers.append)


def played(scene: Callable[[Bed], Awaitable[None]]) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        await scene(Bed(loop))

    run(VirtualLoop(), main())


def test_the_count_is_the_sum_once_every_gateway_is_done() -> None:
    async def scene(bed: Bed) -> None:
        one, two = Far(), Far()
        bed.expect()
        bed.counted.pushed(5, ID, 7, [one, two])
        assert one.sent == two.sent == [CountWritten("t", 5, 7, 1)]
        bed.ask()
        bed.tell(one, 1, 3)
        bed.tell(two, 1, 1, done=False)
        assert bed.answers == []
        bed.tell(two, 1, 2)
        assert bed.answers == [5]
        bed.ask()
        assert bed.answers == [5, 5], "it is known: at once"

    played(scene)


def test_where_one_gateway_counts_too_many_already_nobody_can_say() -> None:
    async def scene(bed: Bed) -> None:
        one, two = Far(), Far()
        bed.expect()
        watch = bed.push(one, two)
        bed.ask()
        bed.tell(one, watch, NOT_COUNTED)
        bed.tell(two, watch, 2)
        assert bed.answers == [NOT_COUNTED]

    played(scene)


def test_where_nobody_is_there_it_is_0_at_once() -> None:
    async def scene(bed: Bed) -> None:
        bed.expect()
        bed.push()
        bed.ask(10)
        assert bed.answers == [0]

    played(scene)


@pytest.mark.parametrize("wait_s", [0.0, 0.3, 10.0])
def test_it_is_the_count_so_far_when_the_time_since_the_push_is_over(wait_s: float) -> None:
    async def scene(bed: Bed) -> None:
        gateway = Far()
        bed.expect()
        watch = bed.push(gateway)
        bed.tell(gateway, watch, 4, done=False)
        begun = bed.loop.now()
        await asyncio.sleep(0.1)
        bed.ask(wait_s)
        while not bed.answers:
            await asyncio.sleep(0.01)
        assert bed.answers == [4]
        assert bed.loop.now() - begun == pytest.approx(max(wait_s, 0.1), abs=0.02)
        bed.tell(gateway, watch, 5)
        assert bed.answers == [4], "each question has one answer"

    played(scene)


def test_a_gateway_that_goes_leaves_its_count() -> None:
    async def scene(bed: Bed) -> None:
        one, two = Far(), Far()
        bed.expect()
        watch = bed.push(one, two)
        bed.tell(one, watch, 4, done=False)
        bed.ask()
        bed.tell(two, watch, 1)
        bed.counted.left(one)
        assert bed.answers == [5]

    played(scene)


def test_a_gateway_that_cannot_count_is_not_waited_for() -> None:
    async def scene(bed: Bed) -> None:
        old, new = Far(version=1), Far()
        bed.expect()
        bed.counted.pushed(5, ID, 7, [old, new])
        assert (old.sent, len(new.sent)) == ([], 1)
        bed.tell(new, 1, 2)
        bed.ask()
        assert bed.answers == [2]

    played(scene)


def test_what_was_not_expected_or_not_pushed_is_not_known() -> None:
    async def scene(bed: Bed) -> None:
        gateway = Far()
        assert not bed.counted
        bed.push(gateway)
        bed.ask()
        bed.expect()
        assert bed.counted
        bed.ask()
        assert bed.answers == [-1, -1]

    played(scene)


def test_a_message_is_counted_from_its_first_push_only() -> None:
    async def scene(bed: Bed) -> None:
        gateway = Far()
        bed.expect()
        assert bed.push(gateway) == 1
        assert bed.push(gateway) == 0

    played(scene)


def test_what_strangers_tell_is_ignored() -> None:
    async def scene(bed: Bed) -> None:
        gateway = Far()
        bed.expect()
        watch = bed.push(gateway)
        bed.tell(Far(), watch, 9)
        bed.counted.written(gateway, Written("other", watch, 9, True))
        bed.tell(gateway, watch + 1, 9)
        bed.tell(gateway, watch, 1)
        bed.tell(gateway, watch, 8)
        bed.ask()
        assert bed.answers == [1]

    played(scene)


def test_a_message_is_kept_while_one_of_its_publishers_waits() -> None:
    async def scene(bed: Bed) -> None:
        gateway = Far()
        bed.expect()
        bed.expect()
        watch = bed.push(gateway)
        bed.ask()
        bed.counted.forget(5, [ID, b"unknown"])
        assert (bed.answers, len(bed.counted)) == ([], 1)
        bed.tell(gateway, watch, 2, done=False)
        bed.counted.forget(5, [ID])
        assert (bed.answers, len(bed.counted)) == ([2], 0)

    played(scene)


def test_an_ingest_that_died_leaves_nothing_behind() -> None:
    async def scene(bed: Bed) -> None:
        bed.expect()
        bed.push(Far())
        await asyncio.sleep(COUNTED_S - 1)
        assert len(bed.counted) == 1
        await asyncio.sleep(2)
        assert not bed.counted and bed.counted._by_watch == {}

    played(scene)


def test_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(bed: Bed) -> None:
        monkeypatch.setattr(module, "MAX_COUNTED", 3)
        bed.expect(b"1", b"2")
        with pytest.raises(Refusal, match="overloaded"):
            bed.expect(b"3", b"4")
        bed.expect(b"3")
        monkeypatch.setattr(module, "MAX_COUNTED", 10_000)
        with pytest.raises(Refusal, match="overloaded"):
            bed.expect(*(b"%d" % n for n in range(MAX_MESSAGES + 1)))
        assert len(bed.counted) == 3

    played(scene)
