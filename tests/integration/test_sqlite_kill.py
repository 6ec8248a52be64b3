"""The sqlite log against the death of its process, a second process, a full disk, and files that are not its own."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import SettingsConflict
from headgate.runtime.logs.sqlite_file import SHRINK_PAGES, LogInUse
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import AppendUnknown, LogUnavailable
from tests.contract.log_suite import SystemClock, SystemRng, read_from

ROOT = Path(__file__).parents[2]
CHILD = """
import asyncio, sys
from headgate.core.wire.records import LogName
from headgate.runtime.logs.sqlite_log import SqliteLog
from tests.contract.log_suite import SystemClock, SystemRng

async def main() -> None:
    log = SqliteLog(sys.argv[1], SystemClock(), SystemRng())
    await log.open()
    number = 0
    def acked(shard, number, future):
        print(shard, number, future.result().offset, flush=True)
    while True:
        for _ in range(20):
            shard = number % 4
            future = log.append(LogName.MESSAGES, shard, b"k", b"%d" % number)
            future.add_done_callback(lambda f, s=shard, n=number: acked(s, n, f))
            number += 1
        await future

asyncio.run(main())
"""


def make(path: Path, shards: int | None = None) -> SqliteLog:
    return SqliteLog(path, SystemClock(), SystemRng(), shards)


@contextmanager
def child(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that appends until it is killed and prints `shard number offset` of what was acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def test_everything_acknowledged_survives_kill_9_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    acked: list[tuple[int, int, int]] = []
    for _ in range(3):  # the last two begin with a log that was not closed
        with child(path) as process:
            assert process.stdout is not None
            for line in process.stdout:
                shard, number, offset = map(int, line.split())
                acked.append((shard, number, offset))
                if number >= 400:
                    break
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout:
                if line.endswith("\n"):
                    shard, number, offset = map(int, line.split())
                    acked.append((shard, number, offset))
    log = make(path)
    await log.open()
    for shard in range(4):
        first, end = await log.bounds(LogName.MESSAGES, shard)
        records = {r.offset: r.value for r in await read_from(log, LogName.MESSAGES, shard, first, end - first)}
        assert sorted(records) == list(range(first, end)), "no hole"
        mine = [(number, offset) for at, number, offset in acked if at == shard]
        assert len(mine) >= 300
        assert [records[offset] for _, offset in mine] == [b"%d" % number for number, _ in mine]
    await log.close()


async def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with child(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(LogInUse, match=rf"log\.db is in use by another process \(pid {process.pid}\)"):
            await make(path).open()
    log = make(path)
    await log.open()
    with pytest.raises(LogInUse):
        await make(path).open()
    await log.close()


@pytest.mark.parametrize("room", [0, 100_000])
async def test_a_full_disk_fails_appends_honestly_and_space_heals_it(tmp_path: Path, room: int) -> None:
    log = make(tmp_path / "log.db")
    await log.open()
    await log.append(LogName.MESSAGES, 0, b"k", b"before")
    wal = tmp_path / "log.db-wal"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + room, hard))
    try:
        with pytest.raises((LogUnavailable, AppendUnknown)) as failure:
            for _ in range(10):
                await log.append(LogName.MESSAGES, 0, b"k", bytes(90_000))
        assert "log.db" in str(failure.value)
        with pytest.raises((LogUnavailable, AppendUnknown)):
            await log.append(LogName.MESSAGES, 0, b"k", bytes(900_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    acked = await log.append(LogName.MESSAGES, 0, b"k", b"after")
    first, end = await log.bounds(LogName.MESSAGES, 0)
    records = await read_from(log, LogName.MESSAGES, 0, first, end - first)
    assert (records[-1].offset, records[-1].value) == (acked.offset, b"after")
    assert records[1].value == b"before"
    await log.close()


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system that is soon full."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # a failed test leaves files open


async def test_a_full_disk_is_log_unavailable_never_unknown_and_heals_when_there_is_room(tmp_path: Path) -> None:
    """What SQLite could not write it rolled back: the client hears 503 and may repeat, not 504."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        log = make(disk / "log.db")
        await log.open()
        acked: dict[int, bytes] = {}
        refused = 0
        for number in range(60):
            value = b"%d" % number * 30_000
            try:
                acked[(await log.append(LogName.MESSAGES, 0, b"k", value)).offset] = value
            except LogUnavailable as error:
                refused += 1
                assert "full" in str(error)
        assert refused > 10
        ballast.unlink()
        value = b"after"
        acked[(await log.append(LogName.MESSAGES, 0, b"k", value)).offset] = value
        first, end = await log.bounds(LogName.MESSAGES, 0)
        records = {r.offset: r.value for r in await read_from(log, LogName.MESSAGES, 0, first, end - first)}
        assert acked == {offset: value for offset, value in records.items() if offset != first}
        await log.close()
        log = make(disk / "log.db")
        await log.open()
        assert await log.bounds(LogName.MESSAGES, 0) == (first, end), "nothing that was refused is there"
        await log.close()


async def test_a_commit_that_failed_otherwise_is_unknown(tmp_path: Path) -> None:
    """An input/output error at COMMIT may have come after the write: nobody knows, so it is not "not written"."""
    log = make(tmp_path / "log.db")
    await log.open()
    assert log._file._writer is not None
    real: sqlite3.Connection = log._file._writer

    class Failing:
        in_transaction = False

        def __init__(self, code: int) -> None:
            self.code = code

        def execute(self, sql: str, *more: Any) -> object:
            if sql == "COMMIT":
                real.execute("ROLLBACK")
                error = sqlite3.OperationalError("as the disk says")
                error.sqlite_errorcode = self.code
                raise error
            return real.execute(sql, *more)

        def executemany(self, sql: str, rows: Any) -> object:
            return real.executemany(sql, rows)

    for code, verdict in [
        (sqlite3.SQLITE_IOERR, AppendUnknown),
        (sqlite3.SQLITE_IOERR_FSYNC, AppendUnknown),
        (sqlite3.SQLITE_FULL, LogUnavailable),
    ]:
        log._file._writer = Failing(code)  # type: ignore[assignment]
        with pytest.raises(verdict):
            await log.append(LogName.MESSAGES, 0, b"k", b"v")
    log._file._writer = real
    await log.append(LogName.MESSAGES, 0, b"k", b"v")
    await log.close()


async def test_what_is_truncated_is_given_back_to_the_disk(tmp_path: Path) -> None:
    log = make(tmp_path / "log.db")
    await log.open()
    acked = await asyncio.gather(*(log.append(LogName.MESSAGES, 0, b"k", bytes(50_000)) for _ in range(600)))
    steps = 0
    shrink = log._file.shrink_step

    def counted() -> bool:
        nonlocal steps
        steps += 1
        return shrink()

    log._file.shrink_step = counted  # type: ignore[method-assign]
    await log.truncate_before(LogName.MESSAGES, 0, acked[-10].offset)
    assert 600 * 50_000 / 4_096 / SHRINK_PAGES < steps < 40, "many pages a step, and not all at once"
    for _ in range(3):  # a checkpoint takes the pages over; the log of writes is cut at the next round
        await log.append(LogName.MESSAGES, 0, b"k", b"v")
    await log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2_000_000


async def test_only_its_user_reads_a_log(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    before = os.umask(0o022)
    try:
        log = make(folder / "log.db")
        await log.open()
        await log.append(LogName.MESSAGES, 0, b"k", b"v")
        assert oct(folder.stat().st_mode & 0o777) == "0o700"
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in folder.iterdir()}
        assert modes == dict.fromkeys(["log.db", "log.db-shm", "log.db-wal", "log.db.lock"], "0o600")
        await log.close()
    finally:
        os.umask(before)


async def test_one_commit_a_tick(tmp_path: Path) -> None:
    """1,000 appends at once in far less time than 1,000 times the disk would take."""
    log = make(tmp_path / "log.db")
    await log.open()
    single = time.monotonic()
    for _ in range(5):
        await log.append(LogName.MESSAGES, 0, b"k", b"v")
    single = (time.monotonic() - single) / 5
    together = time.monotonic()
    await asyncio.gather(*(log.append(LogName.MESSAGES, i % 4, b"k", b"%d" % i) for i in range(1000)))
    together = time.monotonic() - together
    assert together < max(0.5, 100 * single)
    await log.close()


async def test_shards_come_from_the_file_and_another_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = make(path, 7)
    await log.open()
    await log.close()
    with pytest.raises(SettingsConflict, match=r"log\.db has 7 shards, the setting says 4; leave it unset"):
        await make(path, 4).open()
    log = make(path)
    await log.open()
    assert log.shards == 7
    await log.close()


async def test_files_that_are_not_ours_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_bytes(b"not a database at all, but long enough to be looked at " * 40)
    with pytest.raises(SettingsConflict, match=r"text\.db"):
        await make(text).open()
    assert text.read_bytes().startswith(b"not a database")
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(SettingsConflict, match=r"other\.db is an SQLite file, but no Headgate log"):
        await make(other).open()
    with pytest.raises(LogUnavailable, match="cannot open"):
        await make(tmp_path).open()


async def test_the_disk_has_it_before_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = make(path)
    await log.open()
    for connection in (log._file._writer, log._file._reader):
        assert connection is not None
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await log.close()


async def test_truncating_much_lets_appends_through(tmp_path: Path) -> None:
    log = make(tmp_path / "log.db")
    await log.open()
    acked = await asyncio.gather(*(log.append(LogName.INBOX, 0, b"k", b"v") for _ in range(9_000)))
    truncating = asyncio.ensure_future(log.truncate_before(LogName.INBOX, 0, acked[-1].offset))
    await asyncio.sleep(0)
    await log.append(LogName.INBOX, 0, b"k", b"meanwhile")
    assert not truncating.done(), "the append did not wait for all of it"
    await truncating
    assert await log.bounds(LogName.INBOX, 0) == (acked[-1].offset, acked[-1].offset + 2)
    await log.close()
