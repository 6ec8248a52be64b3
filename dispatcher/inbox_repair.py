"""What the inbox log of a shard of users is told after a loss: memberships, heads, cursors and marks as they are now.

The records are merged by those who read them, so they may come twice.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from dispatcher.backup import lines_of
from dispatcher.backup_lines import CursorLine, MarkLine
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.heat import Heat
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, shard_of, topic_key, user_shard
from headgate.core.wire.inbox_record import (
    HeadEntry,
    MembershipRecord,
    encode_cursor,
    encode_head,
    encode_inbox,
    encode_mark_entry,
    records_of_cursors,
    records_of_heads,
    records_of_marks,
)
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_inbox import ReadMark

KeyValue = tuple[bytes | None, bytes]

_OFFSET: Final = (1 << EPOCH_OFFSET_BITS) - 1
_PLACES: Final = 1_000
_MEMBERS: Final = 1_000


class Topics(NamedTuple):
    """The topics of shard `number` of `shards`, true as of its `next_offset`."""

    number: int
    shards: int
    shard: Shard
    rows: Mapping[bytes, Row]

    def offset_of(self, row: Row) -> int:
        """Returns the offset as of which a membership of a topic is true."""
        return max(self.shard.next_offset - 1, row.epoch & _OFFSET)

    def members(self, key: bytes, row: Row) -> Iterator[tuple[str, Membership]]:
        """Yields the members of a topic."""
        after = ""
        while some := self.shard.members_above(key, row, after, _MEMBERS):
            yield from some
            after = some[-1][0]


def memberships_of(topics: Topics, to: int, users: UserTopics, now_ms: int) -> Iterator[KeyValue]:
    """Yields of which of the topics the users of shard `to` are members, and of which they are not any longer.

    `users` is what is known of these users.
    """
    heads: list[bytes] = []
    for key, row in topics.rows.items():
        here = [found for found in topics.members(key, row) if user_shard(found[0], topics.shards) == to]
        for user_id, found in here:
            member = MembershipRecord(row.topic_id, row.epoch, topics.offset_of(row), found.role, *found[1:])
            yield user_id.encode(), encode_inbox(member)
        if here and row.seq:  # pointers are only written of topics with messages
            hot = row.heat == Heat.INBOX
            heads.append(encode_head(HeadEntry(row.topic_id, row.epoch, row.seq, row.n, 0, hot)))
    gone: dict[str, int] = {}
    for user_id, topic_id in _known(topics, users):
        key, known = topic_key(topic_id), users.memberships.row(user_id, topic_id)
        row_now = topics.rows.get(key)
        if row_now is None:
            gone[topic_id] = max(gone.get(topic_id, 0), known.epoch if known else 0)
        elif topics.shard.membership(key, row_now, user_id) is None:
            left = MembershipRecord(topic_id, row_now.epoch, topics.offset_of(row_now), joined_at=now_ms)
            yield user_id.encode(), encode_inbox(left)
    heads += [encode_head(HeadEntry(topic_id, epoch, 0, 0, gone=True)) for topic_id, epoch in sorted(gone.items())]
    yield from ((None, value) for value, _ in records_of_heads(topics.number, heads))


def _known(topics: Topics, users: UserTopics) -> Iterator[tuple[str, str]]:
    """Yields users with those of their topics that belong to the shard of `topics`."""
    for places in users.memberships.places(_PLACES):
        for user_id, topic_id in places:
            if shard_of(topic_key(topic_id), topics.shards) == topics.number:
                yield user_id, topic_id


def positions_of(before: Mapping[bytes, int], rows: Mapping[bytes, Row], users: UserTopics) -> Iterator[KeyValue]:
    """Yields cursors and read marks of users in the new epochs of topics, at most at the newest message.

    `before` has the epochs that ended. Positions in later ones are those of a recovery that was interrupted.
    """
    cursors: list[bytes] = []
    marks: list[bytes] = []
    for line in lines_of(Shard(), {}, users):
        if not isinstance(line, CursorLine | MarkLine):
            continue
        key = topic_key(line.topic_id)
        row = rows.get(key)
        if row is None or not before[key] <= line.epoch < row.epoch:
            continue
        if isinstance(line, MarkLine):
            marks.append(encode_mark_entry(_mark(line, row)))
        else:
            cursors.append(encode_cursor(_cursor(line, row)))
    yield from ((None, value) for value, _ in records_of_cursors(cursors))
    yield from ((None, value) for value, _ in records_of_marks(marks))


def _mark(line: MarkLine, row: Row) -> ReadMark:
    n = row.n if line.seq >= row.seq else min(line.n, row.n)
    return ReadMark(line.user_id, line.topic_id, row.epoch, min(line.seq, row.seq), n)


def _cursor(line: CursorLine, row: Row) -> Cursor:
    above = [seq for seq in line.above if seq <= row.seq]
    attempts = [entry for entry in line.attempts if entry[0] <= row.seq]
    seq = min(line.seq, row.seq)
    return Cursor(line.user_id, line.device_id, line.topic_id, row.epoch, seq, above, attempts)
