"""headgate.runtime.appender over the memory log on virtual time."""

import asyncio
import itertools

import pytest

from headgate.core.wire.control import PROBE_KEY, Probe, decode_body
from headgate.core.wire.envelope import decode
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.appender import Appender
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import AppendUnknown, LogUnavailable
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.contract.virtual import SeededRng, VirtualLoop, run


async def messages(log: FaultyLog, shard: int) -> list[Record]:
    first = (await log.bounds(LogName.MESSAGES, shard)).first
    reader = await log.reader(LogName.MESSAGES, shard, first + 1)  # the config record stands before
    return list((await reader.read(1000, 0)).records)


async def rig(loop: VirtualLoop) -> tuple[FaultyLog, Appender]:
    log = FaultyLog(MemoryStore(loop, SeededRng(1)), lambda _log, _shard: 0.01)
    await log.open()
    return log, Appender(log, loop)


def test_an_append_ends_with_its_place() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log, appender = await rig(loop)
        appended = await appender.append(2, b"k", b"v")
        (record,) = await messages(log, 2)
        assert (record.offset, record.key, record.value) == (appended.offset, b"k", b"v")
        await appender.stop()

    run(loop, main())


def test_silence_is_unknown_after_six_seconds_and_refused_after_two() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log, appender = await rig(loop)
        log.reach = Reach.SILENT
        start = loop.time()
        unknown = appender.append(0, b"k", b"unknown")
        elsewhere = appender.append(1, b"k", b"elsewhere")
        await asyncio.sleep(1.9)
        assert appender.open_shards() == []
        await asyncio.sleep(0.3)
        assert appender.open_shards() == [0, 1]
        with pytest.raises(LogUnavailable, match="probed"):
            await appender.append(0, b"k", b"refused")
        assert loop.time() - start == pytest.approx(2.2)
        for future in (unknown, elsewhere):
            with pytest.raises(AppendUnknown):
                await future
        assert loop.time() - start < 6.2
        await appender.stop()

    run(loop, main())


class _AnsweringInTurns(FaultyLog):
    """A log whose answers come at once, and need so many turns of the loop until the future has them."""

    turns = 0

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._answering = asyncio.ensure_future(self._answer(future))
        return future

    async def _answer(self, future: "asyncio.Future[Appended]") -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        future.set_result(Appended(1, 1))


@pytest.mark.parametrize(("turns_s", "turns"), [([3.0], 3), ([0.5] * 9, 9)])
def test_while_the_own_loop_is_late_the_log_is_not_silent(turns_s: list[float], turns: int) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log = _AnsweringInTurns(MemoryStore(loop, SeededRng(1)))
        log.turns = turns
        await log.open()
        appender = Appender(log, loop)
        future = appender.append(0, b"k", b"v")
        for turn_s in turns_s:  # so long the loop is held up
            loop.virtual.now += turn_s
            await asyncio.sleep(0)
        assert (await future).offset == 1 and appender.open_shards() == []
        await appender.stop()

    run(loop, main())


def test_a_silent_log_is_noticed_two_seconds_after_the_loop_was_held_up() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log, appender = await rig(loop)
        log.reach = Reach.SILENT
        unknown = appender.append(0, b"k", b"v")
        loop.virtual.now += 3
        during = appender.append(0, b"k", b"w")
        await asyncio.sleep(1.8)
        assert appender.open_shards() == []
        await asyncio.sleep(0.4)
        assert appender.open_shards() == [0]
        for future, ended in ((unknown, 1006), (during, 1009)):
            with pytest.raises(AppendUnknown):
                await future
            assert loop.time() == pytest.approx(ended, abs=0.2)
        await appender.stop()

    run(loop, main())


def test_the_circuit_of_one_shard_leaves_the_others_alone() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        store = MemoryStore(loop, SeededRng(1))
        log = FaultyLog(store, lambda _log, shard: 100.0 if shard == 0 else 0.01)
        await log.open()
        appender = Appender(log, loop)
        stuck = appender.append(0, b"k", b"v")
        await asyncio.sleep(3)
        assert appender.open_shards() == [0]
        await appender.append(1, b"k", b"v")
        with pytest.raises(AppendUnknown):
            await stuck
        log.crash()
        await appender.stop()

    run(loop, main())


def test_probes_once_a_second_close_it_and_nothing_refused_appears() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log, appender = await rig(loop)
        log.reach = Reach.SILENT
        with pytest.raises(AppendUnknown):
            await appender.append(0, b"k", b"lost")
        await asyncio.sleep(10)
        with pytest.raises(LogUnavailable):
            await appender.append(0, b"k", b"refused")
        log.reach = Reach.OK
        back = loop.time()
        while appender.open_shards():
            await asyncio.sleep(0.05)
        assert loop.time() - back < 8, "a probe under way may take 6 s to fail, the next closes"
        await appender.append(0, b"k", b"after")
        records = await messages(log, 0)
        assert [record.value for record in records if record.key != PROBE_KEY] == [b"after"]
        probes = [record for record in records if record.key == PROBE_KEY]
        assert len(probes) == 1
        assert decode_body(decode(probes[0].value or b"").body) == Probe()
        await appender.stop()

    run(loop, main())


def test_refused_probes_are_one_a_second() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log, appender = await rig(loop)
        log.reach = Reach.SILENT
        with pytest.raises(AppendUnknown):
            await appender.append(0, b"k", b"lost")
        log.reach = Reach.REFUSED
        asked: list[float] = []
        original = log.append

        def spy(*args: object) -> object:
            asked.append(loop.time())
            return original(*args)  # type: ignore[arg-type]  # passes on what it was given

        log.append = spy  # type: ignore[assignment,method-assign]  # a spy
        await asyncio.sleep(10)
        gaps = [b - a for a, b in itertools.pairwise(asked)]
        assert len(asked) >= 3
        assert all(gap >= 1.0 for gap in gaps)
        await appender.stop()

    run(loop, main())


def test_stop_refuses_waits_for_what_is_outstanding_and_leaves_no_timer() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        _, appender = await rig(loop)
        future = appender.append(0, b"k", b"v")
        stopping = asyncio.ensure_future(appender.stop())
        await asyncio.sleep(0)
        with pytest.raises(LogUnavailable, match="stopping"):
            await appender.append(0, b"k", b"late")
        await stopping
        assert future.result().offset > 0

    run(loop, main())


def test_a_cancelled_append_counts_as_answered() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        log, appender = await rig(loop)
        log.reach = Reach.SILENT
        appender.append(0, b"k", b"v").cancel()
        await asyncio.sleep(5)
        assert appender.open_shards() == []
        await appender.stop()

    run(loop, main())
