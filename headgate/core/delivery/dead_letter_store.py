"""Dead letters: deliveries that were given up, kept until a person replays or purges them.

The store changes by applying records, so a log of the records gives the same store when it is read back. The in-process
broker (`headgate/broker/journal.py`) and the owner of a server's shard (`open_letters.py`) have one each.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from headgate.core.delivery.dead_letter_record import DeadLetter, DeadLetterRecord, LetterAdded, LetterEnded

LETTER_BYTES: Final = 1_000  # of a letter in memory, beside its longer texts


class _Kept:
    """The letters of the store or of one topic, oldest first, by id; `size` in bytes."""

    __slots__ = ("letters", "size")

    def __init__(self) -> None:
        self.letters: OrderedDict[str, DeadLetter] = OrderedDict()
        self.size = 0

    def put(self, letter: DeadLetter) -> None:
        self.letters[letter.id] = letter
        self.size += size_of(letter)

    def pop(self, letter: DeadLetter) -> None:
        del self.letters[letter.id]
        self.size -= size_of(letter)

    def exceeds(self, letters: int | None, size: int | None) -> bool:
        return (letters is not None and len(self.letters) > letters) or (size is not None and self.size > size)


class DeadLetterStore:
    """The newest `capacity` dead letters; `evicted` counts those that were dropped to make room.

    A letter is open, or being replayed: then `is_replayed`, and it is not among the open ones. Raises ValueError for a
    capacity below 1.
    """

    __slots__ = ("_all", "_capacity_bytes", "_of_topic", "_replayed", "_topics", "capacity", "evicted")

    def __init__(
        self, capacity: int = 1_000, *, capacity_bytes: int | None = None, of_topic: tuple[int, int] | None = None
    ) -> None:
        """`of_topic` are the letters and bytes of one topic. Payloads are not counted: they are a program's objects."""
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        self.capacity = capacity
        self.evicted = 0
        self._capacity_bytes = capacity_bytes
        self._of_topic = of_topic if of_topic is not None else (None, None)
        self._all = _Kept()
        self._topics: dict[str, _Kept] = {}
        self._replayed: set[str] = set()

    def __len__(self) -> int:
        """Returns the number of letters, those that are being replayed too."""
        return len(self._all.letters)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Yields all letters, oldest first."""
        return iter(list(self._all.letters.values()))

    @property
    def open_count(self) -> int:
        """The number of letters that are not being replayed."""
        return len(self._all.letters) - len(self._replayed)

    def get(self, letter_id: str) -> DeadLetter | None:
        """Returns one letter, or None."""
        return self._all.letters.get(letter_id)

    def is_replayed(self, letter_id: str) -> bool:
        """Returns whether a letter is being replayed."""
        return letter_id in self._replayed

    def topics(self) -> list[str]:
        """Returns the topics with letters."""
        return list(self._topics)

    def of_topic(self, topic: str) -> list[DeadLetter]:
        """Returns a topic's letters, oldest first."""
        kept = self._topics.get(topic)
        return [] if kept is None else list(kept.letters.values())

    def replayed(self, topic: str) -> list[DeadLetter]:
        """Returns a topic's letters that are being replayed, oldest first."""
        return [letter for letter in self.of_topic(topic) if letter.id in self._replayed] if self._replayed else []

    def find(self, topic: str | None = None, subscriber: str | None = None) -> list[DeadLetter]:
        """Returns the letters of a topic, of a broker's subscriber, or all, oldest first."""
        letters = list(self) if topic is None else self.of_topic(topic)
        return [letter for letter in letters if subscriber in (None, letter.subscriber)]

    def apply(self, record: DeadLetterRecord) -> list[str]:
        """Changes the store; returns the ids of the letters that changed, came or went. None where nothing changed.

        A letter that is there already stays as it is, but for one that is being replayed: it is open again, as the
        record has it.
        """
        if isinstance(record, LetterAdded):
            return self._add(record.letter)
        known = self._all.letters.get(record.id)
        if known is None:
            return []
        if isinstance(record, LetterEnded):
            self._drop(known)
        elif record.id in self._replayed:
            return []
        else:
            self._replayed.add(record.id)
        return [record.id]

    def _add(self, letter: DeadLetter) -> list[str]:
        known = self._all.letters.get(letter.id)
        if known is not None:
            if letter.id not in self._replayed:
                return []
            self._drop(known)
        self.put(letter, replayed=False)
        return [letter.id, *self._make_room(letter.topic)]

    def put(self, letter: DeadLetter, *, replayed: bool) -> None:
        """Takes a letter as it was, in place of another of the same id, whatever the bounds."""
        known = self._all.letters.get(letter.id)
        if known is not None:
            self._drop(known)
        self._all.put(letter)
        self._topics.setdefault(letter.topic, _Kept()).put(letter)
        if replayed:
            self._replayed.add(letter.id)

    def drop(self, letter_ids: Iterable[str]) -> list[str]:
        """Forgets letters; returns the ids of those that were there."""
        found = [letter for letter_id in letter_ids if (letter := self._all.letters.get(letter_id)) is not None]
        for letter in found:
            self._drop(letter)
        return [letter.id for letter in found]

    def blank(self, letter_id: str) -> bool:
        """Empties the `last_error` of a letter, whose message was redacted. Returns whether it had one."""
        letter = self._all.letters.get(letter_id)
        if letter is None or not letter.last_error:
            return False
        blanked = msgspec.structs.replace(letter, last_error="")
        for kept in (self._all, self._topics[letter.topic]):
            kept.size += size_of(blanked) - size_of(letter)
            kept.letters[letter_id] = blanked
        return True

    def older(self, at: float, latest: float) -> list[str]:
        """Returns the ids of the oldest letters, up to the first that is not from before a time.

        One that is later than `latest` is of a clock that was ahead: it stays, and those behind it do not for its sake.
        """
        found: list[str] = []
        for letter in self._all.letters.values():
            if at <= letter.at <= latest:
                break
            if letter.at < at:
                found.append(letter.id)
        return found

    def sort(self) -> None:
        """Brings letters that were put in any order into that of their times."""
        for kept in (self._all, *self._topics.values()):
            kept.letters = OrderedDict(sorted(kept.letters.items(), key=lambda entry: (entry[1].at, entry[0])))

    def _make_room(self, topic: str) -> list[str]:
        gone: list[str] = []
        bounds = (self._topics[topic], *self._of_topic), (self._all, self.capacity, self._capacity_bytes)
        for kept, letters, size in bounds:
            while kept.exceeds(letters, size) and len(kept.letters) > 1:
                oldest = next(iter(kept.letters.values()))
                self._drop(oldest)
                gone.append(oldest.id)
        self.evicted += len(gone)
        return gone

    def _drop(self, letter: DeadLetter) -> None:
        self._all.pop(letter)
        self._replayed.discard(letter.id)
        kept = self._topics[letter.topic]
        kept.pop(letter)
        if not kept.letters:
            del self._topics[letter.topic]


def size_of(letter: DeadLetter) -> int:
    """Returns about how many bytes a letter takes in memory; at most four for each character."""
    return LETTER_BYTES + 4 * (len(letter.topic) + len(letter.last_error) + len(letter.user_id) + len(letter.device_id))
