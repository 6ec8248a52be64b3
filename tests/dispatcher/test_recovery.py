"""A shard's life over a durable log: restart, cold index, drain, bounded memory, and what parks it."""

import asyncio
from pathlib import Path

import pytest

from dispatcher.dispatcher_options import DispatcherOptions, ShardOptions, SnapshotOptions
from dispatcher.folder import IndexFolder
from dispatcher.service import DispatcherService
from dispatcher.shard_runner import ShardRunner
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.control import CreateTopic, Probe, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, shard_of, topic_key
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.dispatcher.bed import owning, shell_of

CLOCK = SystemClock()
TOPIC = next(f"t{n}" for n in range(99) if shard_of(f"t{n}".encode(), 4) == 0)
KEY = topic_key(TOPIC)


async def a_log(**bounds: int) -> FaultyLog:
    log = FaultyLog(MemoryStore(CLOCK, SystemRng(), 4, bounds.get("memory_bytes", 1 << 28)))
    await log.open()
    return log


async def fill(log: Log, start: int, count: int, epoch: int, size: int = 10) -> None:
    tail = b'"message_id":"x","publisher_id":"p","payload":"' + b"x" * size + b'"}'
    items = [Item(keyed_id(KEY, "p", str(n)), KEYED, tail) for n in range(start, start + count)]
    await asyncio.gather(*(log.append(LogName.MESSAGES, 0, KEY, encode_message(i, epoch)) for i in items))


async def create(log: Log) -> int:
    control = CreateTopic(topic_id=TOPIC, name=TOPIC, permissions="PUBLIC", owner_id="ann")
    at = await log.append(LogName.MESSAGES, 0, KEY, encode_control(encode_body(control), 0, keyed_id(KEY, "ann", "1")))
    return (1 << 44) | at.offset


async def caught_up(runner: ShardRunner, seq: int) -> None:
    async with asyncio.timeout(20):
        while runner.owner is None or KEY not in runner.owner.rows or runner.owner.rows[KEY].seq < seq:
            await asyncio.sleep(0.005)
        while not runner.owner.history.complete:
            await asyncio.sleep(0.005)


async def test_a_drained_shard_comes_back_from_its_snapshot_and_reads_no_message_again(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, ShardOptions(tmp_path), final=True) as runner:
        await fill(log, 0, 500, epoch)
        await caught_up(runner, 500)
    async with owning(log, ShardOptions(tmp_path)) as runner:
        assert runner.owner is not None
        assert runner.owner.rows[KEY].seq == 500
        assert log.records_read["messages-background"] == 2  # the newest of the snapshot and of the index; no rebuild
        await fill(log, 499, 2, epoch)  # one repeat, one new
        await caught_up(runner, 501)
        assert len(runner.owner.history.span(epoch, 1, 1_000, 1 << 20).frames) == 501


async def test_a_lost_index_is_rebuilt_behind_live_delivery(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, ShardOptions(tmp_path), final=True) as runner:
        await fill(log, 0, 3_000, epoch)
        await caught_up(runner, 3_000)
    for file in tmp_path.iterdir():
        file.unlink()
    async with owning(log, ShardOptions(tmp_path)) as runner:
        await caught_up(runner, 3_000)
        assert runner.owner is not None
        span = runner.owner.history.span(epoch, 1, 5_000, 1 << 22)
        assert (span.seq, len(span.frames)) == (1, 3_000)


async def test_a_crash_between_snapshots_loses_and_repeats_nothing(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, ShardOptions(tmp_path)) as runner:
        await fill(log, 0, 700, epoch)
        await caught_up(runner, 700)
    async with owning(log, ShardOptions(tmp_path)) as runner:
        await caught_up(runner, 700)
        assert runner.owner is not None
        assert len(runner.owner.history.span(epoch, 1, 1_000, 1 << 20).frames) == 700


async def test_a_bounded_memory_log_is_truncated_behind_a_snapshot() -> None:
    log = await a_log(memory_bytes=400_000)
    epoch = await create(log)
    async with owning(log) as runner:
        async with asyncio.timeout(30):
            for start in range(0, 2_000, 100):
                await fill(log, start, 100, epoch, size=1_000)
                while log.above_limit():
                    await asyncio.sleep(0.02)
        await caught_up(runner, 2_000)
        assert runner.owner is not None
        async with asyncio.timeout(10):
            while runner.owner.history.first_seq(epoch, 2_000) == 1:
                await asyncio.sleep(0.02)


async def test_a_record_of_an_unknown_version_parks_the_shard_and_says_so() -> None:
    log = await a_log()
    async with owning(log) as runner:
        await log.append(LogName.MESSAGES, 0, KEY, b"\xffHG\x00\x02 from the future")
        async with asyncio.timeout(5):
            while runner.life.state is not ShardState.PARKED:
                await asyncio.sleep(0.01)
        assert "version 2" in runner.why


async def test_a_quiet_shard_is_snapshotted_too() -> None:
    """Records that change nothing must not let retention overtake the newest snapshot."""
    log = await a_log()
    options = ShardOptions(snapshots=SnapshotOptions(quiet_offsets=20))
    async with owning(log, options, final=True) as runner:
        probe = encode_control(encode_body(Probe()), 0)
        await asyncio.gather(*(log.append(LogName.MESSAGES, 0, b"hg:probe", probe) for _ in range(50)))
        async with asyncio.timeout(5):
            while runner.owner is None or runner.owner.writer.offset < runner.owner.shard.next_offset:
                await asyncio.sleep(0.02)


async def test_a_dead_letter_too_large_for_the_log_holds_nothing_up() -> None:
    log = await a_log()
    async with owning(log) as runner:
        await log.append(LogName.MESSAGES, 0, b"k" * 400_000, b"\xff" * 520_000)
        async with asyncio.timeout(5):
            while runner.owner is None or runner.owner.shard.next_offset < (await log.bounds(LogName.MESSAGES, 0)).end:
                await asyncio.sleep(0.01)
            await runner.owner.dead_letters.safe()
        assert (await log.bounds(LogName.DEAD_LETTERS, 0)).end > (await log.bounds(LogName.DEAD_LETTERS, 0)).first


def test_an_index_folder_has_one_process(tmp_path: Path) -> None:
    folder = IndexFolder(tmp_path / "index")
    with pytest.raises(OSError, match="is used by another process"):
        IndexFolder(tmp_path / "index")
    folder.release()
    IndexFolder(tmp_path / "index").release()


async def test_a_service_that_ends_while_the_log_is_away_gives_the_index_folder_back(tmp_path: Path) -> None:
    log = await a_log()
    log.reach = Reach.REFUSED
    options = DispatcherOptions("n", "n:1", tmp_path / "index")
    task = asyncio.create_task(DispatcherService(options, log, shell_of()).run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    IndexFolder(tmp_path / "index").release()
