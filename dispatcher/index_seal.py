"""Keeps an index file from being used where the machine has failed since it was written.

Its pages go to the disk when the system likes. A machine that fails loses some of them, which SQLite may not notice:
the file then claims messages that are not in it. So a file names the start of the machine during which it was
written, and after another one it is made anew. A dispatcher that ends brings its files to the disk and seals them; the
next one uses a sealed file whatever happened meanwhile.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

SEALED: Final = "sealed"  # in the place of the start: the disk has all of the file
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

logger = structlog.get_logger("dispatcher")


def boot_id() -> str:
    """Returns what is another after each start of the machine, "" where the system does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


BOOT: Final = boot_id()


def seal(paths: Iterable[Path]) -> None:
    """Brings closed files of this start to the disk and seals them; one that cannot be sealed is left as it is."""
    _write(paths, BOOT, SEALED)


def unseal(paths: Iterable[Path]) -> None:
    """Notes in the sealed ones of closed files, on the disk, that they are written from now on."""
    _write(paths, SEALED, BOOT)


def _write(paths: Iterable[Path], was: str, now: str) -> None:
    for path in paths:
        try:
            _write_one(path, was, now)
        except (sqlite3.Error, OSError) as error:
            logger.warning("an index file cannot be sealed or opened", path=str(path), why=str(error))


def _write_one(path: Path, was: str, now: str) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        named = db.execute("SELECT value FROM meta WHERE name = 'boot'").fetchone()
        if named != (was,):
            return
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        _sync(path)  # before the word: a part of what is written together may be lost
        db.execute("PRAGMA synchronous=FULL")
        db.execute("UPDATE meta SET value = ? WHERE name = 'boot'", (now,))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
