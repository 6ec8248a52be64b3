"""The disk under a node's index: full for a while, or gone with its process. The index opens SQLite as always."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final
from unittest import mock

_READS: Final = ("SELECT", "PRAGMA QUERY", "BEGIN", "ROLLBACK")


class Disk:
    """`full`: nothing is written. `folder` None: index files live in memory and go with their process."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.full = False
        self._open: list[_Connection] = []

    def took(self, connection: "_Connection") -> None:
        """Notes a connection of this disk's process."""
        self._open.append(connection)

    def cut(self) -> None:
        """The process dies: what was not committed is not there."""
        self.full = True
        for connection in self._open:
            connection.close()

    def check(self, sql: str) -> None:
        """Raises what SQLite raises on a full disk."""
        if self.full and not sql.lstrip().upper().startswith(_READS):
            raise sqlite3.OperationalError("database or disk is full")


disk_of_task: Final[ContextVar[Disk | None]] = ContextVar("disk_of_task", default=None)


class _Connection(sqlite3.Connection):
    disk: Disk | None = None

    def _check(self, sql: str) -> None:
        if self.disk is not None:
            self.disk.check(sql)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self._check(sql)
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self._check(sql)
        return super().executemany(sql, *parameters)

    def executescript(self, sql: str) -> sqlite3.Cursor:
        self._check(sql)
        return super().executescript(sql)

    def commit(self) -> None:
        if self.in_transaction:
            self._check("COMMIT")
        super().commit()


@contextlib.contextmanager
def disks() -> Iterator[None]:
    """Has every SQLite connection of a node's tasks go through its disk."""
    connect = sqlite3.connect

    def on_disk(*arguments: Any, **named: Any) -> sqlite3.Connection:
        disk = disk_of_task.get()
        if disk is None:
            real: sqlite3.Connection = connect(*arguments, **named)
            return real
        found = connect(*arguments, factory=_Connection, **named)
        found.disk = disk
        disk.took(found)
        return found

    with mock.patch("sqlite3.connect", on_disk):
        yield
