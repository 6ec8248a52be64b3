"""What other wings keep in a shard's snapshots: keys and values in bytes that only they read."""

from collections.abc import Iterator, Mapping
from typing import Protocol


class KeptPairs(Protocol):
    """What another wing keeps in a shard's snapshots: values by key, in bytes that only it reads."""

    @property
    def changes(self) -> int:
        """How many pairs changed since they were loaded."""

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields all keys, about `size` at a time; anything may change between two of them."""

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a value, None for one that is not there."""

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a value; None takes it away. Raises CorruptRecord."""


class Pairs(KeptPairs, Protocol):
    """Pairs that are built from the inbox log."""

    next_offset: int  # of the inbox log: everything below it is in the pairs


class NoPairs:
    """Keeps nothing."""

    next_offset = 0
    changes = 0

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields nothing."""
        yield []

    def encoded(self, key: bytes) -> None:
        """Returns None."""

    def load(self, key: bytes, value: bytes | None) -> None:
        """Forgets it."""


class JoinedPairs:
    """The pairs of several wings as one: those of `others` by the beginning of their keys, all else is `main`'s."""

    def __init__(self, main: Pairs, others: Mapping[bytes, KeptPairs]) -> None:
        self._main = main
        self._others = others

    @property
    def next_offset(self) -> int:
        """That of `main`: the others keep theirs, if they have one, in a pair."""
        return self._main.next_offset

    @next_offset.setter
    def next_offset(self, offset: int) -> None:
        self._main.next_offset = offset

    @property
    def changes(self) -> int:
        """How many pairs changed."""
        return self._main.changes + sum(pairs.changes for pairs in self._others.values())

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields all keys, about `size` at a time."""
        yield from self._main.keys(size)
        for pairs in self._others.values():
            yield from pairs.keys(size)

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a value, None for one that is not there."""
        return self._of(key).encoded(key)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a value; None takes it away. Raises CorruptRecord."""
        self._of(key).load(key, value)

    def _of(self, key: bytes) -> KeptPairs:
        return next((pairs for prefix, pairs in self._others.items() if key.startswith(prefix)), self._main)
