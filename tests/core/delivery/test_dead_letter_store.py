"""The dead-letter store: once each, bounded, replayed and open again, and the same again from its records."""

import pytest

from headgate.core.delivery.dead_letter_record import (
    NO_ATTEMPTS_LEFT,
    DeadLetter,
    DeadLetterRecord,
    LetterAdded,
    LetterEnded,
    LetterReplayed,
    broker_letter_id,
    decode_letter,
    encode_letter,
)
from headgate.core.delivery.dead_letter_store import LETTER_BYTES, DeadLetterStore, size_of


def letter(
    message_id: int, subscriber: str = "billing", topic: str = "orders", error: str = "e", at: float = 1.0
) -> DeadLetter:
    return DeadLetter(
        id=broker_letter_id(topic, message_id, subscriber),
        topic=topic,
        message_id=message_id,
        subscriber=subscriber,
        attempts=3,
        reason=NO_ATTEMPTS_LEFT,
        last_error=error,
        at=at,
        payload={"n": message_id},
    )


def added(*letters: DeadLetter) -> list[DeadLetterRecord]:
    return [LetterAdded(one) for one in letters]


def replayed(one: DeadLetter) -> LetterReplayed:
    return LetterReplayed(one.id, one.topic)


def ended(one: DeadLetter, why: str = "purged") -> LetterEnded:
    return LetterEnded(one.id, one.topic, why)


def store_of(*records: DeadLetterRecord, store: DeadLetterStore | None = None) -> DeadLetterStore:
    store = DeadLetterStore() if store is None else store
    for record in records:
        store.apply(record)
    return store


def numbers(store: DeadLetterStore) -> list[int | str]:
    return [found.message_id for found in store]


def test_one_for_each_message_and_subscriber_and_the_first_wins() -> None:
    store = DeadLetterStore()
    assert store.apply(LetterAdded(letter(1, error="first"))) == [letter(1).id]
    assert not store.apply(LetterAdded(letter(1, error="second")))
    assert store.apply(LetterAdded(letter(1, "audit")))
    assert store.apply(LetterAdded(letter(1, topic="refunds")))
    assert [(found.topic, found.subscriber, found.last_error) for found in store] == [
        ("orders", "billing", "first"),
        ("orders", "audit", "e"),
        ("refunds", "billing", "e"),
    ]


def test_find() -> None:
    store = store_of(*added(letter(1), letter(2, "audit"), letter(3, topic="refunds")))
    assert [found.message_id for found in store.find()] == [1, 2, 3]
    assert [found.message_id for found in store.find(topic="orders")] == [1, 2]
    assert [found.message_id for found in store.find(subscriber="billing")] == [1, 3]
    assert store.find("orders", "nobody") == []
    assert store.topics() == ["orders", "refunds"]
    store.apply(ended(letter(3, topic="refunds")))
    assert store.topics() == ["orders"], "a topic without letters costs nothing"


def test_ended_and_added_again() -> None:
    store = store_of(*added(letter(1)))
    assert store.apply(ended(letter(1), "replayed")) == [letter(1).id]
    assert not store.apply(ended(letter(1), "replayed"))
    assert store.get(letter(1).id) is None
    store.apply(LetterAdded(letter(2)))
    assert store.get(letter(2).id) == letter(2)
    assert store.apply(LetterAdded(letter(1)))


def test_a_letter_that_is_being_replayed_is_not_open_until_it_is_given_up_again() -> None:
    store = store_of(*added(letter(1), letter(2)))
    assert store.apply(replayed(letter(1))) == [letter(1).id]
    assert store.apply(replayed(letter(1))) == []
    assert not store.apply(replayed(letter(9)))
    assert (store.is_replayed(letter(1).id), store.open_count, len(store)) == (True, 1, 2)
    assert (store.replayed("orders"), store.replayed("refunds")) == ([letter(1)], [])
    assert store.apply(LetterAdded(letter(1, error="again"))) == [letter(1).id]
    assert (store.replayed("orders"), store.open_count) == ([], 2)
    assert [found.last_error for found in store] == ["e", "again"], "one entry, as the newest try has it"
    store.apply(replayed(letter(2)))
    assert store.apply(ended(letter(2), "done"))
    assert (store.open_count, len(store)) == (1, 1)


def test_bounded_the_oldest_makes_room_and_is_counted() -> None:
    store = store_of(*added(letter(1), letter(2), letter(3)), store=DeadLetterStore(2))
    assert numbers(store) == [2, 3]
    assert (len(store), store.evicted) == (2, 1)
    assert store.apply(LetterAdded(letter(4))) == [letter(4).id, letter(2).id]
    assert (numbers(store), store.evicted) == ([3, 4], 2)
    with pytest.raises(ValueError, match="at least 1"):
        DeadLetterStore(0)


def test_one_topic_makes_room_for_itself_and_leaves_others_alone() -> None:
    store = DeadLetterStore(100, capacity_bytes=1 << 20, of_topic=(2, 1 << 20))
    store_of(*added(letter(1, topic="refunds"), *map(letter, range(1, 5))), store=store)
    assert [(found.topic, found.message_id) for found in store] == [("refunds", 1), ("orders", 3), ("orders", 4)]
    assert store.evicted == 2


@pytest.mark.parametrize("of_topic", [True, False])
def test_bytes_are_bounded_too_and_the_newest_is_always_there(of_topic: bool) -> None:
    room = 3 * LETTER_BYTES
    bounds = (100, room) if of_topic else (100, 1 << 30)
    store = DeadLetterStore(100, capacity_bytes=1 << 30 if of_topic else room, of_topic=bounds)
    store_of(*added(*map(letter, range(1, 6))), store=store)
    assert numbers(store) == [4, 5]
    assert sum(map(size_of, store)) <= room
    store.apply(LetterAdded(letter(6, error="x" * room)))
    assert numbers(store) == [6]
    store_of(ended(letter(6)), *added(letter(7), letter(8)), store=store)
    assert numbers(store) == [7, 8], "what has gone is not counted"


def test_the_records_read_back_give_the_same_store() -> None:
    records: list[DeadLetterRecord] = [
        *added(letter(1), letter(2)),
        ended(letter(1)),
        *added(letter(2, error="again"), letter(3), letter(4)),
        replayed(letter(3)),
        replayed(letter(4)),
        LetterAdded(letter(4, error="failed again")),
    ]
    live, restored = store_of(*records), store_of(*(decode_letter(encode_letter(record)) for record in records))
    assert list(restored) == list(live)
    assert restored.replayed("orders") == live.replayed("orders") == [letter(3)]


def test_a_store_of_one_keeps_the_newest() -> None:
    assert numbers(store_of(*added(letter(1), letter(2)), store=DeadLetterStore(capacity=1))) == [2]


def test_without_a_capacity_the_newest_thousand_are_kept() -> None:
    store = store_of(*added(*map(letter, range(1_001))))
    assert (len(store), store.evicted) == (1_000, 1)


def test_what_was_put_in_any_order_is_sorted_by_its_time_so_that_the_oldest_makes_room() -> None:
    store = DeadLetterStore(3)
    for n in (3, 1, 2):
        store.put(letter(n, at=float(n)), replayed=n == 2)
    store.sort()
    assert (numbers(store), store.replayed("orders")) == ([1, 2, 3], [letter(2, at=2.0)])
    assert store.older(2.0, 9.0) == [letter(1).id]
    store.apply(LetterAdded(letter(4, at=4.0)))
    assert numbers(store) == [2, 3, 4]
    store.put(letter(4, error="other", at=4.0), replayed=False)
    assert [found.last_error for found in store.of_topic("orders")] == ["e", "e", "other"]


def test_a_letter_of_a_clock_that_was_ahead_stays_and_keeps_none_behind_it() -> None:
    store = store_of(
        *added(letter(1, at=1.0), letter(2, at=900.0), letter(3, at=2.0), letter(4, at=5.0), letter(5, at=3.0))
    )
    assert store.older(4.0, 9.0) == [letter(1).id, letter(3).id], "and none behind a young one"


def test_dropped_and_blanked() -> None:
    store = store_of(*added(letter(1, error="secret"), letter(2)))
    assert store.blank(letter(1).id)
    assert not store.blank(letter(1).id)
    assert not store.blank(letter(9).id)
    assert [found.last_error for found in store] == [found.last_error for found in store.find("orders")] == ["", "e"]
    assert store.drop([letter(1).id, letter(9).id]) == [letter(1).id]
    assert (numbers(store), store.open_count) == ([2], 1)
