"""Lines of a backup sorted into files by kind and shard, so that a restore holds one shard in memory and no more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dispatcher.backup_lines import Line, decode_line, encode_line

BUFFER_BYTES: Final = 64 * 1024  # of a file that is written: 64 shards and a dozen kinds take 50 MB at most


class _SpillBuffer:
    """Lines that are not in their file yet."""

    __slots__ = ("lines", "size")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size = 0


class BackupSpill:
    """Files in a folder that is deleted afterwards. A file is written first and then read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[tuple[str, int], _SpillBuffer] = {}

    def add(self, kind: str, shard: int, line: Line) -> None:
        """Adds a line to a file. Raises OSError."""
        waiting = self._waiting.get((kind, shard))
        if waiting is None:
            waiting = self._waiting[kind, shard] = _SpillBuffer()
        value = encode_line(line)
        waiting.lines.append(value)
        waiting.size += len(value)
        if waiting.size > BUFFER_BYTES:
            self._write(kind, shard)

    def lines(self, kind: str, shard: int) -> Iterator[Line]:
        """Yields the lines of a file in their order. Raises OSError."""
        self._write(kind, shard)
        path = self._path(kind, shard)
        if not path.exists():
            return
        with path.open("rb") as file:
            for value in file:
                yield decode_line(value)

    def drop(self, kind: str, shard: int) -> None:
        """Deletes a file."""
        self._waiting.pop((kind, shard), None)
        self._path(kind, shard).unlink(missing_ok=True)

    def _write(self, kind: str, shard: int) -> None:
        waiting = self._waiting.pop((kind, shard), None)
        if waiting is not None:
            with self._path(kind, shard).open("ab") as file:
                file.writelines(waiting.lines)

    def _path(self, kind: str, shard: int) -> Path:
        return self._folder / f"{kind}-{shard}"
