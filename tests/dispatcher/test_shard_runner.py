"""The states a shard goes through on a node, and what an operator is told."""

import asyncio
from pathlib import Path

import pytest

from dispatcher.dispatcher_options import ShardOptions
from dispatcher.shard_runner import ShardRunner
from dispatcher.snapshots import Snapshots
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.records import LogName
from headgate.runtime.testing.faulty_log import Reach
from tests.dispatcher.bed import owner_in, owning, runner_of, until
from tests.dispatcher.test_recovery import KEY, a_log, create, fill

SOON = ShardOptions(retry_s=0.02, parked_retry_s=0.02)
FUTURE = b"\xffHG\x00\x02 from the future"


async def test_a_shard_is_live_from_its_claim_to_its_release() -> None:
    log = await a_log()
    runner = runner_of(log)
    assert (runner.life.state, runner.why, runner.owner) == (ShardState.CLAIMING, "restoring", None)
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.life.state is ShardState.LIVE)
    assert (runner.why, runner._dispatcher.owners) == ("", {0: runner.owner})
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (runner.life.state, runner._dispatcher.owners) == (ShardState.RELEASED, {})


async def test_a_shard_that_is_parked_is_restored_again_and_parks_again() -> None:
    log = await a_log()
    async with owning(log, SOON) as runner:
        await log.append(LogName.MESSAGES, 0, KEY, FUTURE)
        await until(lambda: runner.life.state is ShardState.PARKED)
        assert "version 2" in runner.why
        first = owner_in(runner)
        await until(lambda: runner.owner not in (None, first))
        await until(lambda: runner.life.state is ShardState.PARKED)
        assert runner._dispatcher.api(0) is None


async def test_a_shard_waits_for_a_log_that_is_away_and_then_is_live() -> None:
    log = await a_log()
    log.reach = Reach.REFUSED
    runner = runner_of(log, SOON)
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.life.state is ShardState.WAITING)
    assert runner.owner is None
    log.reach = Reach.OK
    await until(lambda: runner.life.state is ShardState.LIVE)
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("state", [ShardState.WAITING, ShardState.PARKED])
async def test_a_shard_that_is_not_served_can_be_released(state: ShardState) -> None:
    log = await a_log()
    if state is ShardState.WAITING:
        log.reach = Reach.REFUSED
    else:
        await log.append(LogName.MESSAGES, 0, KEY, FUTURE)
    runner = runner_of(log)
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.life.state is state)
    task.cancel()
    await asyncio.wait({task})
    assert runner.life.state is ShardState.RELEASED


@pytest.mark.parametrize("drains", [True, False])
async def test_only_a_drain_writes_a_final_snapshot_and_the_index_is_written_in_any_case(
    drains: bool, tmp_path: Path
) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, ShardOptions(tmp_path), final=drains) as runner:
        await fill(log, 0, 50, epoch)
        owner = owner_in(runner)
        await until(lambda: owner.rows[KEY].seq == 50)
    bounds = await log.bounds(LogName.SNAPSHOTS, 0)
    assert (bounds.end > bounds.first) is drains
    assert owner.history.recent.start == owner.history.recent.end, "all of it is in the file"


async def test_a_fault_while_the_rest_is_written_does_not_lose_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault takes the place of the cancellation; the task has to end all the same."""

    async def failing(self: Snapshots) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(Snapshots, "final", failing)
    log = await a_log()
    runner: ShardRunner = runner_of(log)
    runner.drain()
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.life.state is ShardState.LIVE)
    owner = owner_in(runner)
    await until(lambda: owner.history.file is not None)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert runner.life.state is ShardState.RELEASED
    assert owner.history.file is None and owner.pointers._closed and owner.dead_letters._closed
