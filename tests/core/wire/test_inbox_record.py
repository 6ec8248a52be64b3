"""Records of the inbox log as bytes: readable, bounded, and what is none says so."""

import pytest

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import RECORD_BYTES, MembershipRecord, decode_inbox, encode_inbox


def test_an_operator_can_read_a_membership_in_the_log() -> None:
    found = MembershipRecord("room", 5, 9, "member", 7, 6, 1_000)
    value = encode_inbox(found)
    assert value == (
        b'{"op":"membership","topic_id":"room","epoch":5,"offset":9,"role":"member",'
        b'"joined_seq":7,"joined_n":6,"joined_at":1000}'
    )
    assert decode_inbox(value) == found


def test_one_who_left_has_no_role() -> None:
    assert decode_inbox(b'{"op":"membership","topic_id":"t","epoch":5,"offset":9}').role == ""


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b'{"op":"x"}', b"[" * 5_000, b" " * (RECORD_BYTES + 1)])
def test_anything_else_is_corrupt(value: bytes | None) -> None:
    with pytest.raises(CorruptRecord):
        decode_inbox(value)


def test_the_longest_record_fits() -> None:
    most = (1 << 63) - 1
    assert len(encode_inbox(MembershipRecord("t" * 128, most, most, "subscriber", most, most, most))) < RECORD_BYTES
