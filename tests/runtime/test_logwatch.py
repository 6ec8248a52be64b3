"""The readiness check `log` on virtual time: it opens the log, notices silence, and reports it once a minute."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from structlog.testing import capture_logs

from headgate.core.wire.records import Bounds, LogName
from headgate.runtime.logging import REMIND_S
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.logwatch import ANSWER_S, CHECK_S, MISSES, SILENT_S, LogWatch
from headgate.runtime.ports import LogUnavailable
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.contract.virtual import SeededRng, VirtualLoop, run


def watched(scene: Callable[[FaultyLog, LogWatch], Awaitable[None]]) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log = FaultyLog(MemoryStore(loop, SeededRng(1), shards=4))
        watch = LogWatch(log, loop)
        task = asyncio.create_task(watch.run())
        await scene(log, watch)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    run(loop, main())


def test_it_is_not_ready_until_the_log_was_opened_and_tries_again_until_then() -> None:
    async def scene(log: FaultyLog, watch: LogWatch) -> None:
        assert watch.why() == "the log has not been reached yet"
        log.reach = Reach.REFUSED
        await asyncio.sleep(10)
        assert watch.why() == "memory: cannot be reached: memory: is unreachable"
        assert not watch.opened.is_set()
        log.reach = Reach.OK
        async with asyncio.timeout(2):
            await watch.opened.wait()
        assert watch.why() is None

    watched(scene)


def test_one_missed_answer_is_no_fault_two_are_and_an_answer_ends_it() -> None:
    async def scene(log: FaultyLog, watch: LogWatch) -> None:
        await asyncio.sleep(0)
        log.reach = Reach.REFUSED
        await asyncio.sleep(CHECK_S * (MISSES - 0.5))
        assert watch.why() is None
        await asyncio.sleep(CHECK_S)
        assert watch.why() == "memory: cannot be reached: memory: is unreachable"
        log.reach = Reach.OK
        await asyncio.sleep(CHECK_S + 0.1)
        assert watch.why() is None
        log.reach = Reach.REFUSED  # misses are counted anew
        await asyncio.sleep(CHECK_S)
        assert watch.why() is None

    watched(scene)


def test_it_is_silent_before_it_is_away() -> None:
    async def scene(log: FaultyLog, watch: LogWatch) -> None:
        assert watch.is_silent()
        for _ in range(20):
            await asyncio.sleep(CHECK_S / 4)
            assert not watch.is_silent()
        log.reach = Reach.REFUSED
        await asyncio.sleep(SILENT_S + 0.1)
        assert watch.is_silent()
        assert watch.why() is None
        log.reach = Reach.OK
        await asyncio.sleep(CHECK_S)
        assert not watch.is_silent()

    watched(scene)


def test_one_part_that_does_not_answer_is_not_the_log() -> None:
    async def scene(log: FaultyLog, watch: LogWatch) -> None:
        await asyncio.sleep(0)
        whole, asked = log.bounds, list[int]()

        async def bounds(name: LogName, shard: int) -> Bounds:
            asked.append(shard)
            if shard == 0:
                raise LogUnavailable("no leader")
            return await whole(name, shard)

        log.bounds = bounds  # type: ignore[assignment, method-assign]
        for _ in range(10):
            await asyncio.sleep(CHECK_S)
            assert watch.why() is None
        assert asked[:3] == [0, 1, 1]

    watched(scene)


def test_a_log_that_never_answers_counts_as_away() -> None:
    async def scene(log: FaultyLog, watch: LogWatch) -> None:
        await asyncio.sleep(0)
        log.bounds = lambda *_: asyncio.sleep(1_000)  # type: ignore[assignment, method-assign]  # a frozen broker
        await asyncio.sleep((CHECK_S + ANSWER_S) * MISSES + 0.1)
        assert watch.why() == "memory: cannot be reached: no answer"

    watched(scene)


def test_a_fault_that_lasts_is_logged_at_once_and_then_once_a_minute() -> None:
    async def scene(log: FaultyLog, _watch: LogWatch) -> None:
        log.reach = Reach.REFUSED
        with capture_logs() as lines:
            await asyncio.sleep(REMIND_S * 2.5)
        assert [line["event"] for line in lines] == ["the log cannot be reached"] * 3

    watched(scene)
