"""The dead-letter store: once each, bounded, and the same again from its records."""

import msgspec
import pytest

from headgate.core.delivery.dead_letter_store import (
    NO_ATTEMPTS_LEFT,
    DeadLetter,
    DeadLetterRecord,
    DeadLetterStore,
    LetterAdded,
    LetterRemoved,
)


def letter(message_id: int, subscriber: str = "billing", topic: str = "orders", error: str = "e") -> DeadLetter:
    return DeadLetter(topic, message_id, subscriber, 3, NO_ATTEMPTS_LEFT, error, 1.0, 0.0, {"n": message_id})


def test_one_for_each_message_and_subscriber_and_the_first_wins() -> None:
    store = DeadLetterStore()
    assert store.apply(LetterAdded(letter(1, error="first")))
    assert not store.apply(LetterAdded(letter(1, error="second")))
    assert store.apply(LetterAdded(letter(1, "audit")))
    assert store.apply(LetterAdded(letter(1, topic="refunds")))
    assert [(found.topic, found.subscriber, found.last_error) for found in store] == [
        ("orders", "billing", "first"),
        ("orders", "audit", "e"),
        ("refunds", "billing", "e"),
    ]


def test_find() -> None:
    store = DeadLetterStore()
    for one in (letter(1), letter(2, "audit"), letter(3, topic="refunds")):
        store.apply(LetterAdded(one))
    assert [found.message_id for found in store.find()] == [1, 2, 3]
    assert [found.message_id for found in store.find(topic="orders")] == [1, 2]
    assert [found.message_id for found in store.find(subscriber="billing")] == [1, 3]
    assert store.find("orders", "nobody") == []


def test_removed_and_added_again() -> None:
    store = DeadLetterStore()
    store.apply(LetterAdded(letter(1)))
    assert store.apply(LetterRemoved(*letter(1).id, why="replayed"))
    assert not store.apply(LetterRemoved(*letter(1).id, why="replayed"))
    assert store.get(letter(1).id) is None
    store.apply(LetterAdded(letter(2)))
    assert store.get(letter(2).id) == letter(2)
    assert store.apply(LetterAdded(letter(1)))


def test_bounded_the_oldest_makes_room_and_is_counted() -> None:
    store = DeadLetterStore(capacity=2)
    for n in (1, 2, 3):
        store.apply(LetterAdded(letter(n)))
    assert [found.message_id for found in store] == [2, 3]
    assert (len(store), store.evicted) == (2, 1)
    store.apply(LetterAdded(letter(4)))
    assert ([found.message_id for found in store], store.evicted) == ([3, 4], 2)
    with pytest.raises(ValueError, match="at least 1"):
        DeadLetterStore(0)


def test_the_records_read_back_give_the_same_store() -> None:
    records: list[DeadLetterRecord] = [
        LetterAdded(letter(1)),
        LetterAdded(letter(2)),
        LetterRemoved(*letter(1).id, why="purged"),
        LetterAdded(letter(2, error="again")),
        LetterAdded(letter(3)),
    ]
    live, restored = DeadLetterStore(), DeadLetterStore()
    for record in records:
        live.apply(record)
        restored.apply(msgspec.json.decode(msgspec.json.encode(record), type=DeadLetterRecord))
    assert list(restored) == list(live)


def test_a_store_of_one_keeps_the_newest() -> None:
    store = DeadLetterStore(capacity=1)
    for n in (1, 2):
        store.apply(LetterAdded(letter(n)))
    assert [found.message_id for found in store] == [2]


def test_without_a_capacity_the_newest_thousand_are_kept() -> None:
    store = DeadLetterStore()
    for n in range(1_001):
        store.apply(LetterAdded(letter(n)))
    assert (len(store), store.evicted) == (1_000, 1)


def test_the_records_of_the_first_release_are_read() -> None:
    """Their bytes are in logs on disk: neither the tags nor the members may change."""
    old: list[bytes] = [
        b'{"op":"buried","letter":{"topic":"orders","message_id":1,"subscriber":"billing","attempts":3,'
        b'"reason":"max_attempts","last_error":"e","at":1.0,"created_ts":0.0,"payload":{"n":1},"key":null,"group":null}}',
        b'{"op":"removed","topic":"orders","message_id":1,"subscriber":"billing","why":"replayed"}',
    ]
    records = [msgspec.json.decode(line, type=DeadLetterRecord) for line in old]
    assert records == [LetterAdded(letter(1)), LetterRemoved(*letter(1).id, why="replayed")]
    assert [msgspec.json.encode(record) for record in records] == old
