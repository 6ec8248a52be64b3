"""Marks: digests of a shard at offsets that every node marks, so that two nodes can compare their decisions."""

from collections import OrderedDict
from typing import Final, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

MARK_OFFSETS: Final = 1_024  # one mark in as many offsets, at the first record of each such block
KEPT: Final = 64  # of our own marks, and of marks of other nodes at offsets that this node has not reached


class Mark(msgspec.Struct, frozen=True):
    """The value of a mark record: the digest of all that a run of a node has decided below `offset`."""

    node: str
    incarnation: str
    offset: int
    digest: bytes


class Disagreement(NamedTuple):
    """Our digest and another node's differ below an offset."""

    offset: int
    ours: bytes
    theirs: Mark


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Mark] = msgspec.json.Decoder(Mark)


def encode_mark(mark: Mark) -> bytes:
    """Returns the value of a mark record."""
    return _encoder.encode(mark)


def decode_mark(value: bytes | None) -> Mark | None:
    """Reads a mark record; None where the record is no mark (a claim)."""
    try:
        return _decoder.decode(value) if value else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Marks:
    """The marks of one shard: our own, and those of other nodes at offsets that we have not reached yet."""

    def __init__(self, next_offset: int) -> None:
        self.due = _next_block(next_offset)  # the first record at or above it is marked
        self.newest: tuple[int, bytes] | None = None
        self._ours: OrderedDict[int, bytes] = OrderedDict()
        self._theirs: OrderedDict[int, Mark] = OrderedDict()

    def add(self, next_offset: int, digest: bytes) -> Disagreement | None:
        """Notes our digest below `next_offset`, after a record at or above `due`; returns how another node differs."""
        self.due = _next_block(next_offset)
        self.newest = (next_offset, digest)
        _keep(self._ours, next_offset, digest)
        theirs = self._theirs.pop(next_offset, None)
        return _compared(next_offset, digest, theirs)

    def heard(self, mark: Mark) -> Disagreement | None:
        """Compares another node's mark with ours, now or once this node has read that far."""
        ours = self._ours.get(mark.offset)
        if ours is None:
            _keep(self._theirs, mark.offset, mark)
            return None
        return _compared(mark.offset, ours, mark)


def _next_block(next_offset: int) -> int:
    return -(-next_offset // MARK_OFFSETS) * MARK_OFFSETS


def _keep(kept: OrderedDict[int, T], offset: int, value: T) -> None:
    kept[offset] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)


def _compared(offset: int, ours: bytes, theirs: Mark | None) -> Disagreement | None:
    return Disagreement(offset, ours, theirs) if theirs is not None and theirs.digest != ours else None
