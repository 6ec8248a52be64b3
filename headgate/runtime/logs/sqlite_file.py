"""The SQLite file behind the sqlite log: its lock, tables and transactions. It uses no loop, future or thread.

All logs share one table whose row id is `part << 44 | offset`, so the rows of a part lie together in order, and
no index holds payloads. `parts` keeps what truncation deletes with the rows: the first offset of a part and its end.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from headgate.core.wire.records import Appended, Bounds, LogName, Record
from headgate.runtime.logs.embedded import (
    EMBEDDED_SHARDS,
    Place,
    SettingsConflict,
    all_places,
    config_record,
    new_cluster_id,
)
from headgate.runtime.ports import LogError, LogUnavailable, Rng

FORMAT: Final = 1
APPLICATION_ID: Final = 0x48474C31  # "HGL1", in the file's header: no other SQLite file has it
OFFSET_BITS: Final = 44
INCREMENTAL: Final = 2  # of PRAGMA auto_vacuum
READ_BYTES: Final = 4 << 20  # one read stops here, so that a few large records do not occupy the loop
WAL_BYTES: Final = 16 << 20  # size of the write-ahead log that a checkpoint leaves
SHRINK_PAGES: Final = 256  # of 4 KiB, given back in one transaction
TRUNCATE_ROWS: Final = 2_000  # most rows that a transaction deletes: appends wait for it

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE parts (part INTEGER PRIMARY KEY, log TEXT NOT NULL, shard INTEGER NOT NULL,
                    first INTEGER NOT NULL, reached INTEGER NOT NULL);
CREATE TABLE records (place INTEGER PRIMARY KEY, ts INTEGER NOT NULL, key BLOB, value BLOB);
"""
_INSERT: Final = "INSERT INTO records (place, ts, key, value) VALUES (?, ?, ?, ?)"
_SELECT: Final = "SELECT place, ts, key, value FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?"
_DELETE: Final = "DELETE FROM records WHERE place IN (SELECT place FROM records WHERE place >= ? AND place < ? LIMIT ?)"


class LogInUse(LogError):
    """Another process has this log open."""


class CommitUnknown(LogError):
    """A commit failed in the middle: the transaction may be there after a restart."""


class Write(NamedTuple):
    """One append."""

    place: Place
    key: bytes | None
    value: bytes | None


class SqliteFile:
    """An open log file. The lock dies with the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shards = 0
        self.cluster_id = ""
        self._part: dict[Place, int] = {}
        self._bounds: dict[int, Bounds] = {}  # as committed; only the writer changes it
        self._lock = -1
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    def open(self, shards: int | None, rng: Rng, now_ms: int) -> None:
        """Locks and opens the file, creating it when it is not there.

        Raises LogInUse, LogUnavailable, and SettingsConflict when the file is not ours or has another shard count.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self.path)
            os.close(
                os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            )  # everybody may read the files that SQLite makes
            self._writer, self._reader = _connect(self.path), _connect(self.path)
            if not self._is_ours():
                self._create(shards or EMBEDDED_SHARDS, new_cluster_id(rng), now_ms)
            self._load()
            if shards not in (None, self.shards):
                raise SettingsConflict(
                    f"{self.path} has {self.shards} shards, the setting says {shards}; leave it unset"
                )
        except (OSError, sqlite3.OperationalError) as error:
            self.close()
            raise LogUnavailable(f"cannot open {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self.close()
            raise SettingsConflict(f"{self.path} is no Headgate log: {error}") from error
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Closes what is open and gives up the lock."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def bounds(self, place: Place) -> Bounds:
        """Returns what a part holds, as committed."""
        return self._bounds[self._part[place]]

    def commit(self, writes: Sequence[Write], now_ms: int) -> list[Appended]:
        """Writes all in one transaction and returns their places; a part's end moves with it.

        Raises sqlite3.Error when nothing was written (a full disk), CommitUnknown when that is not known.
        """
        ends = {part: bounds.end for part, bounds in self._bounds.items()}
        rows: list[tuple[int, int, bytes | None, bytes | None]] = []
        places: list[Appended] = []
        for place, key, value in writes:
            part = self._part[place]
            offset = ends[part]
            ends[part] = offset + 1
            rows.append((part << OFFSET_BITS | offset, now_ms, key, value))
            places.append(Appended(offset, now_ms))
        self._transact([(_INSERT, rows)])
        for part, end in ends.items():
            self._bounds[part] = Bounds(self._bounds[part].first, end)
        return places

    def truncate_step(self, place: Place, offset: int) -> bool:
        """Moves a part's beginning up to `offset` and deletes some rows before it; returns whether more are left.

        Raises sqlite3.Error or CommitUnknown; then it can be called again.
        """
        part = self._part[place]
        first, end = self._bounds[part]
        first = max(first, min(offset, end))
        base = part << OFFSET_BITS
        mark = ("UPDATE parts SET first = ?, reached = ? WHERE part = ?", [(first, end, part)])
        self._transact([mark, (_DELETE, [(base, base | first, TRUNCATE_ROWS)])])
        self._bounds[part] = Bounds(first, end)
        left = self._connection(self._writer).execute(_SELECT, (base, base | first, 1)).fetchone()
        return left is not None

    def shrink_step(self) -> bool:
        """Gives some of the pages that truncation freed back to the disk; returns whether some are left.

        A file made before this version has no `auto_vacuum`: its free pages are only used again. Raises sqlite3.Error.
        """
        connection = self._connection(self._writer)
        (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        if mode != INCREMENTAL:
            return False
        connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")  # `execute` would stop after one page
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        return bool(free)

    def read(self, place: Place, offset: int, max_records: int) -> list[Record]:
        """Returns committed records from `offset` on. Raises sqlite3.Error."""
        part = self._part[place]
        base = part << OFFSET_BITS
        end = self._bounds[part].end
        records: list[Record] = []
        size = 0
        cursor = self._connection(self._reader).execute(_SELECT, (base | offset, base | end, max_records))
        for row, ts, key, value in cursor:
            records.append(Record(row - base, ts, key, value))
            size += len(key or b"") + len(value or b"")
            if size > READ_BYTES:
                break
        cursor.close()
        return records

    def _transact(self, statements: Sequence[tuple[str, Sequence[tuple[object, ...]]]]) -> None:
        connection = self._connection(self._writer)
        if connection.in_transaction:  # an earlier rollback failed when the disk did
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, rows in statements:
                connection.executemany(sql, rows)
        except sqlite3.Error:
            _roll_back(connection)
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:  # no room for the commit frame: it is not in the file
                raise
            raise CommitUnknown(str(error)) from error

    def _is_ours(self) -> bool:
        connection = self._connection(self._writer)
        (tag,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and tag != APPLICATION_ID:
            raise SettingsConflict(f"{self.path} is an SQLite file, but no Headgate log")
        return bool(tables)

    def _create(self, shards: int, cluster_id: str, now_ms: int) -> None:
        connection = self._connection(self._writer)
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";")[:-1]:
            connection.execute(statement)
        meta = {"format": str(FORMAT), "shards": str(shards), "cluster_id": cluster_id}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        for part, (log, shard) in enumerate(all_places(shards)):
            connection.execute("INSERT INTO parts VALUES (?, ?, ?, ?, ?)", (part, log.value, shard, now_ms, now_ms))
            if log is LogName.MESSAGES:
                key, value = config_record(cluster_id, shards, shard)
                connection.execute(_INSERT, (part << OFFSET_BITS | now_ms, now_ms, key, value))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")

    def _load(self) -> None:
        connection = self._connection(self._writer)
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        if meta.get("format") != str(FORMAT):
            raise SettingsConflict(f"{self.path} has format {meta.get('format')}, this version reads {FORMAT}")
        self.shards, self.cluster_id = int(meta["shards"]), meta["cluster_id"]
        for part, log, shard, first, reached in connection.execute("SELECT * FROM parts"):
            self._part[LogName(log), shard] = part
            base = part << OFFSET_BITS
            (last,) = connection.execute(
                "SELECT max(place) FROM records WHERE place >= ? AND place < ?", (base, (part + 1) << OFFSET_BITS)
            ).fetchone()
            self._bounds[part] = Bounds(first, max(reached, 0 if last is None else last - base + 1))

    def _connection(self, connection: sqlite3.Connection | None) -> sqlite3.Connection:
        if connection is None:
            raise sqlite3.ProgrammingError(f"{self.path} is closed")
        return connection


def _lock(path: Path) -> int:
    """Returns the descriptor of the lock file beside `path`, locked. Raises LogInUse or OSError."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise LogInUse(
            f"{path} is in use by another process (pid {holder}); stop it or choose another folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # of a new file: before anything is written to it
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _roll_back(connection: sqlite3.Connection) -> None:
    """Ends a transaction that failed, unless SQLite has done so already; the next one tries again if this fails."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
