"""The folder of index files; one process uses it at a time."""

import errno
import fcntl
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

GRACE_S: Final = 600.0  # a shard that comes back within this time finds its file
MEMORY: Final = ":memory:"
_FILE: Final = re.compile(r"shard-([0-9]+)\.db(-wal|-shm)?")


class IndexFolder:
    """Holds the folder's lock, which dies with the process."""

    def __init__(self, path: Path) -> None:
        """Creates and locks the folder. Raises OSError when another process has locked it."""
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._unused: dict[Path, float] = {}  # since when
        self._lock = os.open(path / "index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            text = f"{path} is used by another process; give each dispatcher a folder of its own (dispatcher.data)"
            raise OSError(errno.EBUSY, text) from None

    def release(self) -> None:
        """Unlocks the folder."""
        os.close(self._lock)

    def files(self) -> list[Path]:
        """Returns the files that are there, by shard. Raises OSError."""
        return sorted(path for path in self._path.iterdir() if _FILE.fullmatch(path.name) and path.suffix == ".db")

    def sizes(self) -> dict[int, int]:
        """Returns the bytes of the files that are there, by shard. Raises OSError."""
        found: dict[int, int] = {}
        for path in self._path.iterdir():
            if _FILE.fullmatch(path.name):
                found[shard_of_file(path)] = found.get(shard_of_file(path), 0) + path.stat().st_size
        return found

    def sweep(self, used: Collection[int], now: float) -> list[Path]:
        """Deletes the files of shards that were not `used` for GRACE_S (`now` is monotonic seconds); returns them.

        Raises OSError.
        """
        unused = {path for path in self._path.iterdir() if _is_unused(path, used)}
        self._unused = {path: self._unused.get(path, now) for path in unused}
        old = sorted(path for path, since in self._unused.items() if now - since >= GRACE_S)
        for path in old:
            path.unlink(missing_ok=True)
        return old


def index_path(folder: Path | None, shard: int) -> Path | str:
    """Returns the path of a shard's index file; MEMORY without a folder."""
    return MEMORY if folder is None else folder / f"shard-{shard}.db"


def shard_of_file(path: Path) -> int:
    """Returns whose index file it is. Raises ValueError for another file."""
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is no index file")
    return int(match[1])


def _is_unused(path: Path, used: Collection[int]) -> bool:
    return _FILE.fullmatch(path.name) is not None and shard_of_file(path) not in used
