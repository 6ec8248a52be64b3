"""A shard whose index file cannot be used, was made from another log, or was left in the middle of a rebuild."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import pytest

from dispatcher import folder as folder_module
from dispatcher import index_keeper
from dispatcher.dispatcher_options import HistoryOptions, ShardOptions
from dispatcher.folder import IndexFolder
from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from dispatcher.index_space import IndexSpace
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.records import Batch, LogName
from headgate.runtime.logs.memory_log import MemoryReader
from tests.dispatcher.bed import owning
from tests.dispatcher.test_recovery import KEY, a_log, caught_up, create, fill

PAGE = 1 << 22


def options_in(folder: Path) -> ShardOptions:
    return ShardOptions(folder, 1 << 30, retry_s=0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False) if mount else None
    if done is None or done.returncode:
        pytest.skip("this test mounts a small file system, which is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def all_frames(runner: object, epoch: int, count: int) -> None:
    owner = runner.owner  # type: ignore[attr-defined]
    found = 0
    while found < count:
        page = owner.history.span(epoch, found + 1, 1_000, PAGE)
        assert page.seq == found + 1
        assert page.frames
        found += len(page.frames)


async def test_a_full_disk_never_parks_a_shard_and_what_the_index_missed_is_read_from_the_log_again(
    small_disk: Path,
) -> None:
    """The file system is really full; live delivery goes on, nothing is called gone, and it heals by itself."""
    options = options_in(small_disk)._replace(history=HistoryOptions(batch=50, recent_messages=200))
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options) as runner:
        await fill(log, 0, 100, epoch)
        await caught_up(runner, 100)
        owner = runner.owner
        assert owner is not None
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 1_500_000)
        await fill(log, 100, 2_000, epoch, size=1_000)
        async with asyncio.timeout(20):
            while not owner.history.why or owner.rows[KEY].seq < 2_100:
                await asyncio.sleep(0.01)
        assert owner is runner.owner
        assert runner.life.state is ShardState.LIVE
        assert not owner.history.complete
        assert len(owner.history.recent) <= 300
        assert len(owner.history.span(epoch, 2_050, 51, PAGE).frames) == 51, "the newest are answered from memory"
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
        await caught_up(runner, 2_100)
        assert owner.history.why == ""
        assert owner.history.first_seq(epoch, 2_100) == 1
        await all_frames(runner, epoch, 2_100)


async def test_a_folder_that_is_full_from_the_start_does_not_keep_a_shard_from_being_live(small_disk: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    await fill(log, 0, 100, epoch)
    async with owning(log, options_in(small_disk)) as runner:
        async with asyncio.timeout(5):
            while runner.owner is None or not runner.owner.caught_up.is_set() or not runner.owner.history.why:
                await asyncio.sleep(0.01)
        assert runner.owner.rows[KEY].seq == 100
        ballast.unlink()
        await caught_up(runner, 100)
        await all_frames(runner, epoch, 100)


async def test_a_file_that_fails_in_use_is_opened_again_and_its_shard_stays_live(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path)) as runner:
        await fill(log, 0, 50, epoch)
        await caught_up(runner, 50)
        owner = runner.owner
        assert owner is not None
        assert owner.history.file is not None
        owner.history.file._db.close()  # every use raises
        await fill(log, 50, 10, epoch)
        async with asyncio.timeout(5):
            while not owner.history.faults:
                await asyncio.sleep(0.01)
        await caught_up(runner, 60)
        assert runner.owner is owner
        await all_frames(runner, epoch, 60)


async def test_a_damaged_file_is_made_anew_while_its_shard_is_live(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path), final=True) as runner:
        await fill(log, 0, 3_000, epoch, size=200)
        await caught_up(runner, 3_000)
    path = tmp_path / "shard-0.db"
    damaged = bytearray(path.read_bytes())
    damaged[8_192:] = os.urandom(len(damaged) - 8_192)
    path.write_bytes(damaged)
    async with owning(log, options_in(tmp_path)) as runner:
        assert runner.owner is not None
        assert runner.life.state is ShardState.LIVE
        await caught_up(runner, 3_000)
        async with asyncio.timeout(20):
            while runner.owner.history.span(epoch, 1, 10, PAGE).seq != 1 or not runner.owner.history.complete:
                await asyncio.sleep(0.01)
        await all_frames(runner, epoch, 3_000)


async def test_an_index_of_a_log_that_was_cut_and_grew_past_it_is_thrown_away(tmp_path: Path) -> None:
    """After an unclean election of a Kafka leader the same offsets may hold other records."""
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path)) as runner:
        await fill(log, 0, 50, epoch)
        await caught_up(runner, 50)
    file = HistoryIndex(tmp_path / "shard-0.db", LogIdentity(log.cluster_id, 1, 0))
    assert file.last.offset == (await log.bounds(LogName.MESSAGES, 0)).end - 1
    file.write([], (0, 0), last=file.last._replace(checksum=b"another record  "))
    file.close()
    async with owning(log, options_in(tmp_path)) as runner:
        await caught_up(runner, 50)
        assert log.records_read["messages-background"] > 0
        await all_frames(runner, epoch, 50)


async def test_an_index_is_kept_where_a_slow_log_does_not_say_in_time_whether_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path), final=True) as runner:
        await fill(log, 0, 50, epoch)
        await caught_up(runner, 50)
    reader, slow = log.reader, [3]

    async def slow_at_first(name: LogName, shard: int, offset: int, *, background: bool = False) -> MemoryReader:
        found = await reader(name, shard, offset, background=background)
        if name is LogName.MESSAGES and background and slow[0]:
            slow[0] -= 1
            monkeypatch.setattr(found, "read", AsyncMock(return_value=Batch((), offset, offset + 1)))
        return found

    monkeypatch.setattr(log, "reader", slow_at_first)
    monkeypatch.setattr(HistoryIndex, "delete", Mock(side_effect=AssertionError("thrown away")))
    async with owning(log, options_in(tmp_path)) as runner:
        await caught_up(runner, 50)
        assert not slow[0]
        await all_frames(runner, epoch, 50)


async def test_an_index_that_goes_beyond_the_log_is_thrown_away(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path)) as runner:
        await fill(log, 0, 50, epoch)
        await caught_up(runner, 50)
    file = HistoryIndex(tmp_path / "shard-0.db", LogIdentity(log.cluster_id, 1, 0))
    end = file.ranges[-1][1]
    file.write([], (end, end + 1_000))
    file.close()
    async with owning(log, options_in(tmp_path)) as runner:
        await caught_up(runner, 50)
        assert runner.owner is not None
        assert runner.owner.history.file is not None
        assert runner.owner.history.file.ranges[-1][1] <= (await log.bounds(LogName.MESSAGES, 0)).end
        await all_frames(runner, epoch, 50)


def test_files_of_shards_of_others_go_after_a_grace_and_no_file_else(tmp_path: Path) -> None:
    folder = IndexFolder(tmp_path)
    names = ["shard-1.db", "shard-1.db-wal", "shard-2.db", "shard-x.db", "notes.txt", "index.lock"]
    for name in names:
        (tmp_path / name).touch()
    grace = folder_module.GRACE_S
    assert folder.sweep({2}, 0.0) == []
    assert folder.sweep({1, 2}, grace - 1) == [], "it came back"
    assert folder.sweep({2}, grace) == []
    assert folder.sweep({2}, 2 * grace - 1) == []
    assert [p.name for p in folder.sweep({2}, 2 * grace)] == ["shard-1.db", "shard-1.db-wal"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(set(names) - {"shard-1.db", "shard-1.db-wal"})
    folder.release()


async def test_an_index_stays_within_its_bytes_and_delivery_goes_on_where_they_are_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First there are frames to drop; then the rows alone are too many, and shorter retention heals it."""
    monkeypatch.setattr(index_keeper, "RETRY_MAX_S", 0.2)
    space = IndexSpace(2 << 20)
    options = options_in(tmp_path)._replace(history=HistoryOptions(batch=200, recent_messages=2_000))
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options, space=space) as runner:
        await fill(log, 0, 6_000, epoch, size=1_000)
        await caught_up(runner, 6_000)
        owner = runner.owner
        assert owner is not None
        async with asyncio.timeout(20):
            while space.excess(0) or owner.history.recent.start < 6_000:
                await asyncio.sleep(0.01)
        file = owner.history.file
        assert file is not None and owner.history.why == "" and owner.history.complete
        assert 0 < file.frame_bytes < 2 << 20 and (tmp_path / "shard-0.db").stat().st_size < 3 << 20
        assert owner.history.has(epoch, 1) and owner.history.has(epoch, 6_000)

        for first in range(6_000, 30_000, 3_000):
            await fill(log, first, 3_000, epoch)
        async with asyncio.timeout(20):
            while "index.total_bytes is 2097152" not in owner.history.why or owner.rows[KEY].seq < 30_000:
                await asyncio.sleep(0.01)
        assert owner is runner.owner and runner.life.state is ShardState.LIVE
        assert (tmp_path / "shard-0.db").stat().st_size < 3 << 20
        owner.history.log_begins(owner.history.recent.end - 1_000)
        async with asyncio.timeout(20):
            while owner.history.why or not owner.history.complete:
                await asyncio.sleep(0.01)
        assert owner.history.has(epoch, 30_000)
