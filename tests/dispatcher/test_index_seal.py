"""An index file that was written before the machine failed is not used; one that its dispatcher has sealed is."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from dispatcher import folder as folder_module
from dispatcher import index_seal
from dispatcher import service as service_module
from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.index import HistoryIndex
from dispatcher.index_seal import SEALED, seal, unseal
from dispatcher.service import DispatcherService
from headgate.core.wire.records import LogName
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Log, Shell
from headgate.runtime.system import SystemClock, SystemRng
from tests.dispatcher.bed import until
from tests.dispatcher.test_index import EPOCH, ME, entry, filled
from tests.dispatcher.test_recovery import KEY, a_log
from tests.dispatcher.test_shard_runner import FUTURE

AFTER_A_FAILURE = ME._replace(boot="the next start of the machine")


def boot_in(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return str(db.execute("SELECT value FROM meta WHERE name = 'boot'").fetchone()[0])


def torn(folder: Path) -> Path:
    """A file after a power failure: the disk has the newest page of what is claimed, and older ones of the rest."""
    path = folder / "shard-0.db"
    filled(path).close()
    before = path.read_bytes()
    index = HistoryIndex(path, ME)
    index.write([entry(11)], (111, 112))
    index.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (claims,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ranges'").fetchone()
    after = path.read_bytes()
    assert len(after) == len(before)
    at = (claims - 1) * size
    path.write_bytes(before[:at] + after[at : at + size] + before[at + size :])
    return path


def test_a_file_that_lost_pages_when_the_machine_failed_claims_nothing(tmp_path: Path) -> None:
    path = torn(tmp_path)
    index = HistoryIndex(path, ME)
    assert (index.ranges, index.has(EPOCH, 11)) == ([(101, 112)], False), "SQLite does not notice it"
    index.close()
    index = HistoryIndex(path, AFTER_A_FAILURE)
    assert index.ranges == []
    index.close()


def test_a_process_that_was_killed_finds_its_file(tmp_path: Path) -> None:
    filled(tmp_path / "shard-0.db").close()
    unseal([tmp_path / "shard-0.db"])
    index = HistoryIndex(tmp_path / "shard-0.db", ME)
    assert index.ranges == [(101, 111)]
    index.close()


def test_a_sealed_file_is_used_after_another_start_and_once_it_is_written_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shard-0.db"
    filled(path).close()
    seal([path, tmp_path / "shard-1.db", tmp_path])
    assert boot_in(path) == SEALED
    monkeypatch.setattr(index_seal, "BOOT", AFTER_A_FAILURE.boot)
    unseal([path])
    assert not list(tmp_path.glob("*-wal")), "the disk has it"
    index = HistoryIndex(path, AFTER_A_FAILURE)
    assert (index.ranges, index.has(EPOCH, 10)) == ([(101, 111)], True)
    index.close()
    index = HistoryIndex(path, ME)
    assert index.ranges == []
    index.close()


def test_a_file_of_an_earlier_start_is_not_sealed_and_so_is_one_that_is_open(tmp_path: Path) -> None:
    earlier, used = tmp_path / "shard-0.db", tmp_path / "shard-1.db"
    HistoryIndex(earlier, AFTER_A_FAILURE).close()
    index = HistoryIndex(used, ME)
    index.write([entry(1)], (101, 102))
    seal([earlier, used])
    index.close()
    assert (boot_in(earlier), boot_in(used)) == (AFTER_A_FAILURE.boot, ME.boot)


def a_service(log: Log, folder: Path) -> DispatcherService:
    shell = Shell(SystemClock(), SystemRng(), Metrics({"dispatcher"}))
    return DispatcherService(DispatcherOptions("n", "n:1", folder), log, shell)


async def test_a_dispatcher_seals_its_files_when_it_ends_and_unseals_them_when_it_begins(tmp_path: Path) -> None:
    log, path = await a_log(), tmp_path / "shard-0.db"
    seen = []
    for _ in range(2):
        service = a_service(log, tmp_path)
        running = asyncio.create_task(service.run())
        owners = service.dispatcher.owners
        await until(lambda: 0 in owners and owners[0].history.file is not None)  # noqa: B023 - called at once
        await service.drain()
        seen.append(boot_in(path))
        running.cancel()
        await asyncio.wait({running})
        seen.append(boot_in(path))
    assert seen == [ME.boot, SEALED] * 2


async def test_a_parked_shard_keeps_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "SWEEP_S", 0.01)
    monkeypatch.setattr(folder_module, "GRACE_S", 0.05)
    log = await a_log()
    kept, others = tmp_path / "shard-0.db", tmp_path / "shard-9.db"
    filled(kept).close()
    filled(others).close()
    await log.append(LogName.MESSAGES, 0, KEY, FUTURE)
    running = asyncio.create_task(a_service(log, tmp_path).run())
    await until(lambda: not others.exists())
    await asyncio.sleep(0.3)
    assert kept.exists()
    running.cancel()
    await asyncio.wait({running})
