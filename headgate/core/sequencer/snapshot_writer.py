"""Builds the snapshots of a shard in slices, chunk by chunk, while more records are applied.

A base holds everything, a delta the changes since the last snapshot. Both are built the same way. First the rows and
the window are written slice by slice, each row as it is at that moment. Then, at one instant, follow every row that
changed meanwhile, the ids that were added meanwhile, and the rest. The snapshot is the state at that instant.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import (
    BASE,
    CHUNK_BYTES,
    END,
    HEADER,
    NAME_BYTES,
    NO_NAME,
    Chunk,
    Rest,
    name_of,
    seal,
)
from headgate.core.sequencer.window import START, BlockState, Window, WindowMark

SLICE_ROWS: Final = 2_000  # 2 to 4 ms
ENTRIES: Final = 32  # bytes of msgpack around the entries of a chunk

Steps = Generator[bytes | None, None, None]
_Entry = tuple[bytes, Row | None]

_encoder = msgspec.msgpack.Encoder()


class SnapshotWriter:
    """Writes the chain of one shard. The owner calls `touch` for each key that changed and appends the chunks it gets.

    A snapshot counts as written once its iterator has ended. An iterator that is closed before leaves the chain as it
    was: the next snapshot adds to the last whole one.
    """

    def __init__(self) -> None:
        self._dirty: set[bytes] = set()
        self._prev = NO_NAME
        self._mark = START
        self._changes = 0
        self._floor = 0
        self.offset = -1  # where the newest snapshot ends
        self.base_bytes = 0
        self.delta_bytes = 0

    def touch(self, key: bytes) -> None:
        """Notes that the row of a topic key was created, changed or deleted."""
        self._dirty.add(key)

    def touched(self, key: bytes) -> bool:
        """Returns whether a row may differ from the newest snapshot."""
        return key in self._dirty

    def resume(self, chain: Sequence[Chunk], window: Window) -> None:
        """Continues a chain that was just restored, together with its window."""
        rest = chain[-1].body().rest
        assert rest is not None
        self._prev, self._floor, self.offset = chain[-1].name, chain[-1].floor, chain[-1].offset
        self._mark, self._changes = window.mark(), rest.changes
        self.base_bytes = sum(len(chunk.value) for chunk in chain if chunk.is_base)
        self.delta_bytes = sum(len(chunk.value) for chunk in chain if not chunk.is_base)

    def forget(self) -> None:
        """Forgets the chain, because its content is in doubt: the next snapshot is a base."""
        self._prev = NO_NAME
        self._changes = -1  # all changes count as not written
        self.offset = -1

    @property
    def mark(self) -> WindowMark:
        """Where the window ended at the newest snapshot."""
        return self._mark

    @property
    def has_chain(self) -> bool:
        """Whether there is a snapshot to which a delta can be added."""
        return self._prev != NO_NAME

    @property
    def wants_base(self) -> bool:
        """Whether the next snapshot should be a base: there is none, or its deltas exceed half its size."""
        return not self.has_chain or self.delta_bytes > max(self.base_bytes // 2, CHUNK_BYTES)

    def pending(self, shard: Shard) -> int:
        """Returns the number of messages and controls that changed something since the last snapshot."""
        return shard.changes - self._changes

    def base(self, shard: Shard, rows: Mapping[bytes, Row], floor: int) -> Steps:
        """Yields the values of a base's chunks in order, and None where only other tasks should get their turn.

        `floor` is an offset of the snapshots log, at or below that of the first chunk.
        """
        chunks = _Chunks(shard, BASE, floor, NO_NAME)
        taken = self._take_dirty()
        try:
            yield from self._fuzzy(chunks, rows, list(rows))
            mark = shard.window.mark()
            yield from chunks.blocks(shard.window.pieces(START, mark))
            yield from self._instant(chunks, shard, rows, taken, mark, changed=())
        except BaseException:
            self._dirty |= taken
            raise
        self._floor, self.base_bytes, self.delta_bytes = floor, chunks.written, 0

    def delta(self, shard: Shard, rows: Mapping[bytes, Row]) -> Steps:
        """Yields the values of a delta's chunks in order, and None where only other tasks should get their turn."""
        chunks = _Chunks(shard, 0, self._floor, self._prev)
        taken = self._take_dirty()
        few = len(taken) <= SLICE_ROWS
        try:
            if not few:
                yield from self._fuzzy(chunks, rows, list(taken))
            yield from self._instant(chunks, shard, rows, taken, self._mark, changed=tuple(taken) if few else ())
        except BaseException:
            self._dirty |= taken
            raise
        self.delta_bytes += chunks.written

    def _take_dirty(self) -> set[bytes]:
        taken, self._dirty = self._dirty, set()
        return taken

    def _fuzzy(self, chunks: "_Chunks", rows: Mapping[bytes, Row], keys: Sequence[bytes]) -> Iterator[bytes | None]:
        for at in range(0, len(keys), SLICE_ROWS):
            yield from chunks.rows([(key, rows.get(key)) for key in keys[at : at + SLICE_ROWS]])
            yield None

    def _instant(
        self,
        chunks: "_Chunks",
        shard: Shard,
        rows: Mapping[bytes, Row],
        taken: set[bytes],
        start: WindowMark,
        changed: Iterable[bytes],
    ) -> Iterator[bytes | None]:
        """Captures the rest of the snapshot at one instant, then yields it. Adds the keys that it takes to `taken`."""
        assert shard.config is not None
        late = self._take_dirty()
        taken |= late
        entries = [(key, _copy(rows.get(key))) for key in late.union(changed)]
        window, mark = shard.window, shard.window.mark()
        pieces = window.pieces(start, mark)
        since = window.whole_from if chunks.is_base else max(self.offset, window.whole_from)
        offset, changes = shard.next_offset, shard.changes
        rest = Rest(shard.config, shard.log_ms, changes, shard.digest.value, window.oldest, since)
        for at in range(0, len(entries), SLICE_ROWS):
            yield from chunks.rows(entries[at : at + SLICE_ROWS])
            yield None
        yield from chunks.blocks(pieces)
        yield from chunks.end(offset, rest)
        self._prev, self._mark, self._changes, self.offset = chunks.prev, mark, changes, offset
        window.saved(mark)


class _Chunks:
    """Fills chunks with encoded entries, each at most CHUNK_BYTES, and seals them into a chain."""

    def __init__(self, shard: Shard, flags: int, floor: int, prev: bytes) -> None:
        assert shard.config is not None
        self._shard = shard.config.shard
        self._flags = flags
        self._floor = floor
        self._rows: list[msgspec.Raw] = []
        self._blocks: list[msgspec.Raw] = []
        self._size = HEADER.size + NAME_BYTES + ENTRIES
        self.prev = prev
        self.written = 0

    @property
    def is_base(self) -> bool:
        return bool(self._flags & BASE)

    def rows(self, entries: Sequence[_Entry]) -> Iterator[bytes]:
        for entry in entries:
            raw = _encoder.encode(entry)
            yield from self._make_room(len(raw))
            self._rows.append(msgspec.Raw(raw))

    def blocks(self, pieces: Iterable[BlockState]) -> Iterator[bytes | None]:
        for piece in pieces:
            raw = _encoder.encode(piece)
            yield from self._make_room(len(raw))
            self._blocks.append(msgspec.Raw(raw))
            yield None

    def end(self, offset: int, rest: Rest) -> Iterator[bytes]:
        raw = _encoder.encode(rest)
        yield from self._make_room(len(raw))
        yield self._seal(self._flags | END, offset, msgspec.Raw(raw))

    def _make_room(self, size: int) -> Iterator[bytes]:
        if self._size + size > CHUNK_BYTES:
            yield self._seal(self._flags, 0, None)
        self._size += size

    def _seal(self, flags: int, offset: int, rest: msgspec.Raw | None) -> bytes:
        body = _encoder.encode((self._rows, self._blocks, rest))
        value = seal(self._shard, flags, self._floor, offset, self.prev, body)
        self.prev = name_of(value)
        self.written += len(value)
        self._rows, self._blocks, self._size = [], [], HEADER.size + NAME_BYTES + ENTRIES
        return value


def _copy(row: Row | None) -> Row | None:
    return None if row is None else row.__copy__()  # type: ignore[attr-defined]  # msgspec has it, its stubs do not
