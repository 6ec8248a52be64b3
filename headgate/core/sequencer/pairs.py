"""What other wings keep in a shard's snapshots: keys and values in bytes that only they read."""

from collections.abc import Iterator
from typing import Protocol


class Pairs(Protocol):
    """What another wing keeps in a shard's snapshots: values by key, in bytes that only it reads."""

    next_offset: int  # of the inbox log: everything below it is in the pairs
    changes: int  # how many pairs changed since they were loaded

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields all keys, about `size` at a time; anything may change between two of them."""

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a value, None for one that is not there."""

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a value; None takes it away. Raises CorruptRecord."""


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
