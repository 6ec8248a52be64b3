"""Faults that nobody expected in the tasks of a shard's history: the shard stays live, and they try again."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dispatcher import log_pages
from dispatcher.dispatcher_options import ShardOptions
from dispatcher.history import History
from dispatcher.index_keeper import IndexKeeper
from dispatcher.log_pages import LogPages
from dispatcher.rebuild import Rebuild
from dispatcher.recent import ITEM_BITS
from dispatcher.retry_delay import RetryDelay
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.errors import BrokenChain
from headgate.core.wire.records import LogName, Record
from headgate.runtime.ports import LogUnavailable, OffsetGone
from tests.dispatcher.bed import CONFIG, owner_in, owning, until
from tests.dispatcher.test_recovery import KEY, TOPIC, a_log, caught_up, create, fill

RETRY_S = 0.02


def options_in(folder: Path) -> ShardOptions:
    return ShardOptions(folder, retry_s=RETRY_S)


def test_a_wait_doubles_up_to_its_bound_and_begins_again() -> None:
    delay = RetryDelay(0.5)
    assert [delay.failed(3.0) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert [delay.failed(60.0) for _ in range(2)] == [6.0, 12.0]
    delay.worked()
    assert delay.failed(3.0) == 0.5


@pytest.mark.parametrize(
    "error", [ValueError("planted"), BrokenChain("planted"), LogUnavailable("planted"), OffsetGone(0, 0)]
)
async def test_a_rebuild_that_fails_leaves_the_shard_live_and_tries_again_after_twice_as_long(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await a_log()
    epoch = await create(log)
    await fill(log, 0, 300, epoch)
    tries: list[float] = []
    fill_one = Rebuild._fill_one

    async def failing(self: Rebuild) -> None:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) <= 4:
            raise error
        await fill_one(self)

    async with owning(log, final=True) as runner:
        await until(lambda: owner_in(runner).rows[KEY].seq == 300)
    monkeypatch.setattr(Rebuild, "_fill_one", failing)
    async with owning(log, options_in(tmp_path)) as runner:
        owner = owner_in(runner)
        await caught_up(runner, 300)
        assert (runner.owner, runner.life.state) == (owner, ShardState.LIVE)
        waits = [after - before for before, after in pairwise(tries)]
        assert all(wait >= 0.9 * RETRY_S * 2**n for n, wait in enumerate(waits[:4])), waits


async def test_a_fault_of_the_index_leaves_the_shard_live_and_the_file_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await a_log()
    epoch = await create(log)
    failed: list[str] = []
    write, matches = History.write, IndexKeeper._matches

    def failing_write(self: History) -> bool:
        if len(failed) < 4 and self.file is not None:
            failed.append("write")
            raise ValueError("planted")
        return write(self)

    async def failing_matches(self: IndexKeeper, file: Any) -> bool:
        if len(failed) < 2:
            failed.append("open")
            raise ValueError("planted")
        return await matches(self, file)

    monkeypatch.setattr(History, "write", failing_write)
    monkeypatch.setattr(IndexKeeper, "_matches", failing_matches)
    async with owning(log, options_in(tmp_path)) as runner:
        owner = owner_in(runner)
        await fill(log, 0, 300, epoch)
        await until(lambda: failed == ["open", "open", "write", "write"])
        await caught_up(runner, 300)
        await until(lambda: owner.history.recent.start == owner.history.recent.end)  # all of it is in the file
        assert (runner.owner, runner.life.state, owner.history.why) == (owner, ShardState.LIVE, "")


class Asker:
    open = True


async def test_a_page_that_fails_is_tried_again_later_and_holds_no_other_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pages, "RETRY_S", 0.05)
    monkeypatch.setattr(log_pages, "MAX_WANTED", 1)
    log = await a_log()
    epoch = await create(log)
    await fill(log, 0, 2, epoch)
    end = (await log.bounds(LogName.MESSAGES, 0)).end
    first, second = ((end - 2) << ITEM_BITS, 1), ((end - 1) << ITEM_BITS, 2)
    pages = LogPages(log, 0, History(0, end), 1 << 20)
    take = LogPages._take
    tries = 0

    def failing(self: LogPages, topic_id: str, record: Record, positions: dict[int, int], config: Any) -> int:
        nonlocal tries
        if first[0] in positions:
            tries += 1
            if tries <= 3:
                raise ValueError("planted")
        return take(self, topic_id, record, positions, config)

    monkeypatch.setattr(LogPages, "_take", failing)
    row: Any = SimpleNamespace(topic_id=TOPIC)
    loaded: list[Sequence[tuple[int, int]]] = []
    task = asyncio.create_task(pages.run(CONFIG))
    pages.want(row, [first], Asker(), lambda: loaded.append([first]))
    pages.want(row, [second], Asker(), lambda: loaded.append([second]))
    await until(lambda: loaded)
    assert loaded == [[second]]
    assert pages.crowded, "the request that is tried again later counts"
    await until(lambda: len(loaded) == 2)
    assert not pages.crowded
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
