"""Dead letters: deliveries that were given up, kept for a person to look at; knows no log and no subscriber.

The store changes only by applying a record, so that what was written to a log and read back gives the same store.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

MAX_ATTEMPTS: Final = "max_attempts"  # the reason of a delivery that failed at the attempt cap


class LetterId(NamedTuple):
    """What a dead letter is about; there is at most one of each."""

    topic: str
    message_id: int | str
    subscriber: str


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up. `at` and `created_ts` are seconds on the clock of whoever wrote it."""

    topic: str
    message_id: int | str
    subscriber: str
    attempts: int
    reason: str
    last_error: str
    at: float
    created_ts: float
    payload: Any
    key: str | None = None
    group: str | None = None

    @property
    def id(self) -> LetterId:
        """What it is about."""
        return LetterId(self.topic, self.message_id, self.subscriber)


class Buried(msgspec.Struct, frozen=True, tag_field="op", tag="buried"):
    """A delivery was given up."""

    letter: DeadLetter


class Removed(msgspec.Struct, frozen=True, tag_field="op", tag="removed"):
    """A dead letter was replayed or purged."""

    topic: str
    message_id: int | str
    subscriber: str
    why: str

    @property
    def id(self) -> LetterId:
        """What it was about."""
        return LetterId(self.topic, self.message_id, self.subscriber)


DeadLetterRecord = Buried | Removed


class DeadLetterStore:
    """The newest `capacity` dead letters in the order of their deaths; `evicted` counts those that made room."""

    __slots__ = ("_letters", "capacity", "evicted")

    def __init__(self, capacity: int = 1_000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        self.capacity = capacity
        self.evicted = 0
        self._letters: OrderedDict[LetterId, DeadLetter] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._letters)

    def __iter__(self) -> Iterator[DeadLetter]:
        """All of them, oldest first."""
        return iter(list(self._letters.values()))

    def get(self, letter_id: LetterId) -> DeadLetter | None:
        """Returns one, None where there is none."""
        return self._letters.get(letter_id)

    def find(self, topic: str | None = None, subscriber: str | None = None) -> list[DeadLetter]:
        """Returns those of a topic, of a subscriber, or all, oldest first."""
        return [
            letter
            for letter in self._letters.values()
            if topic in (None, letter.topic) and subscriber in (None, letter.subscriber)
        ]

    def apply(self, record: DeadLetterRecord) -> bool:
        """Changes the store. Returns False where nothing changed: a second burial (the first wins), a vain removal."""
        if isinstance(record, Removed):
            return self._letters.pop(record.id, None) is not None
        letter = record.letter
        if letter.id in self._letters:
            return False
        if len(self._letters) >= self.capacity:
            self._letters.popitem(last=False)
            self.evicted += 1
        self._letters[letter.id] = letter
        return True
