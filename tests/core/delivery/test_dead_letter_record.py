"""One format for all that is given up; what earlier releases wrote is read as if it were written today."""

from typing import Any

import msgspec
import pytest

from headgate.core.delivery.dead_letter_record import (
    DONE,
    NO_ATTEMPTS_LEFT,
    DeadLetter,
    DeadLetterRecord,
    LetterAdded,
    LetterEnded,
    LetterReplayed,
    RefusedRecord,
    broker_letter_id,
    decode_letter,
    delivery_letter_id,
    encode_letter,
    refused_letter,
)
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.ids import id_bytes, shard_of, shard_of_id, topic_key

DELIVERY = DeadLetter(
    id=delivery_letter_id("orders", (7, 3), ("ann", "phone", "")),
    topic="orders",
    reason=NO_ATTEMPTS_LEFT,
    at=1_700_000_000.125,
    message_id="0197",
    attempts=3,
    last_error="down",
    epoch=7,
    seq=3,
    user_id="ann",
    device_id="phone",
)
OF_BROKER = DeadLetter(
    id=broker_letter_id("orders", 5, "billing"),
    topic="orders",
    reason=NO_ATTEMPTS_LEFT,
    at=1.0,
    message_id=5,
    attempts=3,
    last_error="e",
    subscriber="billing",
    payload={"n": 1},
)
REFUSED = refused_letter(RefusedRecord(0, 17, 2, b"acme/orders", b"\xff\x00", True), "corrupt", "why", 1_500)


@pytest.mark.parametrize("record", [
    LetterAdded(DELIVERY), LetterAdded(OF_BROKER), LetterAdded(REFUSED),
    LetterReplayed(DELIVERY.id, "orders"), LetterEnded(DELIVERY.id, "orders", DONE),
])  # fmt: skip
def test_every_record_is_json_that_is_read_back_and_has_what_it_has(record: DeadLetterRecord) -> None:
    value = encode_letter(record)
    assert decode_letter(value) == record
    shown: dict[str, Any] = msgspec.json.decode(value)
    assert shown["op"] == ("added" if isinstance(record, LetterAdded) else type(record).__name__.lower()[6:])


def test_an_operator_reads_what_could_not_be_used_and_why() -> None:
    shown = msgspec.json.decode(encode_letter(LetterAdded(REFUSED)))["letter"]
    assert shown == {
        "id": REFUSED.id,
        "topic": "orders",
        "reason": "corrupt",
        "at": 1.5,
        "last_error": "why",
        "record": {"shard": 0, "offset": 17, "items": 2, "key": "YWNtZS9vcmRlcnM=", "value": "/wA=", "cut": True},
    }


def test_the_id_of_every_letter_names_the_shard_of_its_topic_and_differs_by_receiver_and_place() -> None:
    ids = {DELIVERY.id, OF_BROKER.id}
    for place, receiver in (((7, 4), ("ann", "phone", "")), ((8, 3), ("ann", "phone", "")), ((7, 3), ("ann", "", "")),
                            ((7, 3), ("", "", "ann")), ((7, 3), ("annphone", "", ""))):  # fmt: skip
        ids.add(delivery_letter_id("orders", place, receiver))
    assert len(ids) == 7
    for letter_id in ids:
        assert shard_of_id(id_bytes(letter_id), 12) == shard_of(topic_key("orders"), 12)
    assert shard_of_id(id_bytes(REFUSED.id), 12) == shard_of(b"acme/orders", 12)


def test_the_records_of_a_broker_of_the_first_release_are_read() -> None:
    """Their bytes are in logs on disk."""
    old = (
        b'{"op":"buried","letter":{"topic":"orders","message_id":5,"subscriber":"billing","attempts":3,'
        b'"reason":"max_attempts","last_error":"e","at":1.0,"created_ts":0.0,"payload":{"n":1},"key":null,"group":null}}'
    )
    assert decode_letter(old) == LetterAdded(OF_BROKER)
    removed = b'{"op":"removed","topic":"orders","message_id":5,"subscriber":"billing","why":"replayed"}'
    assert decode_letter(removed) == LetterEnded(OF_BROKER.id, "orders", "replayed")


def test_the_records_of_a_dispatcher_of_the_first_release_are_read() -> None:
    old = (
        b'{"id":"0:17","shard":0,"offset":17,"items":2,"at":1500,"reason":"corrupt","detail":"why",'
        b'"key":"YWNtZS9vcmRlcnM=","value":"/wA=","cut":true}'
    )
    assert decode_letter(old) == LetterAdded(REFUSED)
    found = decode_letter(old.replace(b'"/wA="', b"null"))
    assert isinstance(found, LetterAdded)
    assert found.letter.record is not None
    assert found.letter.record.value is None


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"\xff", b'{"op":"later"}', b'{"of":"somebody else"}', b"[" * 9_999]
)
def test_what_nobody_of_ours_wrote_is_said_to_be_so(value: bytes | None) -> None:
    with pytest.raises(CorruptRecord, match="dead-letter record"):
        decode_letter(value)
