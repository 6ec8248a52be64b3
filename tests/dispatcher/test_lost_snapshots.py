"""A snapshots log that loses snapshots under a running owner: a base is there within one delta."""

import asyncio
from typing import Any
from unittest import mock

import pytest

from dispatcher.old_snapshots import OldSnapshots
from dispatcher.snapshots import TRIM_S
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.logs.memory_store import LogPart, Usage
from headgate.runtime.ports import LogUnavailable
from tests.dispatcher.test_snapshots import DEFAULT, SNAPSHOTS, Node, bases, on_a_virtual_loop

WITHIN_A_DELTA_S = DEFAULT.interval_s + 1


def part_of(node: Node) -> LogPart:
    return node.log._store.parts[SNAPSHOTS, 0]


def made_anew(node: Node) -> None:
    """Somebody deletes and creates the topic: its offsets begin at 0 again."""
    node.log._store.parts[SNAPSHOTS, 0] = LogPart(0, Usage(), state=True)


def without_newest(node: Node) -> None:
    """An unclean election loses the newest record."""
    part = part_of(node)
    part._records.pop()
    part.end -= 1


def without_oldest(node: Node) -> None:
    """Somebody set a retention for the topic, and it has removed the base."""
    part = part_of(node)
    part.truncate_before(part.first + 1)


@pytest.mark.parametrize("lose", [made_anew, without_newest, without_oldest])
@pytest.mark.parametrize("changes", [1, 0])
def test_what_the_log_lost_is_written_again_as_a_base(lose: Any, changes: int) -> None:
    @on_a_virtual_loop
    async def body(node: Node) -> None:
        async with node.running():
            node.messages(20_000)
            await asyncio.sleep(2)
            node.messages(1, 1)
            await asyncio.sleep(WITHIN_A_DELTA_S)
            assert [base for base, _ in node.ends()] == [True, False]
            lose(node)
            node.messages(changes, 1)
            await asyncio.sleep(WITHIN_A_DELTA_S if changes else TRIM_S + WITHIN_A_DELTA_S)
            assert node.ends()[-1] == (True, node.offset)
            assert node.owner.snapshot_offset == node.offset
            node.messages(1, 1)
            await asyncio.sleep(WITHIN_A_DELTA_S)
            assert node.ends()[-1] == (False, node.offset), "it goes on behind the base"
            assert (await newest_chain(node.log, 0))[-1].offset == node.offset
            count = len(node.chunks())
            await asyncio.sleep(600)
            assert len(node.chunks()) == count, "one is enough"

    body()


@on_a_virtual_loop
async def test_a_log_that_is_made_anew_right_before_an_append_is_noticed_by_the_offset(node: Node) -> None:
    async with node.running():
        node.messages(20_000)
        await asyncio.sleep(2)
        node.messages(1, 1)
        delta = node.owner.writer.delta

        def late(*args: Any) -> Any:
            made_anew(node)
            yield from delta(*args)

        with mock.patch.object(node.owner.writer, "delta", late):
            await asyncio.sleep(WITHIN_A_DELTA_S + 2)
        assert node.failures() == 1
        assert (await newest_chain(node.log, 0))[-1].offset == node.offset


@on_a_virtual_loop
async def test_no_message_may_be_dropped_before_the_base_is_there(node: Node) -> None:
    async with node.running():
        node.messages(20_000)
        await asyncio.sleep(2)
        assert node.owner.snapshot_offset == node.offset
        made_anew(node)
        node.log.refuse = lambda n, value: LogUnavailable("away")
        await asyncio.sleep(2 * TRIM_S + WITHIN_A_DELTA_S)
        assert (node.owner.snapshot_offset, node.owner.inbox_snapshot_offset) == (0, 0)
        assert node.failures()


@on_a_virtual_loop
async def test_a_drain_writes_what_the_log_lost(node: Node) -> None:
    async with node.running():
        node.messages(20_000)
        await asyncio.sleep(2)
    made_anew(node)
    await node.snapshots.final()
    assert node.ends() == [(True, node.offset)]


@on_a_virtual_loop
async def test_without_a_chain_no_delta_is_written_however_long_bases_have_to_wait(node: Node) -> None:
    async with node.running():
        node.messages(20_000)
        await asyncio.sleep(2)
        for _ in range(6):
            node.snapshots._base.failed(node.loop.now())
        node.owner.writer.forget()
        node.messages(20_000)
        await asyncio.sleep(3)
        assert node.ends()[-1] == (True, node.offset)


@on_a_virtual_loop
async def test_bases_that_fail_do_not_cost_the_chain_that_the_log_has(node: Node) -> None:
    """A fresh log has no chain, and then what a failed base left is deleted; later it has one."""
    async with node.running():
        node.messages(60_000)
        await asyncio.sleep(2)
        whole = node.offset
        node.owner.writer.forget()  # as after a base that was read back and is not right
        node.messages(60_000)
        node.log.tries = 0
        node.log.refuse = lambda n, value: LogUnavailable("away") if n % 2 == 0 else None
        await asyncio.sleep(60)
        assert node.failures() > 2
        assert (await newest_chain(node.log, 0))[-1].offset == whole


@on_a_virtual_loop
async def test_what_is_known_of_a_log_that_was_made_anew_deletes_nothing_in_the_new_one(node: Node) -> None:
    ends = await bases(node, 6)
    old = OldSnapshots(node.log, 0)
    await old.drop(ends[1] - 1)
    made_anew(node)
    node.owner.writer.forget()
    ends = await bases(node, 4)
    await old.drop(1 << 40)
    assert [at for base, at in node.ends() if base] == ends[-3:]
