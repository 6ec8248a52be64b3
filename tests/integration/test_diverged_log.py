"""A log that lost its newest records and took others in their places: nobody is served from it."""

import asyncio

import pytest

from dispatcher.declared_loss import report_loss
from dispatcher.dispatcher_options import ShardOptions
from dispatcher.recovery import LogDiverged, pairs_of
from dispatcher.restore_target import write_base
from dispatcher.shard_remains import CannotRecover
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.control import PROBE_KEY
from headgate.core.wire.records import LogName
from headgate.runtime.appender import PROBE
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import Log
from tests.dispatcher.bed import owner_in, owning, until
from tests.dispatcher.restore_bed import CLOCK, RNG
from tests.integration.test_declared_loss import KEY, filled, found_in, log, recovered, snapshots

__all__ = ["log"]  # the fixture


async def test_a_snapshot_names_its_newest_record_and_a_log_with_another_one_is_refused(log: Log) -> None:
    await filled(log)
    await snapshots(log)
    end = (await log.bounds(LogName.MESSAGES, 0)).end
    found = await found_in(log)
    assert found.shard.last.offset == end - 1
    found.shard.last = found.shard.last._replace(checksum=bytes(16))
    await write_base(log, 0, found.shard, found.rows, pairs_of(found.users, found.letters))
    with pytest.raises(LogDiverged, match=f"another record at offset {end - 1}"):
        await found_in(log)
    with pytest.raises(CannotRecover, match="restore the last backup"):
        await recovered(log)
    await log.truncate_before(LogName.MESSAGES, 0, end)
    assert (await found_in(log)).shard.next_offset == end, "retention took the record: nobody can compare it"


async def test_a_shard_whose_log_lost_records_and_grew_again_is_parked() -> None:
    store = MemoryStore(CLOCK, RNG, 4)
    log = MemoryLog(store)
    await log.open()
    await filled(log)
    await snapshots(log)
    part = store.parts[LogName.MESSAGES, 0]
    del part._records[-3:]
    part.end -= 3
    for number in range(5):
        log.append(LogName.MESSAGES, 0, KEY, b'{"number":%d}' % number)
    async with owning(log, ShardOptions(), final=False) as runner:
        assert runner.life.state is ShardState.PARKED
    with pytest.raises(CannotRecover):
        await report_loss(log, 0)


@pytest.mark.parametrize("regrown", [0, 8])
async def test_records_that_a_running_owner_has_applied_are_not_numbered_again(regrown: int) -> None:
    store = MemoryStore(CLOCK, RNG, 4)
    log = MemoryLog(store)
    await log.open()
    await filled(log)
    async with owning(log, ShardOptions(parked_retry_s=0.05)) as runner:
        owner, part = owner_in(runner), store.parts[LogName.MESSAGES, 0]
        end = part.end
        await until(lambda: owner.shard.next_offset == end)
        del part._records[-3:]
        part.end -= 3
        part.wake()
        await until(lambda: runner.life.state is ShardState.PARKED)
        for number in range(regrown):
            log.append(LogName.MESSAGES, 0, KEY, b'{"number":%d}' % number)
        what = "another record at offset" if regrown else "was applied up to"
        await until(lambda: what in runner.why)
        await asyncio.sleep(0.3)
        assert runner.life.state is not ShardState.LIVE


async def test_a_probe_is_not_the_record_that_a_snapshot_names() -> None:
    log = MemoryLog(MemoryStore(CLOCK, RNG, 4))
    await log.open()
    await filled(log)
    end = (await log.bounds(LogName.MESSAGES, 0)).end
    for _ in range(3):
        log.append(LogName.MESSAGES, 0, PROBE_KEY, PROBE)
    await snapshots(log)
    found = await found_in(log)
    assert (found.shard.next_offset, found.shard.last.offset) == (end + 3, end - 1)
