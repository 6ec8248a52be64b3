"""A digest over all decisions of a shard, extended record by record: it differs where two nodes decided differently."""

import struct
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
_HEAD: Final = struct.Struct(">16sQQ")


class Digest:
    """A hash chain. Its whole state is `value`, 16 bytes that cover every record below the shard's next offset.

    For each record: value = BLAKE2b(value, offset, seq, the code of each item), its first 128 bits.
    """

    __slots__ = ("value",)

    def __init__(self, value: bytes = bytes(DIGEST_BYTES)) -> None:
        self.value = value

    def fold(self, offset: int, seq: int, codes: bytes) -> None:
        """Adds one record: its offset, the newest seq of its topic, and the code of each item's verdict.

        This is enough: the accepted items of a record take the seqs up to `seq` in their order.
        """
        self.value = blake2b(_HEAD.pack(self.value, offset, seq) + codes).digest()[:DIGEST_BYTES]
