"""Snapshots of a shard: a base and deltas in checked chunks, built in slices; knows no log, only values.

One chunk is one record of the snapshots log:

    0      4                          n-16
    | magic | msgpack of Chunk ...    | blake2b-128 of all before |

The checksum is the chunk's name. Each chunk names its predecessor, a base's first names none, so a chain is valid only
as a whole and chunks of two writers (an owner and a zombie) never mix. Any valid chain is right, whoever wrote it.

A base is written while records go on being applied: rows first, slice by slice, each as it is at that moment; then, at
one instant, every row that changed meanwhile, the window and the rest. The snapshot is that instant's.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from headgate.core.control import LOGIC, Config
from headgate.core.digest import Digest
from headgate.core.errors import BrokenChain
from headgate.core.rows import Row, Shard
from headgate.core.window import BLOCK_BITS, BlockState, Window

MAGIC: Final = b"\xffHS\x01"
CHECKSUM: Final = 16
CHUNK_BYTES: Final = 512 * 1024
SLICE_ROWS: Final = 2_000  # about 5 ms


class Rest(msgspec.Struct, array_like=True):
    """What is neither row nor window, at the snapshot's instant. `oldest` are the window's oldest block numbers."""

    config: Config
    log_ms: int
    changes: int
    digest: tuple[int, bytes, bytes]
    oldest: tuple[int, int]


class Chunk(msgspec.Struct, array_like=True):
    """`prev` is the name of the chunk before it in the chain; `offset` the next offset to apply after the snapshot.

    `rows` are (topic key, row); `gone` keys that have no row any more. `rest` stands in the last chunk of a snapshot.
    """

    shard: int
    base: bool
    prev: bytes
    offset: int
    logic: int
    digest: bytes
    rows: list[tuple[bytes, Row]] = []
    gone: list[bytes] = []
    blocks: list[BlockState] = []
    rest: Rest | None = None


class Placed(NamedTuple):
    """A chunk read from the log: its record's offset, its name, and its content."""

    at: int
    name: bytes
    chunk: Chunk


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Chunk] = msgspec.msgpack.Decoder(Chunk)


def encode_chunk(chunk: Chunk) -> bytes:
    """Returns the value of a chunk record; its last 16 bytes are the chunk's name."""
    body = MAGIC + _encoder.encode(chunk)
    return body + blake2b(body, digest_size=CHECKSUM).digest()


def decode_chunk(at: int, value: bytes | None) -> Placed | None:
    """Reads a chunk record; None for what is damaged or none of ours (its chain is then incomplete)."""
    if value is None or value[:4] != MAGIC or len(value) < 4 + CHECKSUM:
        return None
    body, name = value[:-CHECKSUM], value[-CHECKSUM:]
    if blake2b(body, digest_size=CHECKSUM).digest() != name:
        return None
    try:
        return Placed(at, name, _decoder.decode(body[4:]))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class SnapshotWriter:
    """Builds one chain for one shard. The owner touches each key it changed and appends the chunks it is given."""

    def __init__(self) -> None:
        self._dirty: set[bytes] = set()
        self._prev = b""
        self._block = 0
        self._changes = 0
        self.offset = 0  # where the newest snapshot ends
        self.base_bytes = 0
        self.delta_bytes = 0

    def touch(self, key: bytes) -> None:
        """Notes that the row of a topic key changed, came or went."""
        self._dirty.add(key)

    def resume(self, chain: Sequence[Placed]) -> None:
        """Goes on behind a chain that was restored: the next snapshot may be a delta to it."""
        last = chain[-1]
        self._prev = last.name
        self._block = _block_of(last.chunk.offset)
        self._changes = last.chunk.rest.changes if last.chunk.rest else 0
        self.offset = last.chunk.offset
        sizes = [(p.chunk.base, len(_encoder.encode(p.chunk))) for p in chain]
        self.base_bytes = sum(size for base, size in sizes if base)
        self.delta_bytes = sum(size for base, size in sizes if not base)

    def broken(self) -> None:
        """Forgets the chain: a chunk could not be appended, so the next snapshot must be a base."""
        self._prev = b""
        self._changes = -1  # what it held counts as not written
        self.offset = -1

    def pending(self, shard: Shard) -> int:
        """Returns how many records changed something since the last snapshot."""
        return shard.changes - self._changes

    @property
    def wants_base(self) -> bool:
        """Whether the next snapshot must be a base: there is none, or deltas passed half its size."""
        return not self._prev or self.delta_bytes > max(self.base_bytes // 2, CHUNK_BYTES)

    def build(self, shard: Shard, rows: Mapping[bytes, Row], *, base: bool) -> Iterator[bytes]:
        """Yields the chunk values of a snapshot, in order; work between two is a slice of a few milliseconds.

        Records may be applied between slices. The snapshot is complete, and the chain goes on behind it, once the
        iterator has ended.
        """
        if base:
            self._prev, self.base_bytes, self.delta_bytes, self._block = b"", 0, 0, 0
            self._dirty.clear()
            yield from self._fuzzy_rows(shard, rows)
        yield from self._instant(shard, rows, base)

    def _fuzzy_rows(self, shard: Shard, rows: Mapping[bytes, Row]) -> Iterator[bytes]:
        keys = list(rows)
        for at in range(0, len(keys), SLICE_ROWS):
            part = [(key, rows[key]) for key in keys[at : at + SLICE_ROWS] if key in rows]
            for some in _by_size(part):
                yield self._seal(shard, Chunk(self._number(shard), True, b"", 0, LOGIC, b"", rows=some))

    def _instant(self, shard: Shard, rows: Mapping[bytes, Row], base: bool) -> Iterator[bytes]:
        assert shard.config is not None
        changed = [(key, _copy(rows[key])) for key in self._dirty if key in rows]
        gone = [key for key in self._dirty if key not in rows]
        blocks = shard.window.blocks_from(self._block)
        rest = Rest(shard.config, shard.log_ms, shard.changes, shard.digest.state(), shard.window.oldest_blocks())
        offset, digest, number = shard.next_offset, shard.digest.now, self._number(shard)
        self._dirty.clear()
        self._block = _block_of(offset)
        self._changes = shard.changes
        self.offset = offset
        for some in _by_size(changed):
            yield self._seal(shard, Chunk(number, base, b"", offset, LOGIC, digest, rows=some))
        for group in _block_groups(blocks):
            yield self._seal(shard, Chunk(number, base, b"", offset, LOGIC, digest, blocks=group))
        yield self._seal(shard, Chunk(number, base, b"", offset, LOGIC, digest, gone=gone, rest=rest))

    def _seal(self, shard: Shard, chunk: Chunk) -> bytes:
        chunk.prev = self._prev
        value = encode_chunk(chunk)
        self._prev = value[-CHECKSUM:]
        if chunk.base:
            self.base_bytes += len(value)
        else:
            self.delta_bytes += len(value)
        return value

    def _number(self, shard: Shard) -> int:
        assert shard.config is not None
        return shard.config.shard


def _copy(row: Row) -> Row:
    return msgspec.structs.replace(row)


def _block_of(offset: int) -> int:
    return max(offset - 1, 0) >> BLOCK_BITS


def _by_size(rows: Sequence[tuple[bytes, Row]]) -> Iterator[list[tuple[bytes, Row]]]:
    """Cuts rows into chunks of at most CHUNK_BYTES."""
    some: list[tuple[bytes, Row]] = []
    size = 0
    for entry in rows:
        length = len(_encoder.encode(entry))
        if some and size + length > CHUNK_BYTES:
            yield some
            some, size = [], 0
        some.append(entry)
        size += length
    if some:
        yield some


def _block_groups(blocks: Sequence[BlockState]) -> Iterator[list[BlockState]]:
    """Cuts window blocks (at most 96 KiB each, but bundles make larger ones) into chunks."""
    some: list[BlockState] = []
    size = 0
    for block in (piece for b in blocks for piece in _pieces(b)):
        if some and size + len(block.ids) + len(block.seqs) > CHUNK_BYTES:
            yield some
            some, size = [], 0
        some.append(block)
        size += len(block.ids) + len(block.seqs)
    if some:
        yield some


def _pieces(block: BlockState) -> Iterator[BlockState]:
    """Cuts one block of very many ids (bundles) into pieces that restore puts together again."""
    step = CHUNK_BYTES // 2 // 16
    for at in range(0, max(len(block.ids) // 16, 1), step):
        ids, seqs = block.ids[at * 16 : (at + step) * 16], block.seqs[at * 8 : (at + step) * 8]
        yield BlockState(block.number, block.keyed, block.last_ms, ids, seqs)


def newest_chain(chunks: Iterable[Placed]) -> list[Placed]:
    """Returns the valid chain that reaches the highest offset, its base first; empty where there is none."""
    by_name = {placed.name: placed for placed in chunks}
    ends = [p for p in by_name.values() if p.chunk.rest is not None]
    for end in sorted(ends, key=lambda p: (p.chunk.offset, p.at), reverse=True):
        chain = _walk(by_name, end)
        if chain:
            return chain
    return []


def _walk(by_name: Mapping[bytes, Placed], end: Placed) -> list[Placed]:
    chain = [end]
    while chain[-1].chunk.prev:
        before = by_name.get(chain[-1].chunk.prev)
        if before is None:
            return []
        chain.append(before)
    chain.reverse()
    return chain if chain[0].chunk.base and all(p.chunk.logic <= LOGIC for p in chain) else []


def base_starts(chunks: Iterable[Placed]) -> list[int]:
    """Returns the record offsets at which bases begin, ascending."""
    return sorted(p.at for p in chunks if p.chunk.base and not p.chunk.prev)


class _BlockStore:
    """Collects window blocks along a chain: a block in a later snapshot replaces the same one of an earlier."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[bool, int], BlockState] = {}
        self._fresh: set[tuple[bool, int]] = set()

    def take(self, block: BlockState) -> None:
        name = (block.keyed, block.number)
        if name in self._fresh:
            first = self._blocks[name]  # a copy: the chunks belong to others, who may restore them again
            ids, seqs = first.ids + block.ids, first.seqs + block.seqs
            self._blocks[name] = BlockState(first.number, first.keyed, first.last_ms, ids, seqs)
            return
        self._fresh.add(name)
        self._blocks[name] = block

    def end_of_snapshot(self, oldest: tuple[int, int]) -> None:
        self._fresh.clear()
        limit = {True: oldest[0], False: oldest[1]}
        self._blocks = {name: b for name, b in self._blocks.items() if name[1] >= limit[name[0]]}

    def window(self, next_offset: int) -> Generator[None, None, Window]:
        return Window.restoring(self._blocks.values(), next_offset)


def restore(chain: Sequence[Placed]) -> tuple[Shard, dict[bytes, Row]]:
    """Builds the shard and its rows as they were at the chain's end. Raises BrokenChain where the digest disagrees."""
    steps = restoring(chain)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            restored: tuple[Shard, dict[bytes, Row]] = done.value
            return restored


def restoring(chain: Sequence[Placed]) -> Generator[None, None, tuple[Shard, dict[bytes, Row]]]:
    """Does what `restore` does, yielding between slices of some milliseconds."""
    rows: dict[bytes, Row] = {}
    blocks = _BlockStore()
    for placed in chain:
        chunk = placed.chunk
        rows.update((key, _copy(row)) for key, row in chunk.rows)
        for key in chunk.gone:
            rows.pop(key, None)
        for block in chunk.blocks:
            blocks.take(block)
        if chunk.rest is not None:
            blocks.end_of_snapshot(chunk.rest.oldest)
        yield
    last = chain[-1].chunk
    if last.rest is None:
        raise BrokenChain("a chain ends with the last chunk of a snapshot")
    shard = Shard()
    shard.config = last.rest.config
    shard.next_offset = last.offset
    shard.log_ms = last.rest.log_ms
    shard.changes = last.rest.changes
    shard.digest = Digest(*last.rest.digest)
    shard.window = yield from blocks.window(last.offset)
    if shard.digest.now != last.digest:
        raise BrokenChain(f"digest {shard.digest.now.hex()}, the chain says {last.digest.hex()}")
    return shard, rows
