"""Records of an inbox log, and what they make."""

from headgate.core.inbox.inbox_pages import inbox_page, missed_page, whole
from headgate.core.inbox.users import UserTopics
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
from headgate.core.wire.link_inbox import InboxTopic, MissedTopic, ReadMark
from headgate.core.wire.records import Record
from headgate.core.wire.rights import Caller


def joined(user: str, topic: str, epoch: int = 5, source: int = 1, seq: int = 0, n: int = 0) -> Record:
    return Record(
        0, 1_000, user.encode(), encode_inbox(MembershipRecord(topic, epoch, source, "member", seq, n, 1_000))
    )


def left(user: str, topic: str, epoch: int = 5, source: int = 2, at: int = 2_000) -> Record:
    return Record(0, at, user.encode(), encode_inbox(MembershipRecord(topic, epoch, source, joined_at=at)))


def heads(*found: HeadEntry, at: int = 1_000) -> Record:
    ((value, _),) = records_of_heads(0, [encode_head(head) for head in found])
    return Record(0, at, None, value)


def marks(*found: ReadMark, at: int = 1_000) -> Record:
    ((value, _),) = records_of_marks([encode_mark_entry(mark) for mark in found])
    return Record(0, at, None, value)


def cursors(*found: Cursor, at: int = 1_000) -> Record:
    ((value, _),) = records_of_cursors([encode_cursor(cursor) for cursor in found])
    return Record(0, at, None, value)


def users_of(*records: Record) -> UserTopics:
    """What a log of these records makes."""
    users = UserTopics()
    for offset, record in enumerate(records):
        users.apply(placed(record, offset))
    return users


def placed(record: Record, offset: int) -> Record:
    return Record(offset, record.ts, record.key, record.value)


def inbox(
    users: UserTopics, user: str, device: str = "d", after: str = "", limit: int = 100, caller: Caller | None = None
) -> list[InboxTopic]:
    return whole(inbox_page(users, user, device, after, limit, caller))


def missed(
    users: UserTopics, user: str, device: str = "d", after: tuple[int, str] = (-1, ""), limit: int = 100
) -> tuple[list[MissedTopic], bool]:
    return whole(missed_page(users, user, device, after, limit))


def pairs(users: UserTopics) -> dict[bytes, bytes | None]:
    """All that a snapshot holds."""
    return {key: users.encoded(key) for some in users.keys(3) for key in some}


def restored(users: UserTopics) -> UserTopics:
    """What a snapshot gives to another owner."""
    found = UserTopics()
    found.next_offset = users.next_offset
    for key, value in pairs(users).items():
        found.load(key, value)
    return found
