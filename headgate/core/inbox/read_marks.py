"""How far the users of a shard have read their topics: one row a user and topic. Merged by maximum, in any order."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from headgate.core.inbox.packed_rows import PackedRows, packed, user_topic_key, user_topic_of
from headgate.core.wire.inbox_record import MarkEntry

FAMILY: Final = b"\0m"  # of keys
MAX_ROWS: Final = 1_000_000  # of a shard: no further user and topic gets a mark


class StoredMark(msgspec.Struct, array_like=True, gc=False):
    """A read mark; `link_inbox.ReadMark` describes the fields.

    `heard_s` is when the newest record that named it was appended, in Unix seconds.
    """

    epoch: int
    seq: int
    n: int
    heard_s: int


class ReadMarks(PackedRows[StoredMark]):
    """Read marks by user and topic."""

    def __init__(self) -> None:
        super().__init__(StoredMark, "read mark")

    def merge(self, entry: MarkEntry, ts: int) -> tuple[bytes | None, bool]:
        """Takes a mark of a record that was appended at `ts` (Unix milliseconds).

        Returns the key of its row where that changed, and whether the user has read more.
        """
        key = mark_key(entry.user_id, entry.topic_id)
        known = self.row(key)
        found = StoredMark(entry.epoch, entry.seq, entry.n, ts // 1_000)
        best = found if known is None else max(known, found, key=_order)
        best.heard_s = max(found.heard_s, 0 if known is None else known.heard_s)
        value = packed(best)
        if value == self._rows.get(key):
            return None, False
        self._rows[key] = value
        return key, known is None or _order(best)[:2] > _order(known)[:2]

    def find(self, user_id: str, topic_id: str) -> StoredMark | None:
        """Returns a mark, None where none is stored."""
        return self.row(mark_key(user_id, topic_id))

    def expire(self, now_ms: int, keep_ms: int, member_epoch: Callable[[str, str], int]) -> Iterator[list[bytes]]:
        """Forgets marks of memberships that ended, once nothing was heard of them for `keep_ms`; yields their keys.

        By then the records of the inbox log that named them are gone too.
        """
        since_s = (now_ms - keep_ms) // 1_000

        def ends(key: bytes, mark: StoredMark) -> bool:
            return mark.heard_s < since_s and mark.epoch != member_epoch(*user_topic_of(FAMILY, key))

        yield from self.sweep(ends)


def mark_key(user_id: str, topic_id: str) -> bytes:
    """Returns the key of the mark of a user in a topic."""
    return user_topic_key(FAMILY, user_id, topic_id)


def _order(mark: StoredMark) -> tuple[int, int, int]:
    return mark.epoch, mark.seq, mark.n
