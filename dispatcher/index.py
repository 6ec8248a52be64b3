"""The history index of one shard in one SQLite file: derived, rebuildable, written behind delivery; knows no link.

    frames   pos -> epoch, seq, id, frame      pos = offset << 10 | item
    seqs     (epoch, seq) -> pos, high         high = greatest ts of the topic up to here, so that it never falls
    ids      (id, epoch) -> seq
    meta     what log it was made from, and up to which offset

Everything is synchronous: one owner calls it on the loop in small batches (4-5 us a record, measured). Nothing here is
the only copy of anything, so the file is written without waiting for the disk.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from headgate.core.apply import Deliver

ITEM_BITS: Final = 10
SCHEMA: Final = 1
BATCH: Final = 1_000  # about 5 ms
CLEAN: Final = 500
MEMORY: Final = ":memory:"


IndexFault = sqlite3.Error  # what any method may raise: a full disk, a damaged file, another process


def in_use(error: sqlite3.Error) -> bool:
    """Says whether another process holds the file: that is no damage."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


class Entry(NamedTuple):
    """One accepted message and the offset of its record; `old` when a rebuild found it behind newer ones."""

    offset: int
    message: Deliver
    old: bool


class Identity(NamedTuple):
    """What log an index was made from; another one means another index."""

    cluster_id: str
    generation: int
    shard: int


class Span(NamedTuple):
    """A run of frames with consecutive seqs from `seq` on (empty: no frames)."""

    seq: int
    ts: list[int]
    frames: list[bytes]


class HistoryIndex:
    """Frames of a shard by offset, seq and id."""

    def __init__(self, path: Path | str, identity: Identity, log_end: int | None = None) -> None:
        """Opens or makes the file. One that goes beyond `log_end` is of another log, whatever it says."""
        self._log_end = log_end
        self._path = path
        self._pending: list[Entry] = []
        self._high: dict[tuple[int, bool], int] = {}
        self._gone: list[int] = []
        self._db = self._open(identity)
        self.complete = False
        self.pending_offset = self.next_offset

    def _open(self, identity: Identity) -> sqlite3.Connection:
        for _ in range(2):
            try:
                db = self._connect()
                wanted = {"schema": SCHEMA, **identity._asdict()}
                found = dict(db.execute("SELECT name, value FROM meta"))
                if not found:
                    db.executemany("INSERT INTO meta VALUES (?, ?)", [*wanted.items(), ("next_offset", 0)])
                    db.commit()
                elif any(found.get(name) != value for name, value in wanted.items()):
                    raise sqlite3.DatabaseError("made from another log")
                self.next_offset = int(dict(db.execute("SELECT name, value FROM meta"))["next_offset"])
                if self._log_end is not None and self.next_offset > self._log_end:
                    raise sqlite3.DatabaseError("goes beyond the log's end")
                return db
            except sqlite3.DatabaseError as error:
                if in_use(error):
                    raise
                with contextlib.suppress(UnboundLocalError):
                    db.close()
                self._delete_files()
        raise sqlite3.OperationalError(f"cannot make an index at {self._path}")

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level="DEFERRED")
        db.executescript(
            """
            PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-8000;
            CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS frames (pos INTEGER PRIMARY KEY, epoch INTEGER, seq INTEGER, id BLOB,
                ts INTEGER, frame BLOB);
            CREATE TABLE IF NOT EXISTS seqs (epoch INTEGER, seq INTEGER, pos INTEGER, high INTEGER,
                PRIMARY KEY (epoch, seq)) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS ids (id BLOB, epoch INTEGER, seq INTEGER,
                PRIMARY KEY (id, epoch)) WITHOUT ROWID;
            """
        )
        return db

    def _delete_files(self) -> None:
        if self._path == MEMORY:
            return
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def destroy(self) -> None:
        """Deletes the file: what it holds can be made again from the log."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._delete_files()

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        self.flush()
        self._db.close()

    def add(self, offset: int, message: Deliver, *, old: bool = False) -> None:
        """Takes an accepted message; it is readable at once and written at the next flush. `old` in a rebuild."""
        self._pending.append(Entry(offset, message, old))

    def advance(self, next_offset: int) -> None:
        """Notes that everything below `next_offset` has been added."""
        self.pending_offset = max(self.pending_offset, next_offset)

    def forget(self, epoch: int) -> None:
        """Drops a deleted topic's messages, in slices at later flushes."""
        self._gone.append(epoch)

    @property
    def backlog(self) -> int:
        """Messages added and not yet written."""
        return len(self._pending)

    def flush(self, most: int | None = None) -> None:
        """Writes up to `most` pending messages (None: all) in one commit."""
        batch = self._pending if most is None else self._pending[:most]
        self._pending = [] if most is None else self._pending[most:]
        if batch:
            self._write(batch)
        if self.complete and not self._pending and self.pending_offset > self.next_offset:
            self.next_offset = self.pending_offset
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'next_offset'", (self.next_offset,))
        if self._gone:
            self._clean(self._gone[0])
        self._db.commit()

    def _write(self, batch: Sequence[Entry]) -> None:
        frames, seqs, ids = [], [], []
        for offset, m, old in batch:
            pos = offset << ITEM_BITS | m.item
            high = self._high[m.epoch, old] = max(m.ts, self._high_of(m.epoch, m.seq, old))
            frames.append((pos, m.epoch, m.seq, m.id, m.ts, m.frame))
            seqs.append((m.epoch, m.seq, pos, high))
            ids.append((m.id, m.epoch, m.seq))
        seqs.sort()
        ids.sort()
        self._db.executemany("INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?, ?, ?)", frames)
        self._db.executemany("INSERT OR REPLACE INTO seqs VALUES (?, ?, ?, ?)", seqs)
        self._db.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", ids)

    def _high_of(self, epoch: int, seq: int, old: bool) -> int:
        high = self._high.get((epoch, old))
        if high is not None:
            return high
        row = self._db.execute(
            "SELECT high FROM seqs WHERE epoch = ? AND seq < ? ORDER BY seq DESC LIMIT 1", (epoch, seq)
        ).fetchone()
        return int(row[0]) if row else 0

    def _clean(self, epoch: int) -> None:
        rows = self._db.execute(
            "SELECT f.pos, f.id, f.seq FROM seqs s JOIN frames f ON f.pos = s.pos WHERE s.epoch = ? LIMIT ?",
            (epoch, CLEAN),
        ).fetchall()
        if not rows:
            self._gone.pop(0)
            self._high.pop((epoch, False), None)
            return
        self._db.executemany("DELETE FROM frames WHERE pos = ?", [(pos,) for pos, _, _ in rows])
        self._db.executemany("DELETE FROM ids WHERE id = ? AND epoch = ?", [(i, epoch) for _, i, _ in rows])
        self._db.executemany("DELETE FROM seqs WHERE epoch = ? AND seq = ?", [(epoch, s) for _, _, s in rows])

    def trim(self, first_offset: int) -> bool:
        """Drops up to CLEAN messages whose records the log no longer holds; says whether there may be more."""
        rows = self._db.execute(
            "SELECT pos, id, epoch, seq FROM frames WHERE pos < ? LIMIT ?", (first_offset << ITEM_BITS, CLEAN)
        ).fetchall()
        self._db.executemany("DELETE FROM frames WHERE pos = ?", [(r[0],) for r in rows])
        self._db.executemany("DELETE FROM ids WHERE id = ? AND epoch = ?", [(r[1], r[2]) for r in rows])
        self._db.executemany("DELETE FROM seqs WHERE epoch = ? AND seq = ?", [(r[2], r[3]) for r in rows])
        self._db.commit()
        return len(rows) == CLEAN

    def first_seq(self, epoch: int, head: int) -> int:
        """Returns the oldest seq kept of a topic whose newest is `head`; head+1 where none is."""
        self.flush()
        row = self._db.execute("SELECT seq FROM seqs WHERE epoch = ? ORDER BY seq LIMIT 1", (epoch,)).fetchone()
        return int(row[0]) if row else head + 1

    def seq_at(self, epoch: int, ts: int, first: int, head: int) -> int | None:
        """Returns the first seq from `first` to `head` whose ts is not below `ts` (ms), None where there is none."""
        self.flush()
        low, high = first, head + 1
        while low < high:
            middle = (low + high) // 2
            row = self._db.execute("SELECT high FROM seqs WHERE epoch = ? AND seq = ?", (epoch, middle)).fetchone()
            if row is not None and row[0] >= ts:
                high = middle
            else:
                low = middle + 1
        return low if low <= head else None

    def span(self, epoch: int, seq: int, count: int, max_bytes: int) -> Span:
        """Returns up to `count` frames from the first kept at or above `seq` on, at least one, else `max_bytes` long.

        The run ends before a hole (a message not indexed yet while the index is being rebuilt).
        """
        self.flush()
        rows = self._db.execute(
            "SELECT s.seq, f.ts, f.frame FROM seqs s JOIN frames f ON f.pos = s.pos "
            "WHERE s.epoch = ? AND s.seq >= ? ORDER BY s.seq LIMIT ?",
            (epoch, seq, count),
        )
        span = Span(seq, [], [])
        size = 0
        for found, ts, frame in rows:
            if not span.frames:
                span = span._replace(seq=found)
            elif found != span.seq + len(span.frames) or size + len(frame) > max_bytes:
                break
            span.ts.append(ts)
            span.frames.append(frame)
            size += len(frame)
        rows.close()
        return span

    def has(self, epoch: int, seq: int) -> bool:
        """Says whether a message is indexed."""
        self.flush()
        found = self._db.execute("SELECT 1 FROM seqs WHERE epoch = ? AND seq = ?", (epoch, seq)).fetchone()
        return found is not None

    def seq_of(self, record_id: bytes, epoch: int) -> int | None:
        """Returns the seq a message id was given, None where it is not known."""
        self.flush()
        row = self._db.execute("SELECT seq FROM ids WHERE id = ? AND epoch = ?", (record_id, epoch)).fetchone()
        return int(row[0]) if row else None

    def at_offset(self, offset: int) -> list[tuple[int, int, int]]:
        """Returns (item, epoch, seq) of the messages a record brought."""
        self.flush()
        rows = self._db.execute(
            "SELECT pos & ?, epoch, seq FROM frames WHERE pos >= ? AND pos < ? ORDER BY pos",
            ((1 << ITEM_BITS) - 1, offset << ITEM_BITS, (offset + 1) << ITEM_BITS),
        )
        return [(int(i), int(e), int(s)) for i, e, s in rows]
