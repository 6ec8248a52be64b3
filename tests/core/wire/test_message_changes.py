"""Records that change a message, as bytes."""

import json

import pytest

from headgate.core.wire.control import Actor
from headgate.core.wire.envelope import KEYED, Item, Kind, decode, encode_message, is_event
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.ids import id_text
from headgate.core.wire.message_changes import (
    HEAD_BYTES,
    ChangeRecord,
    EditMessage,
    MessageChange,
    ReactToMessage,
    RedactMessage,
    check_event,
    decode_event,
    encode_event,
    event_tail,
    is_reaction_name,
)

ID = bytes(range(16))
ANN = Actor('an"n', 3)
EDIT = EditMessage(7, 7 << 10, 2, ANN)
CHANGES = [
    (EDIT, b'{"a":1}', {"kind": "edit", "target_seq": 7, "version": 3, "payload": {"a": 1}}),
    (RedactMessage(7, 8, True, ANN), b"null", {"kind": "redact", "target_seq": 7, "payload": None}),
    (
        ReactToMessage(7, 8, '+"1', True, ANN),
        b"null",
        {"kind": "reaction", "target_seq": 7, "name": '+"1', "removed": True, "payload": None},
    ),
]


@pytest.mark.parametrize(("change", "payload", "shown"), CHANGES)
def test_a_change_comes_back_as_it_was_written(change: MessageChange, payload: bytes, shown: dict[str, object]) -> None:
    tail = event_tail(ID, change, payload)
    envelope = decode(encode_event(change, tail, 5, ID, KEYED))
    assert is_event(encode_event(change, tail, 5, ID)) and not is_event(encode_message(Item(ID, 0, tail), 5))
    assert (envelope.kind, envelope.id, envelope.epoch, envelope.flags) == (Kind.EVENT, ID, 5, KEYED)
    record = decode_event(envelope.body)
    assert record == (change, tail)
    check_event(ID, record)
    assert json.loads(b"{" + tail) == {"message_id": id_text(ID), "publisher_id": 'an"n', **shown}


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\2{}", b"\0\0\0\3{}x", b"\0\0\0\2{}tail"])
def test_a_body_that_cannot_be_read_is_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptRecord):
        decode_event(body)


def test_a_head_above_the_bound_is_corrupt() -> None:
    long = RedactMessage(1, 1, True, Actor("x" * HEAD_BYTES, 0))
    with pytest.raises(CorruptRecord, match="head"):
        decode_event(decode(encode_event(long, b"{}", 1, ID)).body)


@pytest.mark.parametrize(
    "record",
    [
        ChangeRecord(EDIT, event_tail(bytes(16), EDIT, b"1")),
        ChangeRecord(EDIT, event_tail(ID, EditMessage(7, 7, 3, ANN), b"1")),
        ChangeRecord(EDIT, event_tail(ID, EditMessage(8, 7, 2, ANN), b"1")),
        ChangeRecord(EDIT, event_tail(ID, EditMessage(7, 7, 2, Actor("bob", 3)), b"1")),
        ChangeRecord(EDIT, event_tail(ID, EDIT, b"")),
        ChangeRecord(RedactMessage(7, 7, True, ANN), event_tail(ID, RedactMessage(7, 7, True, ANN), b"1")),
        ChangeRecord(ReactToMessage(7, 7, "", False, ANN), event_tail(ID, ReactToMessage(7, 7, "", False, ANN))),
    ],
)
def test_a_tail_that_says_another_thing_than_its_head_is_corrupt(record: ChangeRecord) -> None:
    with pytest.raises(CorruptRecord):
        check_event(ID, record)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("+1", True),
        ("x" * 32, True),
        ("", False),
        ("x" * 33, False),
        ("a\n", False),
        ("a\x7f", False),
        ("\ud800", False),
    ],
)
def test_names_of_reactions_are_bounded(name: str, good: bool) -> None:
    assert is_reaction_name(name) is good
