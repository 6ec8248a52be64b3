"""The users of a shard: their topics, cursors and read marks, and the heads of these topics, built from the inbox log.

Merge-only: any order of the records, and any repeat, gives the same.
"""

from collections.abc import Iterator, Mapping
from heapq import nsmallest
from itertools import chain
from typing import Any, NamedTuple

from headgate.core.inbox import cursors, read_marks, topic_heads
from headgate.core.inbox.cursors import DeviceCursors, Expiry, IsHeld
from headgate.core.inbox.memberships import Memberships, UserTopic, pair_key
from headgate.core.inbox.packed_rows import SEPARATOR, SLICE_ROWS, PackedRows
from headgate.core.inbox.read_marks import ReadMarks
from headgate.core.inbox.topic_heads import TopicHeads
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import (
    CursorsRecord,
    HeadsRecord,
    InboxRecord,
    MarksRecord,
    MembershipRecord,
    decode_inbox,
)
from headgate.core.wire.records import Record


class InboxChanges(NamedTuple):
    """What a record changed: keys of pairs, topics with new messages, and (user, topic) of which more was read."""

    keys: list[bytes]
    moved: list[str]
    read: list[tuple[str, str]]


class UserTopics:
    """Topics by user, and all that belongs to them. `next_offset` is that up to which the inbox log was applied.

    `changes` counts the records that changed something, and the rows that ended. A membership whose epoch a head has
    ended is not shown any longer, and dropped by `expire`.
    """

    def __init__(self) -> None:
        self.next_offset = 0
        self.changes = 0
        self.memberships = Memberships()
        self.cursors = DeviceCursors()
        self.marks = ReadMarks()
        self.heads = TopicHeads()
        self._rows: Mapping[bytes, PackedRows[Any]] = {
            cursors.FAMILY: self.cursors,
            read_marks.FAMILY: self.marks,
            topic_heads.FAMILY: self.heads,
        }

    def apply(self, record: Record) -> InboxChanges:
        """Takes one record of the inbox log. Raises CorruptRecord; the offset is passed all the same."""
        self.next_offset = max(self.next_offset, record.offset + 1)
        changes = self._merge(record, decode_inbox(record.value))
        self.changes += bool(changes.keys)
        return changes

    def _merge(self, record: Record, found: InboxRecord) -> InboxChanges:
        changes = InboxChanges([], [], [])
        if isinstance(found, CursorsRecord):
            changes.keys.extend([self.cursors.merge(entry, record.ts) for entry in found.cursors])
        elif isinstance(found, MembershipRecord):
            key = self.memberships.merge(_user_of(record, found), found)
            changes.keys.extend([] if key is None else [key])
        elif isinstance(found, HeadsRecord):
            self._merge_heads(record, found, changes)
        else:
            self._merge_marks(record, found, changes)
        return changes

    def _merge_heads(self, record: Record, found: HeadsRecord, changes: InboxChanges) -> None:
        for entry in found.heads:
            key, moved = self.heads.merge(entry, record)
            if key is not None:
                changes.keys.append(key)
            if moved:
                changes.moved.append(entry.topic_id)

    def _merge_marks(self, record: Record, found: MarksRecord, changes: InboxChanges) -> None:
        for entry in found.marks:
            key, rose = self.marks.merge(entry, record.ts)
            if key is not None:
                changes.keys.append(key)
            if rose:
                changes.read.append((entry.user_id, entry.topic_id))

    # -- memberships, as far as their epochs have not ended

    def membership(self, user_id: str, topic_id: str) -> UserTopic | None:
        """Returns the user's membership of a topic, None where he is no member."""
        row = self.memberships.row(user_id, topic_id)
        return row if row is not None and row.role and not self._has_ended(topic_id, row) else None

    def _has_ended(self, topic_id: str, row: UserTopic) -> bool:
        head = self.heads.find(topic_id)
        return head is not None and head.ends(row.epoch)

    def count(self, user_id: str) -> int:
        """Returns of how many topics the user is a member."""
        topics = chain.from_iterable(self.memberships.topics(user_id, SLICE_ROWS))
        return sum(self.membership(user_id, topic_id) is not None for topic_id in topics)

    def topics_of(self, user_id: str, after: str, limit: int) -> list[tuple[str, UserTopic]]:
        """Returns at most `limit` topics of which the user is a member, ids above `after`, ascending."""
        topics = chain.from_iterable(self.memberships.topics(user_id, SLICE_ROWS))
        above = (topic_id for topic_id in topics if topic_id > after and self.membership(user_id, topic_id))
        found = [(topic_id, self.membership(user_id, topic_id)) for topic_id in nsmallest(limit, above)]
        return [(topic_id, topic) for topic_id, topic in found if topic is not None]

    # -- what ends

    def expire(self, now_ms: int, keep_ms: int, is_held: IsHeld) -> Iterator[list[bytes]]:
        """Forgets what means nothing any more; yields the keys of what changed, a slice at a time.

        `keep_ms` is how long the inbox log keeps a record: topics that were left, cursors and marks without a
        membership, and heads that ended an epoch stay as long, because a record that is kept may still be read.
        """
        for keys in chain(
            self._expire_memberships(now_ms - keep_ms),
            self.cursors.expire(Expiry(now_ms, keep_ms, self._epoch_of, is_held)),
            self.marks.expire(now_ms, keep_ms, self._epoch_of),
            self.heads.expire(now_ms, keep_ms, self.memberships.members.__contains__),
        ):
            self.changes += len(keys)
            yield keys

    def _expire_memberships(self, before_ms: int) -> Iterator[list[bytes]]:
        """Drops what was left before a time, and memberships of epochs that have ended."""
        for places in self.memberships.places(SLICE_ROWS):
            keys = []
            for user_id, topic_id in places:
                row = self.memberships.row(user_id, topic_id)
                if row is None or (row.joined_at >= before_ms if not row.role else not self._has_ended(topic_id, row)):
                    continue
                self.memberships.drop(user_id, topic_id)
                keys.append(pair_key(user_id, topic_id))
                head = self.heads.ended_one(topic_id) if row.role else None
                keys.extend([] if head is None else [head])
            yield keys

    def _epoch_of(self, user_id: str, topic_id: str) -> int:
        topic = self.membership(user_id, topic_id)
        return 0 if topic is None else topic.epoch

    # -- as pairs of a snapshot

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields the keys of all pairs, at most `size` at a time; anything may change between two of them."""
        for rows in self._rows.values():
            yield from rows.keys(size)
        yield from self.memberships.keys(size)

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a pair's value, None for one that is not there."""
        return self._of(key).encoded(key)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a pair of a snapshot; None takes it away. Raises CorruptRecord."""
        self._of(key).load(key, value)

    def _of(self, key: bytes) -> PackedRows[Any] | Memberships:
        return self._rows.get(key[:2], self.memberships)


def _user_of(record: Record, found: MembershipRecord) -> str:
    """Returns whose membership a record is. Raises CorruptRecord."""
    key = record.key or b""
    try:
        user_id = key.decode()
    except UnicodeDecodeError:
        raise CorruptRecord("the key of an inbox record is a user id in UTF-8") from None
    if not user_id or SEPARATOR in key or "\0" in found.topic_id:
        raise CorruptRecord("the key of an inbox record is a user id")
    return user_id
