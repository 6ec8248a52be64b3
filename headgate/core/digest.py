"""A digest over what a shard decided, folded record by record: two nodes that disagree show it; knows no verdict."""

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

_OFFSET: Final = struct.Struct(">Q")
_ENTRY: Final = struct.Struct(">BQ")


class Digest:
    """A hash chain: `value` stands for every record below the shard's next offset, and is its whole state (16 bytes).

    One step a record: value = BLAKE2b-128(value, offset, (code, number) of each item).
    """

    __slots__ = ("value",)

    def __init__(self, value: bytes = bytes(16)) -> None:
        self.value = value

    def fold(self, offset: int, entries: Iterable[tuple[int, int]]) -> None:
        """Takes one record in: its offset and, for each item, the verdict's code and the number it gave (else 0)."""
        pack = _ENTRY.pack
        parts = [pack(code, number) for code, number in entries]
        self.value = blake2b(b"".join((self.value, _OFFSET.pack(offset), *parts)), digest_size=16).digest()
