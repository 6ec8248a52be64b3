"""Records of the inbox log, as JSON an operator can read in Kafka.

A membership has the user id as its key and is an output of a topic's owner: it names where it comes from. Cursors and
read marks of many users of the shard, and heads of many topics, are one record without a key. All may come twice or
late: whoever reads them keeps the newest membership by source and the maximum of the others, so order and repeats do
not matter.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import msgspec

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link_acks import WINDOW, Cursor
from headgate.core.wire.link_groups import GROUP_DEVICE, GROUP_WINDOW
from headgate.core.wire.link_inbox import ReadMark

MEMBERSHIP_BYTES: Final = 4_096  # far above the longest: ids have at most 128 characters
RECORD_BYTES: Final = 65_536

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]  # without NUL: `_check_no_nul`
# That of a consumer group begins with \x01; see `link_groups`.
_UserId = Annotated[str, msgspec.Meta(min_length=1, pattern="^(?:\x01[^\x00]{1,128}|[^\x00\x01][^\x00]{0,127})$")]
_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]


class MembershipRecord(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="membership", omit_defaults=True):
    """A user's membership of a topic in an epoch; without `role` he is no member any longer.

    `offset` is that of the record in the topic's shard that made it so; `joined_at` is when he joined or, without a
    role, left, in Unix milliseconds.
    """

    topic_id: str
    epoch: int
    offset: int
    role: str = ""
    joined_seq: int = 0
    joined_n: int = 0
    joined_at: int = 0


class CursorEntry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How far a device of a user, or a consumer group, has come in a topic; see `link_acks.Cursor`."""

    user_id: _UserId
    device_id: _Id
    topic_id: _Id
    epoch: _Number
    seq: _Number
    above: Annotated[list[_Number], msgspec.Meta(max_length=GROUP_WINDOW)] = []
    attempts: Annotated[list[tuple[_Number, _Number]], msgspec.Meta(max_length=GROUP_WINDOW)] = []


class CursorsRecord(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="cursors"):
    """Cursors of users of the shard, at most RECORD_BYTES."""

    cursors: list[CursorEntry]


class HeadEntry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a topic is: `n` messages up to `seq`, the newest appended at `ts` (Unix milliseconds).

    `hot` is whether it is delivered by `inbox`. With `gone` it was deleted: all memberships of the epoch have ended.
    """

    topic_id: _Id
    epoch: _Number
    seq: _Number
    n: _Number
    ts: _Number = 0
    hot: bool = False
    gone: bool = False


class HeadsRecord(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="heads"):
    """Topics of one shard that moved: a pointer bundle of at most RECORD_BYTES.

    `shard` is the topics'; the record is in the shard of users who are members of them. Of two heads of a topic the
    higher (epoch, seq) holds, and `gone` ends an epoch.
    """

    shard: int
    heads: list[HeadEntry]


class MarkEntry(msgspec.Struct, frozen=True, gc=False):
    """A user has read a topic up to `seq`; see `link_inbox.ReadMark`."""

    user_id: _UserId
    topic_id: _Id
    epoch: _Number
    seq: _Number
    n: _Number


class MarksRecord(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="marks"):
    """Read marks of users of the shard, at most RECORD_BYTES."""

    marks: list[MarkEntry]


InboxRecord = MembershipRecord | CursorsRecord | HeadsRecord | MarksRecord

_Entry = CursorEntry | HeadEntry | MarkEntry

_decoder: msgspec.json.Decoder[InboxRecord] = msgspec.json.Decoder(InboxRecord)
_encoder = msgspec.json.Encoder()
_entry_decoders: Final[dict[type, msgspec.json.Decoder[Any]]] = {
    entry: msgspec.json.Decoder(entry) for entry in (CursorEntry, HeadEntry, MarkEntry)
}
_END: Final = b"]}"
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an escape that is not escaped itself


def encode_inbox(record: InboxRecord) -> bytes:
    """Returns the value of an inbox record."""
    return _encoder.encode(record)


def decode_inbox(value: bytes | None) -> InboxRecord:
    """Reads the value of an inbox record. Raises CorruptRecord."""
    if not value or len(value) > RECORD_BYTES:
        raise CorruptRecord(f"an inbox record of {len(value or b'')} bytes, expected 1 to {RECORD_BYTES}")
    try:
        found = _decoder.decode(value)
        _check_no_nul(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"inbox record: {error}") from None
    if isinstance(found, MembershipRecord) and len(value) > MEMBERSHIP_BYTES:
        raise CorruptRecord(f"a membership of {len(value)} bytes, expected at most {MEMBERSHIP_BYTES}")
    return found


def encode_cursor(cursor: Cursor) -> bytes:
    """Returns one entry of a record of cursors: at most 12 KB, that of a group 48 KB.

    Raises CorruptRecord for one that nobody would take. A record with one
    bad entry would be lost with all others in it.
    """
    most = GROUP_WINDOW if cursor.device_id == GROUP_DEVICE else WINDOW
    if max(len(cursor.above), len(cursor.attempts)) > most:
        raise CorruptRecord(f"a cursor with more than {most} numbers")
    ids = cursor.user_id, cursor.device_id, cursor.topic_id
    return _entry(CursorEntry(*ids, cursor.epoch, cursor.seq, cursor.above, cursor.attempts))


def encode_head(head: HeadEntry) -> bytes:
    """Returns one entry of a record of heads: at most 1 KB. Raises CorruptRecord for one that nobody would take."""
    return _entry(head)


def encode_mark_entry(mark: ReadMark) -> bytes:
    """Returns one entry of a record of read marks: at most 2 KB. Raises CorruptRecord as `encode_cursor` does."""
    return _entry(MarkEntry(mark.user_id, mark.topic_id, mark.epoch, mark.seq, mark.n))


def records_of_cursors(entries: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yields as few records as hold the entries, in order, each with the number of its entries."""
    return _records(b'{"op":"cursors","cursors":[', entries)


def records_of_heads(shard: int, entries: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Does the same with heads of topics of a shard."""
    return _records(b'{"op":"heads","shard":%d,"heads":[' % shard, entries)


def records_of_marks(entries: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Does the same with read marks."""
    return _records(b'{"op":"marks","marks":[', entries)


def _entry(entry: _Entry) -> bytes:
    value = _encoder.encode(entry)
    try:
        _entry_decoders[type(entry)].decode(value)
        _check_no_nul(value)
    except msgspec.DecodeError as error:
        raise CorruptRecord(f"{type(entry).__name__}: {error}") from None
    return value


def _check_no_nul(value: bytes) -> None:
    """Raises ValidationError where a string has a NUL, which JSON has only as an escape.

    So a record is searched once; a pattern for each id takes as long as all else that is read of a head.
    """
    if b"\\u0000" in value and _NUL.search(value):
        raise msgspec.ValidationError("a string has a NUL")


def _records(begin: bytes, entries: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yields records of at most RECORD_BYTES."""
    some: list[bytes] = []
    size = empty = len(begin) + len(_END)
    for entry in entries:
        if some and size + len(entry) + 1 > RECORD_BYTES:
            yield b"".join((begin, b",".join(some), _END)), len(some)
            some, size = [], empty
        some.append(entry)
        size += len(entry) + 1
    if some:
        yield b"".join((begin, b",".join(some), _END)), len(some)
