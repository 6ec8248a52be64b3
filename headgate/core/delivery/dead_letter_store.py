"""Dead letters: deliveries that were given up, kept until a person replays or purges them.

The store changes only by applying a record, so a log of the records gives the same store when it is read back. The
in-process broker writes them (`headgate/broker/journal.py`). A dispatcher's dead letters are records of another format
in a log of the same name: see `dispatcher/dead_letters.py`.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

NO_ATTEMPTS_LEFT: Final = "max_attempts"  # the `reason` of a delivery that failed in its last attempt


class LetterId(NamedTuple):
    """The key of a dead letter; the store has at most one of each."""

    topic: str
    message_id: int | str
    subscriber: str


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up. `at` and `created_ts` are seconds on the clock of its writer."""

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
        """The key of this letter in the store."""
        return LetterId(self.topic, self.message_id, self.subscriber)


class LetterAdded(msgspec.Struct, frozen=True, tag_field="op", tag="buried"):
    """A delivery was given up. (Its tag in the log is that of the first release; logs on disk have it.)"""

    letter: DeadLetter


class LetterRemoved(msgspec.Struct, frozen=True, tag_field="op", tag="removed"):
    """A dead letter was replayed or purged; `why` tells which."""

    topic: str
    message_id: int | str
    subscriber: str
    why: str

    @property
    def id(self) -> LetterId:
        """The key of the letter that was removed."""
        return LetterId(self.topic, self.message_id, self.subscriber)


DeadLetterRecord = LetterAdded | LetterRemoved


class DeadLetterStore:
    """The newest `capacity` dead letters, oldest first; `evicted` counts those that were dropped to make room.

    Raises ValueError for a capacity below 1.
    """

    __slots__ = ("_letters", "capacity", "evicted")

    def __init__(self, capacity: int = 1_000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        self.capacity = capacity
        self.evicted = 0
        self._letters: OrderedDict[LetterId, DeadLetter] = OrderedDict()

    def __len__(self) -> int:
        """Returns the number of letters."""
        return len(self._letters)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Yields all letters, oldest first."""
        return iter(list(self._letters.values()))

    def get(self, letter_id: LetterId) -> DeadLetter | None:
        """Returns one letter, or None."""
        return self._letters.get(letter_id)

    def find(self, topic: str | None = None, subscriber: str | None = None) -> list[DeadLetter]:
        """Returns the letters of a topic, of a subscriber, or all, oldest first."""
        return [
            letter
            for letter in self._letters.values()
            if topic in (None, letter.topic) and subscriber in (None, letter.subscriber)
        ]

    def apply(self, record: DeadLetterRecord) -> bool:
        """Changes the store. Returns False when nothing changed: the letter is there already, or already removed."""
        if isinstance(record, LetterRemoved):
            return self._letters.pop(record.id, None) is not None
        letter = record.letter
        if letter.id in self._letters:
            return False
        if len(self._letters) >= self.capacity:
            self._letters.popitem(last=False)
            self.evicted += 1
        self._letters[letter.id] = letter
        return True
