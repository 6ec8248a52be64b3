"""The dead letters of a shard's deliveries, built from its dead-letter log and kept in its snapshots as pairs.

The pair of the key OFFSET_KEY says up to which offset of the log they were read. All pairs are written at the instant
of a snapshot as they are then, so an owner that restores them reads on from there.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import msgspec

from headgate.core.delivery.dead_letter_record import DeadLetter, DeadLetterRecord, LetterAdded, decode_letter
from headgate.core.delivery.dead_letter_store import DeadLetterStore
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.records import Record

LETTERS: Final = 10_000  # of a shard
LETTERS_BYTES: Final = 16 << 20
TOPIC_LETTERS: Final = 1_000
TOPIC_BYTES: Final = 4 << 20
PREFIX: Final = b"\0dead-letter\0"  # no user id is empty, so that no pair of the inbox begins so
OFFSET_KEY: Final = PREFIX + b"offset"

_encoder = msgspec.msgpack.Encoder()


class _Pair(msgspec.Struct, array_like=True):
    letter: DeadLetter
    replayed: bool


_decoder: msgspec.msgpack.Decoder[_Pair] = msgspec.msgpack.Decoder(_Pair)


class OpenLetters:
    """The letters of one shard. `next_offset` is that of its dead-letter log up to which everything was applied.

    `changes` counts letters that changed, came or went; `restored` is False while no snapshot has said an offset.
    """

    def __init__(self) -> None:
        self.store = DeadLetterStore(LETTERS, capacity_bytes=LETTERS_BYTES, of_topic=(TOPIC_LETTERS, TOPIC_BYTES))
        self.next_offset = 0
        self.changes = 0
        self.restored = False
        self._sorted = True

    def apply(self, record: Record) -> tuple[DeadLetterRecord, list[bytes]] | None:
        """Takes one record of the log: returns it and the keys of the pairs that changed, None where it is not ours.

        A record that the log holds for others changes nothing: one that could not be used, or a broker's. Raises
        CorruptRecord; the offset is passed all the same.
        """
        self.next_offset = max(self.next_offset, record.offset + 1)
        found = decode_letter(record.value)
        if isinstance(found, LetterAdded) and found.letter.seq <= 0:
            return None
        self.settle()
        return found, self._changed(self.store.apply(found))

    def settle(self) -> None:
        """Finds out which letters are the oldest, after pairs were loaded."""
        if not self._sorted:
            self.store.sort()
            self._sorted = True

    def drop(self, letter_ids: Iterable[str]) -> list[bytes]:
        """Forgets letters, of a deleted topic or too old; returns the keys of their pairs."""
        return self._changed(self.store.drop(letter_ids))

    def blank(self, topic: str, epoch: int, seqs: Collection[int]) -> list[bytes]:
        """Messages were redacted: nothing that a receiver said about them stays. Returns the keys that changed."""
        letters = [letter for letter in self.store.of_topic(topic) if letter.epoch == epoch and letter.seq in seqs]
        return self._changed([letter.id for letter in letters if self.store.blank(letter.id)])

    def _changed(self, letter_ids: list[str]) -> list[bytes]:
        self.changes += len(letter_ids)
        return [pair_key(letter_id) for letter_id in letter_ids]

    # As pairs of a snapshot

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields the keys of all pairs, at most `size` at a time; anything may change between two of them."""
        found = [OFFSET_KEY, *(pair_key(letter.id) for letter in self.store)]
        for at in range(0, len(found), size):
            yield found[at : at + size]

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a pair's value, None for one that is not there."""
        if key == OFFSET_KEY:
            return b"%d" % self.next_offset
        letter = self.store.get(_id_of(key))
        return None if letter is None else _encoder.encode(_Pair(letter, self.store.is_replayed(letter.id)))

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a pair of a snapshot; None takes it away. Raises CorruptRecord."""
        try:
            if key == OFFSET_KEY:
                self.next_offset, self.restored = int(value or b"0"), True
            elif value is None:
                self.store.drop([_id_of(key)])
            else:
                pair = _decoder.decode(value)
                self.store.put(pair.letter, replayed=pair.replayed)
                self._sorted = False
        except (msgspec.DecodeError, ValueError) as error:
            raise CorruptRecord(f"the snapshot's pair of a dead letter: {error}") from None


def pair_key(letter_id: str) -> bytes:
    """Returns the key of a letter among the pairs of a snapshot."""
    return PREFIX + letter_id.encode()


def _id_of(key: bytes) -> str:
    return key[len(PREFIX) :].decode()
