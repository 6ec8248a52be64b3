"""Rows by key, each packed as the bytes that a snapshot holds as a pair.

A key begins with a FAMILY of two bytes. The first is 0, as in no user id: so the rows of all kinds are pairs of one
snapshot.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from headgate.core.wire.errors import CorruptRecord

R = TypeVar("R")

SLICE_ROWS: Final = 2_000  # a few milliseconds
SEPARATOR: Final = b"\0"  # between a user id and a topic id: neither has it

_encoder = msgspec.msgpack.Encoder()


class PackedRows(Generic[R]):
    """The rows of one family; the length is their number."""

    def __init__(self, row_type: Any, what: str) -> None:
        """`row_type` is R as msgspec decodes it, `what` names the rows in errors."""
        self._rows: dict[bytes, bytes] = {}
        self._decoder: msgspec.msgpack.Decoder[R] = msgspec.msgpack.Decoder(row_type)
        self._what = what

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def row(self, key: bytes) -> R | None:
        """Returns a row, None for one that is not there."""
        value = self._rows.get(key)
        return None if value is None else self._decoder.decode(value)

    def sweep(self, ends: Callable[[bytes, R], bool]) -> Iterator[list[bytes]]:
        """Takes rows away; yields their keys, a slice at a time. Anything may change between two slices."""
        for keys in self.keys(SLICE_ROWS):
            gone = [key for key in keys if (row := self.row(key)) is not None and ends(key, row)]
            for key in gone:
                del self._rows[key]
            yield gone

    # As pairs of a snapshot

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields the keys of all rows, at most `size` at a time; anything may change between two of them."""
        keys = list(self._rows)
        for at in range(0, len(keys), size):
            yield keys[at : at + size]

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a row as bytes, None for one that is not there."""
        return self._rows.get(key)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a row of a snapshot; None takes it away. Raises CorruptRecord."""
        if value is None:
            self._rows.pop(key, None)
            return
        try:
            self._decoder.decode(value)
        except msgspec.DecodeError as error:
            raise CorruptRecord(f"the snapshot's {self._what} at {key!r}: {error}") from None
        self._rows[key] = value


def packed(row: object) -> bytes:
    """Returns a row as bytes."""
    return _encoder.encode(row)


def user_topic_key(family: bytes, user_id: str, topic_id: str) -> bytes:
    """Returns the key of a row of a user in a topic."""
    return b"%b%b\0%b" % (family, user_id.encode(), topic_id.encode())


def user_topic_of(family: bytes, key: bytes) -> tuple[str, str]:
    """Returns the user id and the topic id of a key."""
    user_id, _, topic_id = key[len(family) :].partition(SEPARATOR)
    return user_id.decode(), topic_id.decode()
