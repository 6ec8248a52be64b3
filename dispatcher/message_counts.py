"""Counts how many messages a topic had up to a seq: the rest up to the newest are events, and those are counted.

A topic without events costs nothing. In another, whole blocks of seqs are counted once and remembered: what a seq is
never changes.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from dispatcher.history import History
from headgate.core.sequencer.rows import Row

BLOCK: Final = 4_096  # seqs
COUNTED: Final = 4  # blocks that one slice counts: about 4 ms
ADDED: Final = 2_000  # remembered blocks that one slice adds up: less than 1 ms
REMEMBERED: Final = 65_536  # blocks: about 10 MB, of 268 million messages


class CountFrom(NamedTuple):
    """A count under way: up to `base`, less the events from `at` on; `events` of them are counted so far."""

    base: int
    at: int
    events: int = 0


class MessageCounts:
    """Serves one shard."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._blocks: OrderedDict[tuple[int, int], int] = OrderedDict()  # events of whole blocks; the last used is last

    def begin(self, row: Row, seq: int) -> CountFrom | None:
        """Returns the beginning of a count up to a seq; None until all messages above it are here.

        What the log has lost is nobody's to read: up to a seq below that, all of it is counted.
        """
        if not row.others:
            return CountFrom(seq, row.seq + 1)
        history = self._history
        first = history.first_seq(row.epoch, row.seq)
        if seq + 1 < first and not history.complete:
            return None
        base = max(seq, first - 1)
        return CountFrom(base, base + 1)

    def step(self, row: Row, count: CountFrom) -> CountFrom | int | None:
        """Counts a slice; returns how far it is, or how many messages there are, or None: begin again.

        The topic may get messages between two slices.
        """
        if not row.others:
            return count.base
        faults, (base, at, events) = self._history.faults, count
        counted = added = 0
        while at <= row.seq and counted < COUNTED and added < ADDED:
            block, end = at // BLOCK, (at // BLOCK + 1) * BLOCK
            is_whole = at % BLOCK == 0 and end <= row.seq + 1
            found = self._remembered((row.epoch, block)) if is_whole else None
            if found is None:
                found = self._history.events(row.epoch, at, min(end, row.seq + 1))
                counted += 1
                if self._history.faults != faults:
                    return None
                if is_whole:
                    self._remember((row.epoch, block), found)
            added += 1
            events += found
            at = min(end, row.seq + 1)
        return CountFrom(base, at, events) if at <= row.seq else base - (row.others - events)

    def _remembered(self, block: tuple[int, int]) -> int | None:
        found = self._blocks.get(block)
        if found is not None:
            self._blocks.move_to_end(block)
        return found

    def _remember(self, block: tuple[int, int], events: int) -> None:
        self._blocks[block] = events
        if len(self._blocks) > REMEMBERED:
            self._blocks.popitem(last=False)
