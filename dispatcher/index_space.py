"""How many bytes the index files of a dispatcher may use together, and which file has to drop frames for the others."""

from collections.abc import Callable, Mapping
from typing import Final

SPARE: Final = 8  # up to an eighth above the bound is written: what has to be dropped for it is dropped a little later


class IndexSpace:
    """The bytes used by each file, by shard; `total` None is no bound. Files that are not open cannot give any back."""

    def __init__(self, total: int | None = None, files: Mapping[int, int] | None = None) -> None:
        """`files` are the sizes of the files that are there, by shard."""
        self._total = total
        self._used = dict(files or {})
        self._sum = sum(self._used.values())
        self._open: set[int] = set()
        self._wake: dict[int, Callable[[], None]] = {}

    def note(self, shard: int, used: int) -> None:
        """Notes how many bytes an open file uses."""
        self._open.add(shard)
        self._sum += used - self._used.get(shard, 0)
        self._used[shard] = used
        if self._total is not None and self._sum > self._total:
            largest = max(self._open, key=self._used.__getitem__)
            if largest in self._wake:
                self._wake[largest]()

    def on_excess(self, shard: int, wake: Callable[[], None]) -> None:
        """Calls `wake` when the open file is the largest while too many bytes are used."""
        self._wake[shard] = wake

    def closed(self, shard: int) -> None:
        """Notes that a file was closed; it is still there."""
        self._open.discard(shard)
        self._wake.pop(shard, None)

    def deleted(self, shard: int) -> None:
        """Notes that a file is gone."""
        self.closed(shard)
        self._sum -= self._used.pop(shard, 0)

    def excess(self, shard: int) -> int:
        """Returns how many bytes an open file has to give back, of those above an equal share; 0 within the bound."""
        if self._total is None or self._sum <= self._total:
            return 0
        closed = sum(used for each, used in self._used.items() if each not in self._open)
        share = max(0, self._total - closed) // max(1, len(self._open))
        return max(0, min(self._sum - self._total, self._used.get(shard, 0) - share))

    def room(self, wanted: int) -> int:
        """Returns how many bytes of those wanted are free."""
        return wanted if self._total is None else max(0, min(wanted, self._total - self._sum))

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be written."""
        return self._total is not None and self._sum > self._total + self._total // SPARE

    def __str__(self) -> str:
        return f"the index files use {self._sum} bytes and index.total_bytes is {self._total}"
