"""Packed rows: as a snapshot holds them, swept in slices, and never loaded when they are none."""

import msgspec
import pytest

from headgate.core.inbox import packed_rows
from headgate.core.inbox.packed_rows import PackedRows, packed, user_topic_key, user_topic_of
from headgate.core.wire.errors import CorruptRecord


def rows_of(count: int) -> PackedRows[int]:
    rows = PackedRows[int](int, "number")
    for n in range(count):
        rows.load(b"\0x%d" % n, packed(n))
    return rows


def test_rows_are_found_by_key_and_go_to_another_object_as_bytes() -> None:
    rows, other = rows_of(5), PackedRows[int](int, "number")
    assert (len(rows), rows.row(b"\0x3"), rows.row(b"\0x9"), b"\0x3" in rows, b"\0x9" in rows) == (
        5,
        3,
        None,
        True,
        False,
    )
    for some in rows.keys(2):
        assert len(some) <= 2
        for key in some:
            other.load(key, rows.encoded(key))
    assert [other.row(b"\0x%d" % n) for n in range(5)] == list(range(5))
    other.load(b"\0x3", None)
    other.load(b"\0x3", None)
    assert (len(other), other.encoded(b"\0x3")) == (4, None)


def test_what_is_no_row_is_not_loaded() -> None:
    rows = rows_of(1)
    with pytest.raises(CorruptRecord, match="the snapshot's number at"):
        rows.load(b"\0x0", msgspec.msgpack.encode("no"))
    assert rows.row(b"\0x0") == 0


def test_a_sweep_goes_in_slices_and_rows_may_go_and_come_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_rows, "SLICE_ROWS", 3)
    rows = rows_of(7)
    gone = []
    for keys in rows.sweep(lambda key, row: row % 2 == 0 and key != b"\0x6"):
        gone.append(keys)
        rows.load(b"\0x4", None)
        rows.load(b"\0x8", packed(8))
    assert gone == [[b"\0x0", b"\0x2"], [], []]
    assert [key for some in rows.keys(9) for key in some] == [b"\0x1", b"\0x3", b"\0x5", b"\0x6", b"\0x8"]


def test_the_ids_of_a_key_are_those_that_made_it() -> None:
    assert user_topic_of(b"\0x", user_topic_key(b"\0x", "bob", "t:1")) == ("bob", "t:1")
    assert user_topic_of(b"", user_topic_key(b"", "\x01group", "t")) == ("\x01group", "t")
