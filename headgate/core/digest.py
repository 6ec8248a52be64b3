"""A digest over what a shard decided, block by block: two nodes that disagree show it; knows no record."""

import struct
from hashlib import blake2b
from typing import Final

BLOCK_OFFSETS: Final = 1024
_ENTRY: Final = struct.Struct(">QHBQ")


class Digest:
    """Chained hash of (offset, index, verdict code, seq or epoch); `value` is that of the last whole block."""

    __slots__ = ("_pending", "block", "value")

    def __init__(self, block: int = -1, value: bytes = bytes(16), pending: bytes = b"") -> None:
        self.block = block
        self.value = value
        self._pending = bytearray(pending)

    def add(self, offset: int, index: int, code: int, number: int) -> None:
        """Takes one verdict in; offsets never fall."""
        block = offset // BLOCK_OFFSETS
        if block != self.block:
            self._close(block)
        self._pending += _ENTRY.pack(offset, index, code, number)

    def _close(self, block: int) -> None:
        if self._pending:
            self.value = blake2b(self.value + self._pending, digest_size=16).digest()
            self._pending.clear()
        self.block = block

    @property
    def now(self) -> bytes:
        """The digest over everything taken in so far."""
        return blake2b(self.value + self._pending, digest_size=16).digest() if self._pending else self.value

    def state(self) -> tuple[int, bytes, bytes]:
        """Returns the arguments that make an equal Digest."""
        return (self.block, self.value, bytes(self._pending))
