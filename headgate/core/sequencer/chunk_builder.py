"""Fills chunks of a snapshot with encoded entries and seals them into a chain."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import (
    BASE,
    CHUNK_BYTES,
    END,
    HEADER,
    NAME_BYTES,
    MemberEntry,
    MessageEntry,
    Rest,
    name_of,
    seal,
)
from headgate.core.sequencer.window import BlockState

LEAST_PARTS: Final = 3  # of a chunk's body: rows, blocks, rest
ENTRIES: Final = 32  # bytes of msgpack around the entries of a chunk

Entry = tuple[bytes, Row | None]
Pair = tuple[bytes, bytes | None]

_encoder = msgspec.msgpack.Encoder()


class ChunkBuilder:
    """Fills chunks with encoded entries, each at most CHUNK_BYTES, and seals them into a chain."""

    def __init__(self, shard: Shard, flags: int, floor: int, prev: bytes) -> None:
        assert shard.config is not None
        self._shard = shard
        self._number = shard.config.shard
        self._flags = flags
        self._floor = floor
        self._rows: list[msgspec.Raw] = []
        self._blocks: list[msgspec.Raw] = []
        self._members: list[msgspec.Raw] = []
        self._pairs: list[msgspec.Raw] = []
        self._messages: list[msgspec.Raw] = []
        self._size = HEADER.size + NAME_BYTES + ENTRIES
        self.prev = prev
        self.written = 0

    @property
    def is_base(self) -> bool:
        """Whether the chunks are of a base."""
        return bool(self._flags & BASE)

    def rows(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Adds topics' rows; yields the values of the chunks that are full."""
        return self._fill(self._rows, entries)

    def members(self, entries: Sequence[MemberEntry]) -> Iterator[bytes]:
        """Adds members; yields the values of the chunks that are full."""
        return self._fill(self._members, entries)

    def pairs(self, entries: Sequence[Pair]) -> Iterator[bytes]:
        """Adds what other wings keep; yields the values of the chunks that are full."""
        return self._fill(self._pairs, entries)

    def messages(self, entries: Sequence[MessageEntry]) -> Iterator[bytes]:
        """Adds messages that were changed; yields the values of the chunks that are full."""
        return self._fill(self._messages, entries)

    def blocks(self, pieces: Iterable[BlockState]) -> Iterator[bytes | None]:
        """Adds pieces of the window; yields the values of the chunks that are full, and None after each piece."""
        for piece in pieces:
            raw = _encoder.encode(piece)
            yield from self._make_room(len(raw))
            self._blocks.append(msgspec.Raw(raw))
            yield None

    def end(self, offset: int, rest: Rest) -> Iterator[bytes]:
        """Yields the last chunks of the snapshot that ends at `offset`."""
        raw = _encoder.encode(rest)
        yield from self._make_room(len(raw))
        yield self._seal(self._flags | END, offset, msgspec.Raw(raw))

    def _fill(self, part: list[msgspec.Raw], entries: Iterable[object]) -> Iterator[bytes]:
        for entry in entries:
            raw = _encoder.encode(entry)
            yield from self._make_room(len(raw))
            part.append(msgspec.Raw(raw))

    def _make_room(self, size: int) -> Iterator[bytes]:
        if self._size + size > CHUNK_BYTES:
            yield self._seal(self._flags, 0, None)
        self._size += size

    def _seal(self, flags: int, offset: int, rest: msgspec.Raw | None) -> bytes:
        parts: list[list[msgspec.Raw] | msgspec.Raw | None] = [
            self._rows,
            self._blocks,
            rest,
            self._members,
            self._pairs,
            self._messages,
        ]
        while len(parts) > LEAST_PARTS and not parts[-1]:
            parts.pop()
        value = seal(self._number, self._shard.logic, flags, self._floor, offset, self.prev, _encoder.encode(parts))
        self.prev = name_of(value)
        self.written += len(value)
        for part in (self._rows, self._blocks, self._members, self._pairs, self._messages):
            part.clear()
        self._size = HEADER.size + NAME_BYTES + ENTRIES
        return value
