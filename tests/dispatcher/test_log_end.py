"""A position above the head is `ahead` only when the log does not hold it: an owner may be behind the one before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher import log_end as module
from dispatcher.log_end import MAX_WAITING, LogEnd
from headgate.core.wire import link
from headgate.core.wire.position import Position
from headgate.core.wire.records import Bounds, LogName
from headgate.runtime.ports import LogUnavailable
from tests.dispatcher.test_waiting_for_history import ANN, EPOCH, HEAD, Far, Scene


class Ends:
    """A log of which only the end can be had; `away` counts the questions that fail before."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.away = 0

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        if self.away:
            self.away -= 1
            raise LogUnavailable("away")
        return Bounds(0, self.end)


@asynccontextmanager
async def asked(log: Ends, seq: int) -> AsyncIterator[Scene]:
    """A subscriber whose position is above the head of a shard that has applied up to HEAD + 2."""
    scene = Scene(51)
    scene.owner.log_end = LogEnd(log, 0, 0)  # type: ignore[arg-type]
    scene.owner.log_end.applied(HEAD + 2)
    task = asyncio.create_task(scene.owner.log_end.run())
    scene.api.handle(scene.far, link.AskSubscribe(1, "t", ANN, Position("seq", EPOCH, seq)))
    try:
        yield scene
    finally:
        task.cancel()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_position_above_the_head_of_an_owner_that_is_behind_waits_and_is_resumed() -> None:
    async with asked(Ends(HEAD + 12), HEAD + 5) as scene:
        await turns()
        assert scene.far.sent == [], "the log holds ten records more"
        scene.owner.rows[b"t"].seq = HEAD + 10
        scene.owner.log_end.applied(HEAD + 11)
        await turns()
        assert scene.far.sent == []
        scene.owner.log_end.applied(HEAD + 12)
        await turns()
        answer = scene.granted()
        assert answer is not None
        assert (answer.resumed, answer.reason, answer.cursor, answer.seq) == (True, None, HEAD + 5, HEAD + 10)


async def test_a_position_that_the_log_does_not_hold_is_ahead() -> None:
    async with asked(Ends(HEAD + 2), 500) as scene:
        await turns()
        answer = scene.granted()
        assert answer is not None
        assert (answer.resumed, answer.reason, answer.cursor) == (False, "ahead", HEAD)


async def test_a_log_that_is_away_makes_nobody_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    log = Ends(HEAD + 2)
    log.away = 2
    async with asked(log, 500) as scene:
        await turns()
        assert scene.far.sent == []
        async with asyncio.timeout(5):
            while not scene.far.sent:
                await asyncio.sleep(0.01)


async def test_an_owner_that_stays_behind_refuses_and_does_not_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APPLIED_S", 0.02)
    async with asked(Ends(HEAD + 12), 500) as scene:
        async with asyncio.timeout(5):
            while not scene.far.sent:
                await asyncio.sleep(0.01)
        answer = scene.far.answer()
        assert isinstance(answer, link.Refused)
        assert answer.code == "not_ready"


async def test_who_waits_for_the_end_is_bounded_and_a_closed_one_is_not_answered() -> None:
    end = LogEnd(Ends(5), 0, 0)  # type: ignore[arg-type]
    far = Far()
    took = [end.wait(far, lambda _: pytest.fail("closed")) for _ in range(MAX_WAITING + MAX_WAITING // 2)]
    assert took.count(True) == MAX_WAITING
    far.open = False
    end.applied(5)
    task = asyncio.create_task(end.run())
    async with asyncio.timeout(5):
        while not end.wait(Far(), lambda _: None):
            await asyncio.sleep(0)
    task.cancel()
