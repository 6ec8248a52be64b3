"""The history index of one shard, in one SQLite file: made from the log, can be rebuilt, written behind delivery.

    frames   pos -> epoch, seq, id, ts, frame      frame is null where it was dropped for the bound
    seqs     (epoch, seq) -> pos, change           pos rises with seq; `change`: what an event did, 0 for a message
    ids      (key, pos)                            key: half of a message's id, the whole of it is in `frames`
    times    block -> high                         greatest ts of the messages in 256 offsets
    ranges   low -> high                           offsets whose messages are all here
    gone     epoch                                 deleted topics whose messages have still to be deleted
    meta     the identity of the log, its newest record, the bytes of the frames

and the tables of `dispatcher.index_changes`.

Everything is synchronous: its owner calls it on the loop in small batches, each one commit with the range it covers, so
that after a crash at any point the file still knows what it holds. Nothing here is the only copy, so the file is
written without waiting for the disk; where the machine failed, it is made anew (`dispatcher.index_seal`). Every method
may raise IndexFault.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dispatcher.dispatcher_options import FRAME_BYTES
from dispatcher.index_changes import ChangeTables, change_number
from dispatcher.index_seal import BOOT
from dispatcher.index_space import IndexSpace
from dispatcher.ranges import Range, cut, joined
from dispatcher.recent import ITEM_BITS, RecentMessage
from headgate.core.wire.records import LastRecord

SCHEMA: Final = 4
SLICE: Final = 500  # rows that one call of a housekeeping method touches
DROPPED: Final = 1_000  # frames that it drops: as many as one write adds
FREE_PAGES: Final = 256  # given back to the file system at a time: 1 MiB
TIME_BITS: Final = ITEM_BITS + 8
MEMORY: Final = ":memory:"
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_int: Final = int.from_bytes  # a global is found faster than an attribute, and this is used for every message
_TABLES: Final = """
    PRAGMA auto_vacuum=INCREMENTAL; PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
    PRAGMA cache_size=-8000; PRAGMA secure_delete=ON;
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS frames (pos INTEGER PRIMARY KEY, epoch INTEGER, seq INTEGER, id BLOB, ts INTEGER,
        frame BLOB);
    CREATE TABLE IF NOT EXISTS seqs (epoch INTEGER, seq INTEGER, pos INTEGER, change INTEGER,
        PRIMARY KEY (epoch, seq)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS ids (key INTEGER, pos INTEGER, PRIMARY KEY (key, pos)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS times (block INTEGER PRIMARY KEY, high INTEGER);
    CREATE TABLE IF NOT EXISTS ranges (low INTEGER PRIMARY KEY, high INTEGER);
    CREATE TABLE IF NOT EXISTS gone (epoch INTEGER PRIMARY KEY);
"""

IndexFault = sqlite3.Error


class IndexFull(sqlite3.OperationalError):
    """Nothing more may be written, as on a full disk: there were too few frames to drop, so it is too small."""


def id_key(record_id: bytes) -> int:
    """Returns the number by which a message id is found: integers are inserted faster, and two ids may share one."""
    return _int(record_id[8:], "big", signed=True)


def is_damage(error: sqlite3.Error) -> bool:
    """Returns whether the file's content is broken, so that only a new file helps; a full disk is not damage."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _DAMAGED


class LogIdentity(NamedTuple):
    """The log that an index was made from, and the start of the machine; an index of another one is discarded."""

    cluster_id: str
    generation: int
    shard: int
    boot: str = BOOT


class IndexFile:
    """What is written. `ranges` are the offsets it holds, `last` the newest record taken, `changes` its changes."""

    def __init__(
        self,
        path: Path | str,
        identity: LogIdentity,
        frame_bytes: int = FRAME_BYTES,
        space: IndexSpace | None = None,
    ) -> None:
        """Opens or creates the file; a file that is damaged or of another log is replaced. Raises IndexFault.

        `space` is shared by the files of a dispatcher.
        """
        self._path = path
        self._bound = frame_bytes
        self._shard = identity.shard
        self._space = space or IndexSpace()
        try:
            self._open(identity)
        except sqlite3.Error as error:
            self.close()  # it holds the file's lock
            if not is_damage(error):
                raise
            self.delete()
            self._open(identity)

    def _open(self, identity: LogIdentity) -> None:
        self._db = sqlite3.connect(self._path, timeout=0, isolation_level="DEFERRED")  # the loop never waits
        self._db.executescript(_TABLES)
        if self._path == MEMORY:
            self._db.execute("PRAGMA journal_mode=OFF")  # after a fault nothing of it is used again
        self.changes = ChangeTables(self._db)
        wanted = {"schema": SCHEMA, **identity._asdict()}
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        if not meta:
            meta = {**wanted, "frame_bytes": 0, "dropped": 0, "last_offset": -1, "last_checksum": b""}
            with self._db:
                self._db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        elif any(meta.get(name) != value for name, value in wanted.items()):
            error = sqlite3.DatabaseError("made from another log, or before the machine failed")
            error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
            raise error
        self.frame_bytes: int = meta["frame_bytes"]
        self._dropped: int = meta["dropped"]  # below this position no frame is kept
        self.last = LastRecord(meta["last_offset"], meta["last_checksum"])
        self.ranges: list[Range] = list(self._db.execute("SELECT low, high FROM ranges ORDER BY low"))
        self.gone = {int(epoch) for (epoch,) in self._db.execute("SELECT epoch FROM gone")}
        self._measure()

    def _measure(self) -> None:
        """Notes how large the file is."""
        pages, size = (int(self._db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
        self._space.note(self._shard, pages * size)

    def close(self) -> None:
        """Closes the file; never raises."""
        self._space.closed(self._shard)
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self._db.close()

    def delete(self) -> None:
        """Closes and deletes the file; it can be rebuilt from the log."""
        self.close()
        self._space.deleted(self._shard)
        if self._path != MEMORY:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    # -- writing

    def write(
        self, entries: Sequence[RecentMessage], held: Range, *, gone: Iterable[int] = (), last: LastRecord | None = None
    ) -> None:
        """Writes messages and that all of the offsets `held` are here now, in one commit.

        `gone` are topics deleted in that range. Behind newer frames, frames for which there is no room are left out.
        Raises IndexFull too.
        """
        self.check_space()
        ranges = joined(self.ranges, *held)
        with self._db:
            total, dropped = self.frame_bytes + self.changes.note(_changes_in(entries)), self._dropped
            entries = self.changes.without_content(self._not_here(entries, held))
            kept: Sequence[tuple[object, ...]] = [e[:6] for e in entries]
            size = sum(len(e.frame) for e in entries)
            if entries and entries[-1].pos < self._newest() and size > self._space.room(self._bound - total):
                kept, size = [(*e[:5], None) for e in entries], 0
            elif entries:
                dropped = min(dropped, entries[0].pos)
            self._insert(entries, kept)
            self._db.executemany("INSERT OR IGNORE INTO gone VALUES (?)", [(epoch,) for epoch in gone])
            self._set_ranges(ranges)
            self._set("frame_bytes", total + size)
            self._set("dropped", dropped)
            if last is not None:
                self._set("last_offset", last.offset)
                self._set("last_checksum", last.checksum)
        self.ranges, self.frame_bytes, self._dropped = ranges, total + size, dropped
        self.last = last or self.last
        self.gone.update(gone)
        self.changes.settle()
        self._measure()

    def _not_here(self, entries: Sequence[RecentMessage], held: Range) -> Sequence[RecentMessage]:
        """Returns those of messages that it does not have; its frames are counted once."""
        there = [(low << ITEM_BITS, high << ITEM_BITS) for low, high in self.ranges if low < held[1] and high > held[0]]
        return [e for e in entries if not any(low <= e.pos < high for low, high in there)] if there else entries

    def check_space(self) -> None:
        """Raises IndexFull while the files of this dispatcher are too large."""
        if self._space.is_full:
            raise IndexFull(str(self._space))

    def note(self, events: Sequence[RecentMessage]) -> None:
        """Takes what events do, before the events themselves are written."""
        with self._db:
            total = self.frame_bytes + self.changes.note(events)
            self._set("frame_bytes", total)
        self.frame_bytes = total
        self.changes.settle()

    def _newest(self) -> int:
        return self.ranges[-1][1] << ITEM_BITS if self.ranges else 0

    def _insert(self, entries: Sequence[RecentMessage], kept: Sequence[tuple[object, ...]]) -> None:
        highs: dict[int, int] = {}
        for e in entries:
            block = e.pos >> TIME_BITS
            if e.ts > highs.get(block, -1):
                highs[block] = e.ts
        db = self._db
        db.executemany("INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?, ?, ?)", kept)
        seqs = sorted([(e.epoch, e.seq, e.pos, change_number(e.change)) for e in entries])
        db.executemany("INSERT OR REPLACE INTO seqs VALUES (?, ?, ?, ?)", seqs)
        db.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", sorted([(id_key(e.id), e.pos) for e in entries]))
        db.executemany(
            "INSERT INTO times VALUES (?, ?) ON CONFLICT (block) DO UPDATE SET high = max(high, excluded.high)",
            highs.items(),
        )

    def _set(self, name: str, value: object) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    def _set_ranges(self, ranges: Sequence[Range]) -> None:
        self._db.execute("DELETE FROM ranges")
        self._db.executemany("INSERT INTO ranges VALUES (?, ?)", ranges)

    # -- housekeeping, a slice a call

    def tidy(self, first_offset: int) -> bool:
        """Does one slice of what is due; says whether there may be more.

        Messages of deleted topics and below the log's first offset leave, frames beyond the bound too, and free space
        goes back to the file system.
        """
        done = self._purge() or self._sweep_deleted() or self._trim(first_offset)
        if not done:
            gave_back = self._give_back()  # before more is dropped: what is over may be in the free pages
            done = self._drop_frames() or gave_back
        self._measure()
        return done

    def _give_back(self) -> bool:
        if int(self._db.execute("PRAGMA freelist_count").fetchone()[0]) < FREE_PAGES:
            return False
        # One step of this statement frees one page, and `execute` takes one step of a statement without columns.
        self._db.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES})")
        self._measure()
        return True

    def _purge(self) -> bool:
        due = self.changes.due()
        if due is None:
            return False
        with self._db:
            total = self.frame_bytes + self.changes.purge(*due)
            self._set("frame_bytes", total)
        self.frame_bytes = total
        self.changes.settle()
        return True

    def _sweep_deleted(self) -> bool:
        if not self.gone:
            return False
        epoch = next(iter(self.gone))
        rows = self._db.execute(
            "SELECT s.pos, f.id, s.epoch, s.seq, length(f.frame), s.change FROM seqs s JOIN frames f ON f.pos = s.pos "
            "WHERE s.epoch = ? LIMIT ?",
            (epoch, SLICE),
        ).fetchall()
        with self._db:
            if not rows:
                self._db.execute("DELETE FROM gone WHERE epoch = ?", (epoch,))
                self._db.execute("DELETE FROM seqs WHERE epoch = ?", (epoch,))
                self.changes.forget_topic(epoch)
            size = self._delete(rows)
        self.frame_bytes = size
        if not rows:
            self.gone.discard(epoch)
        return True

    def _trim(self, first_offset: int) -> bool:
        """Drops messages whose records the log no longer holds."""
        if not self.ranges or self.ranges[0][0] >= first_offset:
            return False
        rows = self._db.execute(
            "SELECT f.pos, f.id, f.epoch, f.seq, length(f.frame), coalesce(s.change, 0) FROM frames f "
            "LEFT JOIN seqs s ON s.epoch = f.epoch AND s.seq = f.seq WHERE f.pos < ? LIMIT ?",
            (first_offset << ITEM_BITS, SLICE),
        ).fetchall()
        ranges = self.ranges if len(rows) == SLICE else cut(self.ranges, first_offset)
        with self._db:
            size = self._delete(rows)
            self._set_ranges(ranges)
            self._db.execute("DELETE FROM times WHERE block < ?", (first_offset << ITEM_BITS >> TIME_BITS,))
        self.frame_bytes, self.ranges = size, ranges
        return True

    def _delete(self, rows: Sequence[tuple[int, bytes, int, int, int | None, int]]) -> int:
        """Deletes messages given as (pos, id, epoch, seq, frame's length, change); returns the bytes of frames left."""
        db = self._db
        db.executemany("DELETE FROM frames WHERE pos = ?", [(r[0],) for r in rows])
        db.executemany("DELETE FROM ids WHERE key = ? AND pos = ?", [(id_key(r[1]), r[0]) for r in rows])
        db.executemany("DELETE FROM seqs WHERE epoch = ? AND seq = ?", [(r[2], r[3]) for r in rows])
        self.changes.forget((r[2], r[3], r[5]) for r in rows)
        left = self.frame_bytes - sum(r[4] or 0 for r in rows)
        self._set("frame_bytes", left)
        return left

    @property
    def over(self) -> int:
        """The bytes of frames that have to be dropped; 0 or less: none."""
        return max(self.frame_bytes - self._bound, self._space.excess(self._shard))

    def _drop_frames(self) -> bool:
        """Drops the oldest frames beyond the bound; their messages stay, to be read from the log.

        Their rows are written anew: SQLite joins the pages of rows that are deleted, not of those that become shorter.
        """
        over = self.over
        if over <= 0:
            return False
        rows = self._db.execute(
            "SELECT pos, epoch, seq, id, ts, length(frame) FROM frames WHERE pos >= ? ORDER BY pos LIMIT ?",
            (self._dropped, DROPPED),
        )
        drop: list[tuple[object, ...]] = []
        left, end = self.frame_bytes, self._dropped
        for *row, size in rows:
            if over <= 0:
                break
            drop.append((*row, None))
            left, over, end = left - (size or 0), over - (size or 0), row[0] + 1
        rows.close()
        if not drop:
            return False
        with self._db:
            self._db.execute("DELETE FROM frames WHERE pos BETWEEN ? AND ?", (drop[0][0], drop[-1][0]))
            self._db.executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)", drop)
            self._set("frame_bytes", left)
            self._set("dropped", end)
        self.frame_bytes, self._dropped = left, end
        return True

    def unlist(self, epoch: int, first: int, last: int) -> None:
        """Removes the seqs [first, last] of a topic, which a rebuild took for the wrong messages."""
        rows = self._db.execute(
            "SELECT s.pos, f.id, s.epoch, s.seq, length(f.frame), s.change FROM seqs s JOIN frames f ON f.pos = s.pos "
            "WHERE s.epoch = ? AND s.seq BETWEEN ? AND ?",
            (epoch, first, last),
        ).fetchall()
        with self._db:
            size = self._delete(rows)
        self.frame_bytes = size


def _changes_in(entries: Sequence[RecentMessage]) -> list[RecentMessage]:
    return [e for e in entries if e.change is not None or e.parent]
