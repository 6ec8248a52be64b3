"""Faults that the machine must find: each is planted in what an owner of users reads or merges."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple
from unittest import mock
from weakref import WeakKeyDictionary

import msgspec

from headgate.core.inbox import cursors, read_marks, topic_heads
from headgate.core.inbox.cursors import DeviceCursor
from headgate.core.inbox.users import UserTopics
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import HeadEntry, HeadsRecord, InboxRecord, MembershipRecord, decode_inbox

Change = Callable[[InboxRecord], InboxRecord]


@contextlib.contextmanager
def _reading(change: Change) -> Iterator[None]:
    """Changes every record that owners read from the inbox log."""
    with mock.patch("headgate.core.inbox.users.decode_inbox", lambda value: change(decode_inbox(value))):
        yield


def _heads(record: InboxRecord, change: Callable[[HeadEntry], HeadEntry]) -> InboxRecord:
    if not isinstance(record, HeadsRecord):
        return record
    return HeadsRecord(record.shard, [change(entry) for entry in record.heads])


def edits_counted_as_unread() -> contextlib.AbstractContextManager[None]:
    """`n` counts everything that has a number."""
    return _reading(lambda record: _heads(record, lambda head: msgspec.structs.replace(head, n=head.seq)))


def head_of_the_topic_before() -> contextlib.AbstractContextManager[None]:
    """A head is kept by its topic and number alone, so that of a recreated topic is the old one."""
    runs: WeakKeyDictionary[object, dict[str, HeadEntry]] = WeakKeyDictionary()

    def by_seq(head: HeadEntry) -> HeadEntry:
        highest = runs.setdefault(asyncio.get_running_loop(), {})
        known = highest.get(head.topic_id, head)
        highest[head.topic_id] = known = max(known, head, key=lambda one: one.seq)
        return msgspec.structs.replace(head, seq=known.seq, n=known.n)

    return _reading(lambda record: _heads(record, by_seq))


def left_and_still_sees() -> contextlib.AbstractContextManager[None]:
    """The end of a membership is not read."""

    def joins_only(record: InboxRecord) -> InboxRecord:
        if isinstance(record, MembershipRecord) and not record.role:
            raise CorruptRecord("a planted fault")
        return record

    return _reading(joins_only)


@contextlib.contextmanager
def cursor_goes_back() -> Iterator[None]:
    """Of two cursors the one that was written last wins."""

    def newest(one: DeviceCursor, other: DeviceCursor) -> DeviceCursor:
        return other

    with mock.patch.object(cursors, "merged", newest):
        yield


@contextlib.contextmanager
def not_restored(family: bytes) -> Iterator[None]:
    """A new owner takes these rows from the inbox log only, not from the snapshot."""
    load = UserTopics.load

    def without(users: UserTopics, key: bytes, value: bytes | None) -> None:
        if not key.startswith(family):
            load(users, key, value)

    with mock.patch.object(UserTopics, "load", without):
        yield


class Planted(NamedTuple):
    """A fault and what the machine must say of it."""

    plant: Callable[[], contextlib.AbstractContextManager[None]]
    says: str


PLANTED: Final = {
    "edits counted as unread": Planted(edits_counted_as_unread, "places: .*'unread'"),
    "a cursor that goes back": Planted(cursor_goes_back, "(monotonic|places): .*'cursor_seq'"),
    "the head of a recreated topic": Planted(head_of_the_topic_before, "places: .*'head_seq'"),
    "a member who left and still sees": Planted(left_and_still_sees, "(monotonic|places|missed): "),
    "heads that are not restored": Planted(partial(not_restored, topic_heads.FAMILY), "(monotonic|places): "),
    "read marks that are not restored": Planted(partial(not_restored, read_marks.FAMILY), "(monotonic|places): "),
}
