"""Records of the inbox log as bytes: readable, bounded, and what is none says so."""

import json
from typing import Any

import pytest

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import (
    MEMBERSHIP_BYTES,
    RECORD_BYTES,
    CursorsRecord,
    HeadEntry,
    HeadsRecord,
    MarkEntry,
    MarksRecord,
    MembershipRecord,
    decode_inbox,
    encode_cursor,
    encode_head,
    encode_inbox,
    encode_mark_entry,
    records_of_cursors,
    records_of_heads,
    records_of_marks,
)
from headgate.core.wire.link_acks import MAX_CURSORS, WINDOW, Cursor
from headgate.core.wire.link_inbox import ReadMark


def test_an_operator_can_read_a_membership_in_the_log() -> None:
    found = MembershipRecord("room", 5, 9, "member", 7, 6, 1_000)
    value = encode_inbox(found)
    assert value == (
        b'{"op":"membership","topic_id":"room","epoch":5,"offset":9,"role":"member",'
        b'"joined_seq":7,"joined_n":6,"joined_at":1000}'
    )
    assert decode_inbox(value) == found


def test_one_who_left_has_no_role() -> None:
    found = decode_inbox(b'{"op":"membership","topic_id":"t","epoch":5,"offset":9}')
    assert isinstance(found, MembershipRecord) and found.role == ""


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b'{"op":"x"}', b"[" * 5_000, b" " * (RECORD_BYTES + 1)])
def test_anything_else_is_corrupt(value: bytes | None) -> None:
    with pytest.raises(CorruptRecord):
        decode_inbox(value)


def test_the_longest_record_fits() -> None:
    most = (1 << 63) - 1
    assert len(encode_inbox(MembershipRecord("t" * 128, most, most, "subscriber", most, most, most))) < MEMBERSHIP_BYTES


def test_a_membership_that_is_far_too_long_is_corrupt() -> None:
    with pytest.raises(CorruptRecord, match="a membership of"):
        decode_inbox(encode_inbox(MembershipRecord("t" * MEMBERSHIP_BYTES, 1, 1)))


def test_an_operator_can_read_cursors_in_the_log() -> None:
    plain, failing = Cursor("ann", "phone", "room", 7, 5), Cursor("bob", "default", "room", 7, 4, [6, 7], [(5, 2)])
    ((value, count),) = records_of_cursors([encode_cursor(plain), encode_cursor(failing)])
    assert (value, count) == (
        b'{"op":"cursors","cursors":[{"user_id":"ann","device_id":"phone","topic_id":"room","epoch":7,"seq":5},'
        b'{"user_id":"bob","device_id":"default","topic_id":"room","epoch":7,"seq":4,"above":[6,7],"attempts":[[5,2]]}]}',
        2,
    )
    found = decode_inbox(value)
    assert isinstance(found, CursorsRecord)
    assert [Cursor(*fields(entry)) for entry in found.cursors] == [plain, failing]


def fields(entry: object) -> list[Any]:
    return [getattr(entry, name) for name in Cursor.__struct_fields__]


MOST = (1 << 53) - 1


def test_cursors_of_any_length_are_cut_into_records_and_none_is_lost() -> None:
    """The longest that a gateway may send: 128 characters of four bytes, a whole window of failures."""
    lists = list(range(MOST - WINDOW, MOST)), [(seq, MOST) for seq in range(MOST - WINDOW, MOST)]
    entries = [encode_cursor(Cursor("\U0001f600" * 128, "d" * 128, f"{n:0128}", MOST, MOST, *lists)) for n in range(20)]
    entries += [encode_cursor(Cursor(f"u{n}", "d", "t", 1, n)) for n in range(MAX_CURSORS)]
    records = list(records_of_cursors(entries))
    assert max(len(value) for value, _ in records) <= RECORD_BYTES
    assert min(len(value) for value, _ in records[:-1]) > RECORD_BYTES - max(map(len, entries)) - 1, "as few as can be"
    users = []
    for value, count in records:
        found = decode_inbox(value)
        assert isinstance(found, CursorsRecord) and len(found.cursors) == count
        users += [(entry.user_id, entry.topic_id) for entry in found.cursors]
    assert len(set(users)) == len(users) == 20 + MAX_CURSORS
    assert list(records_of_cursors([])) == []


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor("", "d", "t", 1, 1),
        Cursor("u" * 129, "d", "t", 1, 1),
        Cursor("a\0b", "d", "t", 1, 1),
        Cursor("u", "d\0", "t", 1, 1),
        Cursor("u", "d", "\0", 1, 1),
        Cursor("u", "d", "t", 1, -1),
        Cursor("u", "d", "t", MOST + 1, 1),
        Cursor("u", "d", "t", 1, 1, list(range(2, WINDOW + 3))),
        Cursor("u", "d", "t", 1, 1, [], [(2, -1)]),
    ],
)
def test_a_cursor_that_no_reader_would_take_never_gets_into_a_record(cursor: Cursor) -> None:
    with pytest.raises(CorruptRecord):
        encode_cursor(cursor)


def test_an_operator_can_read_heads_in_the_log() -> None:
    heads = [HeadEntry("room", 7, 5, 4, 1_000, True), HeadEntry("old", 3, 2, 2, gone=True)]
    ((value, count),) = records_of_heads(6, [encode_head(head) for head in heads])
    assert (value, count) == (
        b'{"op":"heads","shard":6,"heads":[{"topic_id":"room","epoch":7,"seq":5,"n":4,"ts":1000,"hot":true},'
        b'{"topic_id":"old","epoch":3,"seq":2,"n":2,"gone":true}]}',
        2,
    )
    assert decode_inbox(value) == HeadsRecord(6, heads)


def test_an_operator_can_read_marks_in_the_log() -> None:
    ((value, count),) = records_of_marks([encode_mark_entry(ReadMark("ann", "room", 7, 5, 4))])
    assert (value, count) == (
        b'{"op":"marks","marks":[{"user_id":"ann","topic_id":"room","epoch":7,"seq":5,"n":4}]}',
        1,
    )
    assert decode_inbox(value) == MarksRecord([MarkEntry("ann", "room", 7, 5, 4)])


def test_heads_and_marks_of_any_length_are_cut_into_records_and_none_is_lost() -> None:
    heads = [encode_head(HeadEntry(f"{n:0128}", MOST, MOST, MOST, MOST, True, True)) for n in range(2_000)]
    marks = [encode_mark_entry(ReadMark("\U0001f600" * 128, f"{n:0128}", MOST, MOST, MOST)) for n in range(500)]
    for records in (list(records_of_heads(1_023, heads)), list(records_of_marks(marks))):
        assert len(records) > 1 and max(len(value) for value, _ in records) <= RECORD_BYTES
        for value, count in records:
            found = decode_inbox(value)
            assert isinstance(found, HeadsRecord | MarksRecord)
            assert len(found.heads if isinstance(found, HeadsRecord) else found.marks) == count
    assert max(map(len, heads)) <= 1_024 and max(map(len, marks)) <= 2_048
    assert list(records_of_heads(0, [])) == list(records_of_marks([])) == []


@pytest.mark.parametrize(
    "head",
    [HeadEntry("", 1, 1, 1), HeadEntry("t\0", 1, 1, 1), HeadEntry("t", -1, 1, 1), HeadEntry("t", 1, MOST + 1, 1)],
)
def test_a_head_that_no_reader_would_take_never_gets_into_a_record(head: HeadEntry) -> None:
    with pytest.raises(CorruptRecord):
        encode_head(head)


@pytest.mark.parametrize(("escaped", "is_taken"), [(r"\u0000", False), (r"\\u0000", True), (r"\\\u0000", False)])
@pytest.mark.parametrize("field", ["topic_id", "device_id"])
def test_an_id_with_an_escaped_nul_is_corrupt_and_one_that_only_looks_so_is_not(
    escaped: str, is_taken: bool, field: str
) -> None:
    entry = {"user_id": "u", "device_id": "d", "topic_id": "t", "epoch": 1, "seq": 1} | {field: "ID"}
    value = json.dumps({"op": "cursors", "cursors": [entry]}).replace("ID", f"a{escaped}b").encode()
    if is_taken:
        found = decode_inbox(value)
        assert isinstance(found, CursorsRecord) and getattr(found.cursors[0], field) == r"a\u0000b"
    else:
        with pytest.raises(CorruptRecord):
            decode_inbox(value)


@pytest.mark.parametrize(
    "mark", [ReadMark("", "t", 1, 1, 1), ReadMark("u", "\0", 1, 1, 1), ReadMark("u", "t", 1, 1, MOST + 1)]
)
def test_a_mark_that_no_reader_would_take_never_gets_into_a_record(mark: ReadMark) -> None:
    with pytest.raises(CorruptRecord):
        encode_mark_entry(mark)
