"""Questions to the history index of one shard: its messages by offset, seq, id and time."""

import contextlib
from collections.abc import Iterator
from typing import Final

from dispatcher.folding import KeptMessage
from dispatcher.index_file import TIME_BITS, IndexFile, id_key
from dispatcher.recent import ITEM_BITS

_SEQS: Final = (  # oldest first, newest first
    "SELECT seq, change = 0 FROM seqs WHERE epoch = ? AND seq >= ? AND seq < ? ORDER BY seq LIMIT ?",
    "SELECT seq, change = 0 FROM seqs WHERE epoch = ? AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?",
)
_REPLIES: Final = (
    "SELECT seq FROM replies WHERE epoch = ? AND parent = ? AND seq >= ? AND seq < ? ORDER BY seq LIMIT ?",
    "SELECT seq FROM replies WHERE epoch = ? AND parent = ? AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?",
)
_PLACES: Final = (
    "SELECT f.epoch, f.seq FROM ids i JOIN frames f ON f.pos = i.pos WHERE i.key = ? AND f.id = ? ORDER BY i.pos DESC"
)


class HistoryIndex(IndexFile):
    """Frames of a shard by offset, seq and id."""

    def first_seq(self, epoch: int, offset: int) -> int | None:
        """Returns the oldest seq of a topic from the offset on, None where there is none."""
        found = self._seek(epoch, 0, offset << ITEM_BITS)
        return found[0] if found else None

    def _seek(self, epoch: int, seq: int, pos: int) -> tuple[int, int] | None:
        """Returns (seq, pos) of a topic's first message at or above both."""
        next_one = "SELECT seq, pos FROM seqs WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT 1"
        found: tuple[int, int] | None = self._db.execute(next_one, (epoch, seq)).fetchone()
        if found is None or found[1] >= pos:
            return found
        last = self._db.execute("SELECT seq, pos FROM seqs WHERE epoch = ? ORDER BY seq DESC LIMIT 1", (epoch,))
        best: tuple[int, int] = last.fetchone()
        if best[1] < pos:
            return None
        low, high = found[0] + 1, best[0]
        while low < high:
            middle = (low + high) // 2
            at = self._db.execute(next_one, (epoch, middle)).fetchone()
            if at[1] >= pos:
                best, high = at, middle
            else:
                low = at[0] + 1
        return best

    def seq_at(self, epoch: int, ts: int, first: int) -> int | None:
        """Returns the first seq from `first` on whose append time is not below `ts` (ms), None where there is none."""
        at = self._seek(epoch, first, 0)
        while at is not None:
            seq, pos = at
            later = "SELECT block FROM times WHERE block >= ? AND high >= ? ORDER BY block LIMIT 1"
            block = self._db.execute(later, (pos >> TIME_BITS, ts)).fetchone()
            if block is None:
                return None
            if block[0] > pos >> TIME_BITS:
                at = self._seek(epoch, seq, block[0] << TIME_BITS)
            elif self._db.execute("SELECT ts FROM frames WHERE pos = ?", (pos,)).fetchone()[0] >= ts:
                return seq
            else:  # the items of a record have one time
                at = self._seek(epoch, seq + 1, ((pos >> ITEM_BITS) + 1) << ITEM_BITS)
        return None

    def run(self, epoch: int, seq: int, count: int) -> Iterator[KeptMessage]:
        """Yields up to `count` messages of a topic from the first at or above the seq on; ends before a hole."""
        rows = self._db.execute(
            "SELECT s.seq, s.pos, f.ts, f.frame, s.change FROM seqs s JOIN frames f ON f.pos = s.pos "
            "WHERE s.epoch = ? AND s.seq >= ? ORDER BY s.seq LIMIT ?",
            (epoch, seq, count),
        )
        with contextlib.closing(rows):
            expected = None
            for row in rows:
                found = KeptMessage(*row)
                if found.seq != (expected or found.seq):
                    return
                expected = found.seq + 1
                yield found

    def get(self, epoch: int, seq: int) -> KeptMessage | None:
        """Returns a message, None where it is not here."""
        row = self._db.execute(
            "SELECT s.seq, s.pos, f.ts, f.frame, s.change FROM seqs s JOIN frames f ON f.pos = s.pos "
            "WHERE s.epoch = ? AND s.seq = ?",
            (epoch, seq),
        ).fetchone()
        return None if row is None else KeptMessage(*row)

    def seqs(self, epoch: int, low: int, high: int, most: int, *, newest: bool) -> list[tuple[int, bool]]:
        """Returns (seq, whether it is a message) of [low, high), at most so many; `newest` first or oldest first."""
        rows = self._db.execute(_SEQS[newest], (epoch, low, high, most))
        return [(int(seq), bool(plain)) for seq, plain in rows]

    def replies(self, epoch: int, parent: bytes, low: int, high: int, most: int, *, newest: bool) -> list[int]:
        """Returns the seqs in [low, high) of the replies to a message, at most so many."""
        rows = self._db.execute(_REPLIES[newest], (epoch, parent, low, high, most))
        return [int(seq) for (seq,) in rows]

    def events(self, epoch: int, low: int, high: int) -> int:
        """Returns how many seqs of [low, high) are events."""
        counted = "SELECT count(*) FROM seqs WHERE epoch = ? AND seq >= ? AND seq < ? AND change != 0"
        return int(self._db.execute(counted, (epoch, low, high)).fetchone()[0])

    def places_of(self, record_id: bytes) -> list[tuple[int, int]]:
        """Returns (epoch, seq) of all messages with an id, the newest first.

        There are several where a topic was recreated, or where an id came again after the window forgot it.
        """
        rows = self._db.execute(_PLACES, (id_key(record_id), record_id))
        return [(int(epoch), int(seq)) for epoch, seq in rows]

    def has(self, epoch: int, seq: int) -> bool:
        """Returns whether a message is here."""
        found = self._db.execute("SELECT 1 FROM seqs WHERE epoch = ? AND seq = ?", (epoch, seq)).fetchone()
        return found is not None

    def seq_of(self, record_id: bytes, epoch: int) -> int | None:
        """Returns the newest seq that a message id was given in a topic, None where it is unknown."""
        return next((seq for found, seq in self.places_of(record_id) if found == epoch), None)

    def at_offset(self, offset: int) -> list[tuple[int, int, int]]:
        """Returns (item, epoch, seq) of the messages of the record at an offset."""
        rows = self._db.execute(
            "SELECT pos & ?, epoch, seq FROM frames WHERE pos >= ? AND pos < ? ORDER BY pos",
            ((1 << ITEM_BITS) - 1, offset << ITEM_BITS, (offset + 1) << ITEM_BITS),
        )
        return [(int(i), int(e), int(s)) for i, e, s in rows]
