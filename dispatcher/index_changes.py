"""What was done to messages, in tables of a shard's index file: it can be noted in any order, and more than once.

    touched    epoch                            topics with anything in these tables: no other costs a query
    edits      (epoch, target, version) -> seq, pos, ts of the edit that made the version
    states     (epoch, target) -> version, seq, pos, ts of the newest edit (0 without one), redacted
    reactions  (epoch, target, name, user) -> seq of the newest word of the user, removed
    counts     (epoch, target, name) -> how many users react so now
    replies    (epoch, parent, seq)             `parent` is a message id
    purges     (epoch, target) -> version       redacted messages whose edits above the version may still have bytes,
                                                with ITSELF the message too

A redaction removes bytes: the frames of the message and of its edits are replaced by frames without content. The file
overwrites what it frees (`secure_delete`) and `settle` empties its write-ahead log, so that nothing is left in it.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from dispatcher.recent import RecentMessage
from headgate.core.wire.amended_frames import redacted_frame
from headgate.core.wire.message_changes import EditMessage, MessageChange, ReactToMessage, RedactMessage

SLICE: Final = 50  # edits of a redacted message that are blanked at a time, fewer where that moves many bytes:
MOVED_BYTES: Final = 2 << 20  # of rows written again: about 10 ms, and at most the rows around one more
ITSELF: Final = -1  # below every version
NEAR_ROWS: Final = 100  # on each side of a blanked one that are written again: some pages, and no more than
NEAR_BYTES: Final = 16 << 10  # of them that stand in the pages of the table: the rest of a long row has its own pages
_ROW_HEAD: Final = 40  # bytes of a row beside its frame
_WHOLE: Final = 4_061  # a longer row stands in its page with its first bytes only, at least
_FIRST: Final = 489
_KIND_BITS: Final = 2
_KINDS: Final[Mapping[type, int]] = {EditMessage: 1, RedactMessage: 2, ReactToMessage: 3}
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS touched (epoch INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS edits (epoch INTEGER, target INTEGER, version INTEGER, seq INTEGER, pos INTEGER,
        ts INTEGER, PRIMARY KEY (epoch, target, version)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS states (epoch INTEGER, target INTEGER, version INTEGER, seq INTEGER, pos INTEGER,
        ts INTEGER, redacted INTEGER, PRIMARY KEY (epoch, target)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reactions (epoch INTEGER, target INTEGER, name TEXT, user TEXT, seq INTEGER,
        removed INTEGER, PRIMARY KEY (epoch, target, name, user)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counts (epoch INTEGER, target INTEGER, name TEXT, count INTEGER,
        PRIMARY KEY (epoch, target, name)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS replies (epoch INTEGER, parent BLOB, seq INTEGER,
        PRIMARY KEY (epoch, parent, seq)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS replies_by_seq ON replies (epoch, seq);
    CREATE TABLE IF NOT EXISTS purges (epoch INTEGER, target INTEGER, version INTEGER,
        PRIMARY KEY (epoch, target)) WITHOUT ROWID;
"""
_BELOW: Final = "SELECT * FROM frames WHERE pos < ? ORDER BY pos DESC LIMIT ?"
_ABOVE: Final = "SELECT * FROM frames WHERE pos >= ? ORDER BY pos LIMIT ?"
_FrameRow = tuple[int, int, int, bytes, int, bytes | None]
_OF_MESSAGES: Final = ("edits", "states", "reactions", "counts", "purges")


class EditPlace(NamedTuple):
    """The edit that made a version: its own seq and place in the log, and its append time (Unix ms)."""

    version: int
    seq: int
    pos: int
    ts: int


class ChangeState(NamedTuple):
    """What was done to one message so far; `edit` is the newest edit, None where there was none."""

    edit: EditPlace | None
    redacted: bool
    reactions: dict[str, int]


def change_number(change: MessageChange | None) -> int:
    """Returns what a row says of an event: its target and kind in one number; 0 for a message."""
    return 0 if change is None else change.target_seq << _KIND_BITS | _KINDS[type(change)]


def target_of(number: int) -> int:
    """Returns the seq of the message that an event changed."""
    return number >> _KIND_BITS


def is_edit(number: int) -> bool:
    """Returns whether an event is an edit: the only one whose frame has content."""
    return number & ((1 << _KIND_BITS) - 1) == _KINDS[EditMessage]


def is_redaction(number: int) -> bool:
    """Returns whether an event is a redaction."""
    return number & ((1 << _KIND_BITS) - 1) == _KINDS[RedactMessage]


class ChangeTables:
    """The tables in an open file. The caller commits what `note`, `purge`, `forget` and `forget_topic` write.

    `epochs` are the topics with anything in the tables.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.executescript(_TABLES)
        self.epochs = {int(epoch) for (epoch,) in db.execute("SELECT epoch FROM touched")}
        self._moved = 0  # bytes written again by the present call
        self.is_unsettled = True  # bytes of redacted messages may be in the write-ahead log

    # -- writing

    def note(self, events: Iterable[RecentMessage]) -> int:
        """Takes events, and replies; returns by how many bytes the frames in the file have grown.

        Of many redactions some are only noted: from then on nobody is given their content, `purge` blanks it.
        """
        self._moved, grown = 0, 0
        for e in events:
            if e.epoch not in self.epochs:
                self._db.execute("INSERT OR IGNORE INTO touched VALUES (?)", (e.epoch,))
                self.epochs.add(e.epoch)
            if e.parent:
                self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", (e.epoch, e.parent, e.seq))
            if isinstance(e.change, EditMessage):
                self._edit(e, e.change)
            elif isinstance(e.change, RedactMessage):
                grown += self._redact(e.epoch, e.change.target_seq)
            elif isinstance(e.change, ReactToMessage):
                self._react(e, e.change)
        return grown

    def _edit(self, e: RecentMessage, change: EditMessage) -> None:
        row = (e.epoch, change.target_seq, change.version + 1, e.seq, e.pos, e.ts)
        self._db.execute("INSERT OR IGNORE INTO edits VALUES (?, ?, ?, ?, ?, ?)", row)
        self._db.execute(
            "INSERT INTO states VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (epoch, target) DO UPDATE SET "
            "version = excluded.version, seq = excluded.seq, pos = excluded.pos, ts = excluded.ts "
            "WHERE excluded.version > version",
            row,
        )

    def _redact(self, epoch: int, target: int) -> int:
        if self.is_redacted(epoch, target):
            return 0
        self._db.execute(
            "INSERT INTO states VALUES (?, ?, 1, 0, 0, 0, 1) ON CONFLICT (epoch, target) DO UPDATE SET redacted = 1",
            (epoch, target),
        )
        self._db.execute("INSERT OR IGNORE INTO purges VALUES (?, ?, ?)", (epoch, target, ITSELF))
        return self._purge(epoch, target, ITSELF) if self._moved < MOVED_BYTES else 0

    def _react(self, e: RecentMessage, change: ReactToMessage) -> None:
        name = (e.epoch, change.target_seq, change.name)
        old = self._db.execute(
            "SELECT seq, removed FROM reactions WHERE epoch = ? AND target = ? AND name = ? AND user = ?",
            (*name, change.actor.user_id),
        ).fetchone()
        if old is not None and old[0] >= e.seq:
            return
        row = (*name, change.actor.user_id, e.seq, change.removed)
        self._db.execute("INSERT OR REPLACE INTO reactions VALUES (?, ?, ?, ?, ?, ?)", row)
        step = (not change.removed) - (old is not None and not old[1])
        if step:
            self._db.execute(
                "INSERT INTO counts VALUES (?, ?, ?, ?) "
                "ON CONFLICT (epoch, target, name) DO UPDATE SET count = count + excluded.count",
                (*name, step),
            )
            where = "DELETE FROM counts WHERE epoch = ? AND target = ? AND name = ? AND count = 0"
            self._db.execute(where, name)

    def due(self) -> tuple[int, int, int] | None:
        """Returns a redacted message that may still have bytes: its row of `purges`."""
        row: tuple[int, int, int] | None = self._db.execute("SELECT * FROM purges LIMIT 1").fetchone()
        return row

    def purge(self, epoch: int, target: int, version: int) -> int:
        """Blanks the next frames of a redacted message; returns by how many bytes the frames have grown."""
        self._moved = 0
        return self._purge(epoch, target, version)

    def _purge(self, epoch: int, target: int, version: int) -> int:
        itself: list[tuple[int, int]] = []
        if version == ITSELF:
            first = "SELECT 0, pos FROM seqs WHERE epoch = ? AND seq = ?"
            itself = self._db.execute(first, (epoch, target)).fetchall()
        edits = self._db.execute(
            "SELECT version, pos FROM edits WHERE epoch = ? AND target = ? AND version > ? ORDER BY version LIMIT ?",
            (epoch, target, version, SLICE),
        ).fetchall()
        self.is_unsettled = True
        there = itself + edits
        grown, done = self._blank([pos for _, pos in there])
        if done == len(there) and len(edits) < SLICE:
            self._db.execute("DELETE FROM purges WHERE epoch = ? AND target = ?", (epoch, target))
        else:
            name = (there[done - 1][0], epoch, target)
            self._db.execute("UPDATE purges SET version = ? WHERE epoch = ? AND target = ?", name)
        return grown

    def _blank(self, places: Sequence[int]) -> tuple[int, int]:
        """Blanks frames, ascending, until MOVED_BYTES were written anew; returns what they have grown and how many.

        All are blanked first: what is written anew then has the content of none of them. The ones beyond the bound
        are blanked again by the next call.
        """
        grown, written = 0, -1
        there = []
        for pos in places:
            row = self._db.execute("SELECT frame FROM frames WHERE pos = ?", (pos,)).fetchone()
            there.append(row is not None)
            if row is not None and row[0] is not None:
                blank = redacted_frame(row[0])
                grown += len(blank) - len(row[0])
                self._db.execute("UPDATE frames SET frame = ? WHERE pos = ?", (blank, pos))
        for done, pos in enumerate(places):
            if self._moved >= MOVED_BYTES:
                return grown, done
            if there[done] and pos > written:
                written, size = self._write_anew(pos)
                self._moved += size
        return grown, len(places)

    def _write_anew(self, pos: int) -> tuple[int, int]:
        """Writes the rows around one again, into other pages; returns the last of their places, and their bytes.

        Where SQLite moved rows to another page, it may have left copies in what is free of the old one. A page whose
        rows have all gone is overwritten.
        """
        rows = self._near(_BELOW, pos)[::-1] + self._near(_ABOVE, pos)
        self._db.execute("DELETE FROM frames WHERE pos BETWEEN ? AND ?", (rows[0][0], rows[-1][0]))
        self._db.executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)", rows)
        return int(rows[-1][0]), sum(len(row[-1] or b"") for row in rows)

    def _near(self, query: str, pos: int) -> list[_FrameRow]:
        """Returns the rows of one side: NEAR_ROWS, or as many as NEAR_BYTES of the table's pages hold."""
        rows, size = [], 0
        found = self._db.execute(query, (pos, NEAR_ROWS))
        for row in found:
            rows.append(row)
            length = _ROW_HEAD + len(row[-1] or b"")
            size += length if length <= _WHOLE else _FIRST
            if size >= NEAR_BYTES:
                break
        found.close()
        return rows

    def settle(self) -> None:
        """Empties the write-ahead log after a redaction; to be called outside of a commit."""
        if self.is_unsettled:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.is_unsettled = False

    def without_content(self, entries: Sequence[RecentMessage]) -> Sequence[RecentMessage]:
        """Returns messages that are about to be written, without the content of those that are redacted."""
        if self.epochs.isdisjoint(e.epoch for e in entries):
            return entries
        return [e._replace(frame=redacted_frame(e.frame)) if self._is_gone(e) else e for e in entries]

    def _is_gone(self, e: RecentMessage) -> bool:
        if e.epoch not in self.epochs or not (e.change is None or isinstance(e.change, EditMessage)):
            return False
        return self.is_redacted(e.epoch, e.seq if e.change is None else e.change.target_seq)

    def forget(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Forgets messages that leave, oldest first, given as (epoch, seq, change number).

        An event is newer than its message, so where the event leaves the message is gone. What is redacted stays so
        until the redaction leaves: edits that stand between the two show nothing meanwhile.
        """
        there = [(epoch, target_of(number) or seq, seq, number) for epoch, seq, number in rows if epoch in self.epochs]
        names = [row[:2] for row in there]
        for table in ("reactions", "counts"):
            self._db.executemany(f"DELETE FROM {table} WHERE epoch = ? AND target = ?", names)  # noqa: S608 - a name of ours
        self._db.executemany("DELETE FROM states WHERE epoch = ? AND target = ? AND redacted = 0", names)
        edits = [row[:3] for row in there if is_edit(row[3])]
        self._db.executemany("DELETE FROM edits WHERE epoch = ? AND target = ? AND seq <= ?", edits)
        redacted = [row[:2] for row in there if is_redaction(row[3])]
        for table in ("states", "edits", "purges"):
            self._db.executemany(f"DELETE FROM {table} WHERE epoch = ? AND target = ?", redacted)  # noqa: S608 - a name of ours
        self._db.executemany("DELETE FROM replies WHERE epoch = ? AND seq = ?", [(e, seq) for e, _, seq, _ in there])

    def forget_topic(self, epoch: int) -> None:
        """Forgets what is left of a deleted topic."""
        for table in (*_OF_MESSAGES, "replies", "touched"):
            self._db.execute(f"DELETE FROM {table} WHERE epoch = ?", (epoch,))  # noqa: S608 - a name of ours
        self.epochs.discard(epoch)

    # -- reading

    def states(self, epoch: int, low: int, high: int) -> dict[int, ChangeState]:
        """Returns what was done to a topic's messages [low, high], by seq."""
        found: dict[int, ChangeState] = {}
        rows = self._db.execute(
            "SELECT target, version, seq, pos, ts, redacted FROM states WHERE epoch = ? AND target BETWEEN ? AND ?",
            (epoch, low, high),
        )
        for target, version, seq, pos, ts, redacted in rows:
            edit = EditPlace(version, seq, pos, ts) if seq else None
            found[target] = ChangeState(edit, bool(redacted), {})
        counts = self._db.execute(
            "SELECT target, name, count FROM counts WHERE epoch = ? AND target BETWEEN ? AND ?", (epoch, low, high)
        )
        for target, name, count in counts:
            found.setdefault(target, ChangeState(None, False, {})).reactions[name] = count
        return found

    def is_redacted(self, epoch: int, target: int) -> bool:
        """Returns whether a message is redacted."""
        row = self._db.execute("SELECT redacted FROM states WHERE epoch = ? AND target = ?", (epoch, target)).fetchone()
        return row is not None and bool(row[0])

    def reacts(self, epoch: int, target: int, name: str, user: str) -> bool:
        """Returns whether a user reacts so to a message."""
        row = self._db.execute(
            "SELECT removed FROM reactions WHERE epoch = ? AND target = ? AND name = ? AND user = ?",
            (epoch, target, name, user),
        ).fetchone()
        return row is not None and not row[0]

    def edits(self, epoch: int, target: int, most: int) -> list[EditPlace]:
        """Returns the newest edits of a message, at most so many, oldest first."""
        rows = self._db.execute(
            "SELECT version, seq, pos, ts FROM edits WHERE epoch = ? AND target = ? ORDER BY version DESC LIMIT ?",
            (epoch, target, most),
        ).fetchall()
        return [EditPlace(*row) for row in reversed(rows)]
