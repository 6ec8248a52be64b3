"""A digest over what a shard decided, folded record by record: two nodes that disagree show it; knows no verdict."""

import struct
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
_HEAD: Final = struct.Struct(">16sQQ")


class Digest:
    """A hash chain: `value` stands for every record below the shard's next offset, and is its whole state (16 bytes).

    One step a record: value = BLAKE2b(value, offset, seq, the code of each item), its first 128 bits.
    """

    __slots__ = ("value",)

    def __init__(self, value: bytes = bytes(DIGEST_BYTES)) -> None:
        self.value = value

    def fold(self, offset: int, seq: int, codes: bytes) -> None:
        """Takes one record in: its offset, the seq its topic has reached, and the verdict's code of each item.

        The items of a record that are accepted take the seqs up to `seq` in their order, so that no more need be said.
        """
        self.value = blake2b(_HEAD.pack(self.value, offset, seq) + codes).digest()[:DIGEST_BYTES]
