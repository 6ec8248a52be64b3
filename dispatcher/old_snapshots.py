"""Deletes the snapshots of a shard that are no longer needed.

History before the newest snapshot gets its numbers from older ones. So the messages that are still in the log need the
newest base at or below the log's beginning, and all snapshots after that base.
"""

from collections import deque
from typing import Final, NamedTuple

from headgate.core.sequencer.snapshot import Chunk, read_chunk
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Log, OffsetGone

BASES_KEPT: Final = 3  # at least, whatever the message log holds
OPEN_BASES: Final = 64  # of several writers at once; an older one counts as unfinished
RECORDS_A_READ: Final = 8
READ_WAIT_S: Final = 5.0


class _Base(NamedTuple):
    at: int  # the offset of its first chunk in the snapshots log
    offset: int  # of the message log, where it ends


class OldSnapshots:
    """Finds the bases of one snapshots log from its beginning, reading no further than needed."""

    def __init__(self, log: Log, number: int) -> None:
        self._log = log
        self._number = number
        self._next: int | None = None
        self._open: dict[bytes, int] = {}  # name of the newest chunk of a base under way: where it begins
        self._bases: deque[_Base] = deque()

    async def drop(self, first: int) -> None:
        """Deletes what a message log that begins at `first` does not need. Raises LogUnavailable, NewerSnapshot."""
        try:
            await self._look(first)
        except OffsetGone:  # somebody else truncated: begin again
            self._next = None
            return
        if not self._bases:
            return
        before = self._begins()
        while len(self._bases) > BASES_KEPT and self._bases[1].offset <= first:
            self._bases.popleft()
        if self._begins() > before:
            await self._log.truncate_before(LogName.SNAPSHOTS, self._number, self._begins())

    def _begins(self) -> int:
        return min(base.at for base in self._bases)  # of two writers at once, one may begin first and end last

    async def _look(self, first: int) -> None:
        """Reads until it knows which bases can be deleted now."""
        bounds = await self._log.bounds(LogName.SNAPSHOTS, self._number)
        if self._next is None or not bounds.first <= self._next <= bounds.end:  # else it was made anew
            self._next = bounds.first
            self._open.clear()
            self._bases.clear()
        if self._next >= bounds.end or self._knows(first):
            return
        reader = await self._log.reader(LogName.SNAPSHOTS, self._number, self._next, background=True)
        try:
            while self._next < bounds.end and not self._knows(first):
                batch = await reader.read(RECORDS_A_READ, READ_WAIT_S)
                if batch.next_offset <= self._next:
                    break
                self._take([c for r in batch.records if (c := read_chunk(r.offset, r.value)) is not None])
                self._next = batch.next_offset
        finally:
            await reader.close()

    def _knows(self, first: int) -> bool:
        """Returns whether enough bases above `first` are known: the base before them is the oldest needed."""
        above = BASES_KEPT - 1
        return len(self._bases) > above and self._bases[-above].offset > first

    def _take(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if not chunk.is_base:
                continue
            begins = chunk.at if chunk.is_first else self._open.pop(chunk.prev, None)
            if begins is None:
                continue
            if chunk.is_end:
                self._bases.append(_Base(begins, chunk.offset))
                continue
            self._open[chunk.name] = begins
            if len(self._open) > OPEN_BASES:
                del self._open[min(self._open, key=self._open.__getitem__)]
