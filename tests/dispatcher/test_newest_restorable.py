"""What it costs to find out that no snapshot can be used, or which is the newest that can."""

import pytest

from dispatcher.recovery import ShardLost, newest_restorable, recover
from headgate.core.sequencer.snapshot import BASE, END, NO_NAME, name_of, seal
from headgate.core.wire.control import LOGIC
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Log
from tests.dispatcher.test_recovery import a_log, create, fill
from tests.dispatcher.test_snapshots import SNAPSHOTS, Node, bases, on_a_virtual_loop

EMPTY = b"\x93\x90\x90\xc0"  # a body that decodes, and does not end a snapshot
BROKEN = b"\x93\x90"


def not_measured(work: str, seconds: float) -> None:
    """Takes no notice."""


async def write(log: Log, flags: int, prev: bytes, offset: int, body: bytes = EMPTY) -> bytes:
    value = seal(0, LOGIC, flags, 0, offset, prev, body)
    await log.append(SNAPSHOTS, 0, None, value)
    return name_of(value)


async def deltas(log: Log, prev: bytes, first: int, count: int) -> None:
    """Appends deltas of one chunk that end at the offsets from `first` on, 50 at each."""
    for n in range(count):
        prev = await write(log, END, prev, first + n // 50)


async def test_that_retention_passed_all_snapshots_is_found_in_two_looks() -> None:
    log = await a_log()
    epoch = await create(log)
    await fill(log, 0, 100, epoch)
    bounds = await log.bounds(LogName.MESSAGES, 0)
    base = await write(log, BASE | END, NO_NAME, bounds.first + 1)
    await deltas(log, base, bounds.first + 2, 3_000)
    await log.truncate_before(LogName.MESSAGES, 0, bounds.end)
    with pytest.raises(ShardLost, match=f"ends at offset {bounds.first + 61} and the log begins at {bounds.end}"):
        await recover(log, 0, not_measured)
    assert log.records_read["snapshots"] <= 2.1 * 3_001


@on_a_virtual_loop
async def test_a_base_that_is_broken_costs_one_look_whatever_stands_behind_it(node: Node) -> None:
    await bases(node, 1)
    good = node.offset
    await deltas(node.log, await write(node.log, BASE | END, NO_NAME, good + 1, BROKEN), good + 2, 1_000)
    before = node.log.records_read["snapshots"]
    found, _ = await newest_restorable(node.log, 0, 0, not_measured)
    assert found.chain[-1].offset == good
    assert node.log.records_read["snapshots"] - before <= 2.1 * 1_000


@on_a_virtual_loop
async def test_of_a_chain_with_a_broken_delta_what_stands_before_it_is_used(node: Node) -> None:
    await bases(node, 1)
    good = node.offset
    newest = node.chunks()[-1].name
    await deltas(node.log, await write(node.log, END, newest, good + 1, BROKEN), good + 2, 1_000)
    before = node.log.records_read["snapshots"]
    found, _ = await newest_restorable(node.log, 0, 0, not_measured)
    assert found.chain[-1].offset == good
    assert node.log.records_read["snapshots"] - before <= 2.1 * 1_000


@on_a_virtual_loop
async def test_where_no_chunk_is_to_blame_half_of_the_chain_is_left_out_each_time(node: Node) -> None:
    await bases(node, 1)
    good = node.offset
    await deltas(node.log, node.chunks()[-1].name, good + 1, 1_000)
    before = node.log.records_read["snapshots"]
    found, _ = await newest_restorable(node.log, 0, 0, not_measured)
    assert found.chain[-1].offset <= good
    assert found.chain[0].is_base
    assert node.log.records_read["snapshots"] - before <= 12 * 1_000
