"""Two dispatchers that decide differently are found out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions, SnapshotOptions
from dispatcher.service import DispatcherService
from headgate.core.sequencer.marks import MARK_OFFSETS, Mark, decode_mark, encode_mark
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Shell
from headgate.runtime.system import SystemClock, SystemRng
from tests.contract.log_suite import read_from
from tests.dispatcher.test_recovery import KEY, create, fill


@asynccontextmanager
async def serving(log: MemoryLog, metrics: Metrics, messages: int) -> AsyncIterator[DispatcherService]:
    snapshots, assignment = SnapshotOptions(interval_s=3_600.0), AssignmentOptions(mark_s=0.05)
    options = DispatcherOptions("n", "n:1", None, snapshots=snapshots, assignment=assignment)
    service = DispatcherService(options, log, Shell(SystemClock(), SystemRng(), metrics))
    task = asyncio.create_task(service.run())
    async with asyncio.timeout(10):
        while 0 not in service.dispatcher.owners or service.dispatcher.owners[0].rows[KEY].seq < messages:
            await asyncio.sleep(0.01)
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.wait({task})


def disagreements(metrics: Metrics) -> float:
    (line,) = [
        line for line in metrics.render().decode().splitlines() if line.startswith("headgate_disagreements_total ")
    ]
    return float(line.split()[1])


@pytest.mark.parametrize(("changed", "found"), [(False, 0), (True, 1)])
async def test_the_next_owner_compares_its_digest_with_the_last_ones_word(changed: bool, found: int) -> None:
    log = MemoryLog(MemoryStore(SystemClock(), SystemRng()))
    await log.open()
    epoch = await create(log)
    messages = 3 * MARK_OFFSETS
    await fill(log, 0, messages, epoch)
    async with serving(log, Metrics({"dispatcher"}), messages):
        async with asyncio.timeout(5):
            while len(await said(log)) < 1:
                await asyncio.sleep(0.02)
    last = (await said(log))[-1]
    if changed:
        other = Mark(last.node, last.incarnation, last.offset, bytes(16))
        await log.append(LogName.OWNERSHIP, 0, b"0.digest", encode_mark(other))
    metrics = Metrics({"dispatcher"})
    async with serving(log, metrics, messages):
        await asyncio.sleep(0.1)
        assert disagreements(metrics) == found


async def said(log: MemoryLog) -> list[Mark]:
    first, end = await log.bounds(LogName.OWNERSHIP, 0)
    records = await read_from(log, LogName.OWNERSHIP, 0, first, end - first)
    return [mark for record in records if (mark := decode_mark(record.value)) is not None]
