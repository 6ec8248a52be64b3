"""The letters of a shard: only deliveries of a server, and the same again from pairs and the rest of the log."""

import pytest

from headgate.core.delivery.dead_letter_record import (
    DeadLetter,
    DeadLetterRecord,
    LetterAdded,
    LetterEnded,
    LetterReplayed,
    RefusedRecord,
    delivery_letter_id,
    encode_letter,
    refused_letter,
)
from headgate.core.delivery.open_letters import OFFSET_KEY, TOPIC_LETTERS, OpenLetters, pair_key
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.records import Record
from tests.core.delivery.test_dead_letter_store import letter as of_broker


def delivery(seq: int, user: str = "ann", topic: str = "t", error: str = "e") -> DeadLetter:
    letter_id = delivery_letter_id(topic, (7, seq), (user, "", ""))
    return DeadLetter(
        id=letter_id,
        topic=topic,
        reason="max_attempts",
        at=float(seq),
        epoch=7,
        seq=seq,
        user_id=user,
        last_error=error,
    )


def record(offset: int, found: DeadLetterRecord) -> Record:
    return Record(offset, 1_000, b"t", encode_letter(found))


def letters_of(*found: DeadLetterRecord) -> OpenLetters:
    letters = OpenLetters()
    for offset, one in enumerate(found):
        letters.apply(record(offset, one))
    return letters


def pairs_of(letters: OpenLetters) -> dict[bytes, bytes | None]:
    return {key: letters.encoded(key) for keys in letters.keys(2) for key in keys}


def test_letters_of_others_in_the_log_change_nothing_and_are_passed() -> None:
    letters = OpenLetters()
    refused = refused_letter(RefusedRecord(0, 1, 1, b"t", b"x"), "corrupt", "", 1)
    for offset, found in enumerate((LetterAdded(of_broker(1)), LetterAdded(refused))):
        assert letters.apply(record(offset, found)) is None
    assert letters.apply(record(2, LetterEnded(of_broker(1).id, "t", "purged"))) == (
        LetterEnded(of_broker(1).id, "t", "purged"),
        [],
    )
    with pytest.raises(CorruptRecord):
        letters.apply(Record(3, 1, b"t", b"{"))
    assert (letters.next_offset, letters.changes, len(letters.store)) == (4, 0, 0)


def test_a_record_tells_which_pairs_it_changed() -> None:
    letters = OpenLetters()
    assert letters.apply(record(0, LetterAdded(delivery(1)))) == (LetterAdded(delivery(1)), [pair_key(delivery(1).id)])
    assert letters.apply(record(1, LetterAdded(delivery(1)))) == (LetterAdded(delivery(1)), [])
    assert letters.changes == 1
    for seq in range(2, TOPIC_LETTERS + 1):
        letters.apply(record(seq, LetterAdded(delivery(seq))))
    newest = delivery(TOPIC_LETTERS + 1)
    found = letters.apply(record(TOPIC_LETTERS + 1, LetterAdded(newest)))
    assert found is not None
    assert found[1] == [pair_key(newest.id), pair_key(delivery(1).id)], "the oldest made room"


def test_pairs_and_the_rest_of_the_log_give_the_same_letters() -> None:
    first: list[DeadLetterRecord] = [LetterAdded(delivery(n)) for n in (3, 1, 2)]
    first.append(LetterReplayed(delivery(2).id, "t"))
    rest: list[DeadLetterRecord] = [LetterEnded(delivery(1).id, "t", "purged"), LetterAdded(delivery(4, "bob"))]
    old, new = letters_of(*first), OpenLetters()
    assert not new.restored
    for key, value in pairs_of(old).items():
        new.load(key, value)
    assert (new.restored, new.next_offset) == (True, 4)
    for offset, found in enumerate(rest, 4):
        old.apply(record(offset, found))
        new.apply(record(offset, found))
    assert pairs_of(new) == pairs_of(old)
    assert new.store.replayed("t") == [delivery(2)]
    assert [one.seq for one in new.store] == [2, 3, 4], "the oldest are known as such"


def test_a_pair_of_a_letter_that_has_gone_takes_it_away() -> None:
    letters = letters_of(LetterAdded(delivery(1)))
    letters.load(pair_key(delivery(1).id), None)
    assert len(letters.store) == 0
    assert letters.encoded(pair_key(delivery(1).id)) is None
    for key in (OFFSET_KEY, pair_key("x")):
        with pytest.raises(CorruptRecord):
            letters.load(key, b"\xc1")


def test_a_redaction_empties_what_receivers_said_of_that_message() -> None:
    letters = letters_of(*(LetterAdded(delivery(seq, user)) for seq in (1, 2) for user in ("ann", "bob")))
    assert letters.blank("t", 8, {1}) == []
    assert letters.blank("t", 7, {1, 9}) == [pair_key(delivery(1, "ann").id), pair_key(delivery(1, "bob").id)]
    assert letters.blank("t", 7, {1}) == []
    assert [(one.seq, one.last_error) for one in letters.store] == [(1, ""), (1, ""), (2, "e"), (2, "e")]
    assert letters.changes == 6
    assert letters.drop([delivery(2).id, "?"]) == [pair_key(delivery(2).id)]
    assert letters.changes == 7
