"""Snapshots of a shard: the bytes of a chunk, the search for the newest chain of chunks, and the state a chain gives.

One chunk is one record of the snapshots log, at most CHUNK_BYTES. Big endian:

    0      4       6       7      8       12      20       28     44          n-16
    | magic | logic | flags | zero | shard | floor | offset | prev | msgpack ... | blake2b-128 of all before |

The checksum is the chunk's name. `prev` is the name of the chunk before it: inside a snapshot the one written before,
in the first chunk of a delta the END chunk of the snapshot that it adds to, in the first chunk of a base zeros. So a
chain is valid only as a whole, chunks of two writers never mix, and no chain contains an unfinished snapshot. Every
valid chain gives the right state, whichever node wrote it. `offset` is that of the snapshot, in its END chunk only.
Every chunk of the chain is at or above `floor` in the snapshots log.
"""

import struct
from collections.abc import Generator, Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from headgate.core.sequencer.changed_messages import NO_BOUND, ChangedMessage, ChangedMessages
from headgate.core.sequencer.digest import Digest
from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.pairs import Pairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.window import BlockState, Window
from headgate.core.wire.control import LOGIC, Config
from headgate.core.wire.errors import BrokenChain, CorruptRecord, NewerSnapshot
from headgate.core.wire.records import NO_RECORD, LastRecord

MAGIC: Final = b"\xffHS"
VERSION: Final = 2
NAME_BYTES: Final = 16
NO_NAME: Final = bytes(NAME_BYTES)
CHUNK_BYTES: Final = 512 * 1024
SLICE_ENTRIES: Final = 2_000  # of members or pairs of a chunk, taken at a time: a few milliseconds
MAX_OFFSET: Final = (1 << 63) - 1
HEADER: Final = struct.Struct(">3sBHBxIQQ16s")

BASE: Final = 1  # flag: of a base, which needs no other snapshot
END: Final = 2  # flag: the last chunk of a snapshot; it has the rest
_FLAGS_AT: Final = 6


class Rest(msgspec.Struct, array_like=True):
    """The state beside rows and window, at the instant of the snapshot.

    `oldest` are the numbers of the window's oldest blocks, keyed and unkeyed. Every id that was accepted in the offsets
    [since, offset) of the message log stands in this snapshot with its seq. `pairs` hold everything below
    `inbox_offset` of the inbox log. Changed messages at or below the place `below` in the log have no rows. `last` is
    the newest record below the offset; snapshots of older versions have none.
    """

    config: Config
    log_ms: int
    changes: int
    digest: bytes
    oldest: tuple[int, int]
    since: int
    logic: int = 1
    inbox_offset: int = 0
    below: int = -1
    last: LastRecord = NO_RECORD


class MemberEntry(NamedTuple):
    """A member of a topic in an epoch, None for one who left. A topic's rows of an older epoch count as absent."""

    key: bytes
    epoch: int
    user_id: str
    membership: Membership | None


class MessageEntry(NamedTuple):
    """A message of a topic in an epoch that was edited or redacted."""

    key: bytes
    epoch: int
    seq: int
    row: ChangedMessage


class ChunkBody(msgspec.Struct, array_like=True):
    """The content of a chunk: rows by topic key (None: deleted), pieces of the window, and `rest` in an END chunk.

    `pairs` are what other wings keep, as (key, encoded value). A later entry of the same key, block or member takes the
    place of, or goes on behind, an earlier one. Empty lists at the end are left out.
    """

    rows: list[tuple[bytes, Row | None]] = []
    blocks: list[BlockState] = []
    rest: Rest | None = None
    members: list[MemberEntry] = []
    pairs: list[tuple[bytes, bytes | None]] = []
    messages: list[MessageEntry] = []


class Chunk(NamedTuple):
    """A chunk as read from the snapshots log: `at` is the offset of its record, `name` its checksum."""

    at: int
    name: bytes
    prev: bytes
    logic: int
    flags: int
    shard: int
    floor: int
    offset: int
    value: bytes

    @property
    def is_base(self) -> bool:
        """Whether it is part of a base."""
        return bool(self.flags & BASE)

    @property
    def is_end(self) -> bool:
        """Whether it is the last chunk of a snapshot."""
        return bool(self.flags & END)

    @property
    def is_first(self) -> bool:
        """Whether it is the first of a chain."""
        return self.is_base and self.prev == NO_NAME

    def body(self) -> ChunkBody:
        """Returns the content. Raises BrokenChain where it cannot be decoded."""
        try:
            return _decoder.decode(memoryview(self.value)[HEADER.size : -NAME_BYTES])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BrokenChain(f"the snapshot chunk at {self.at}: {error}", self.at) from None


_decoder: msgspec.msgpack.Decoder[ChunkBody] = msgspec.msgpack.Decoder(ChunkBody)


def seal(shard: int, logic: int, flags: int, floor: int, offset: int, prev: bytes, body: bytes) -> bytes:
    """Returns the value of a chunk record; its last 16 bytes are the chunk's name."""
    head = HEADER.pack(MAGIC, VERSION, logic, flags, shard, floor, offset, prev)
    value = head + body
    return value + blake2b(value, digest_size=NAME_BYTES).digest()


def name_of(value: bytes) -> bytes:
    """Returns the name of a sealed chunk."""
    return value[-NAME_BYTES:]


def ends(value: bytes) -> bool:
    """Returns whether a sealed chunk is the last of a snapshot."""
    return bool(value[_FLAGS_AT] & END)


def read_chunk(at: int, value: bytes | None) -> Chunk | None:
    """Reads a chunk's header and checks its name; None where the value is damaged, older, or no chunk.

    Raises NewerSnapshot for a version that this code does not know.
    """
    if value is None or value[:3] != MAGIC or len(value) < HEADER.size + NAME_BYTES:
        return None
    if value[3] > VERSION:
        raise NewerSnapshot(f"the snapshot chunk at {at} has version {value[3]}, this code reads {VERSION}: upgrade it")
    name = value[-NAME_BYTES:]
    if value[3] != VERSION or blake2b(memoryview(value)[:-NAME_BYTES], digest_size=NAME_BYTES).digest() != name:
        return None
    _, _, logic, flags, shard, floor, offset, prev = HEADER.unpack_from(value)
    return Chunk(at, name, prev, logic, flags, shard, floor, offset, value)


class ChainSearch:
    """Finds the newest valid chain among chunks that are given newest first; holds one chain at a time.

    It follows the chain that was ended last; an END chunk of a higher offset on the way replaces it. The chain must
    end at the offset `at_least` or above, and not above `at_most`. `skip` are the names of END chunks whose chains were
    found broken before.
    """

    def __init__(self, skip: Iterable[bytes] = (), at_most: int = MAX_OFFSET, at_least: int = 0) -> None:
        self._skip = frozenset(skip)
        self._at_most = at_most
        self._at_least = at_least
        self._chunks: list[Chunk] = []
        self.is_over = False  # the chain is whole, or broken

    @property
    def ends(self) -> list[bytes]:
        """The names of the END chunks that were followed: where the chain is broken, so are all of theirs."""
        return [chunk.name for chunk in self._chunks if chunk.is_end]

    @property
    def chain(self) -> list[Chunk]:
        """The whole chain, its base first; empty while it is not found."""
        return self._chunks[::-1] if self._chunks and self._chunks[-1].is_first else []

    def take(self, chunk: Chunk) -> bool:
        """Takes the next older chunk; returns whether the search is over. Raises NewerSnapshot."""
        if self._chunks and chunk.at < self._chunks[0].floor:
            self.is_over = True
        elif self._chunks and chunk.name == self._chunks[-1].prev:
            self._chunks.append(_readable(chunk))
            self.is_over = chunk.is_first
        elif self._is_better(chunk):
            self._chunks = [_readable(chunk)]
            self.is_over = chunk.is_first
        return self.is_over

    def _is_better(self, chunk: Chunk) -> bool:
        if not chunk.is_end or chunk.name in self._skip or not self._at_least <= chunk.offset <= self._at_most:
            return False
        return not self._chunks or chunk.offset > self._chunks[0].offset


def chain_among(chunks: Iterable[Chunk], at_most: int = MAX_OFFSET) -> list[Chunk]:
    """Returns the newest valid chain of chunks in the log's order, its base first; empty where there is none."""
    backwards = list(chunks)[::-1]
    skip: list[bytes] = []
    while True:
        search = ChainSearch(skip, at_most)
        any(search.take(chunk) for chunk in backwards)
        if search.chain or not search.ends:
            return search.chain
        skip.extend(search.ends)


def restoring(chain: Sequence[Chunk], pairs: Pairs) -> Generator[None, None, tuple[Shard, dict[bytes, Row]]]:
    """Builds the shard and its rows as they were at the chain's end, yielding between slices of some milliseconds.

    Loads `pairs`. Raises BrokenChain.
    """
    rows: dict[bytes, Row] = {}
    members: dict[bytes, Members] = {}
    changed = ChangedMessages(most=NO_BOUND)  # some of them left before the chain's end
    pieces: list[BlockState] = []
    rest: Rest | None = None
    for chunk in chain:
        body = chunk.body()
        rest = body.rest
        _take_rows(rows, members, body.rows)
        for at in range(0, len(body.members), SLICE_ENTRIES):
            _take_members(members, body.members[at : at + SLICE_ENTRIES])
            yield
        for at in range(0, len(body.pairs), SLICE_ENTRIES):
            _take_pairs(pairs, body.pairs[at : at + SLICE_ENTRIES], chunk.at)
            yield
        for at in range(0, len(body.messages), SLICE_ENTRIES):
            _take_messages(changed, body.messages[at : at + SLICE_ENTRIES])
            yield
        pieces.extend(body.blocks)
        if rest is not None:
            pieces = [p for p in pieces if p.number >= rest.oldest[not p.keyed]]
        yield
    if rest is None:
        raise BrokenChain("a chain ends with the last chunk of a snapshot")
    shard = Shard()
    shard.config = rest.config
    shard.next_offset = chain[-1].offset
    shard.log_ms = rest.log_ms
    shard.changes = rest.changes
    shard.logic = rest.logic
    shard.last = rest.last
    pairs.next_offset = rest.inbox_offset
    shard.members = {key: found for key, found in members.items() if key in rows and rows[key].epoch == found.epoch}
    shard.changed = yield from _settled(changed, rest.below, rows)
    shard.digest = Digest(rest.digest)
    shard.window = yield from Window.restoring(pieces, rest.oldest, shard.next_offset)
    return shard, rows


def _take_messages(changed: ChangedMessages, entries: Iterable[MessageEntry]) -> None:
    for key, epoch, seq, row in entries:
        changed.put(key, epoch, seq, row)


def _settled(found: ChangedMessages, below: int, rows: dict[bytes, Row]) -> Generator[None, None, ChangedMessages]:
    """Returns the changed messages that were there at the chain's end."""
    changed = ChangedMessages(below)
    for count, (key, epoch, seq, row) in enumerate(found):
        if key in rows and rows[key].epoch == epoch:
            changed.put(key, epoch, seq, row)
        if count % SLICE_ENTRIES == SLICE_ENTRIES - 1:
            yield
    return changed


def _take_rows(
    rows: dict[bytes, Row], members: dict[bytes, Members], entries: Iterable[tuple[bytes, Row | None]]
) -> None:
    for key, row in entries:
        if row is None:
            rows.pop(key, None)
            members.pop(key, None)
        else:
            rows[key] = row


def _take_pairs(pairs: Pairs, entries: Iterable[tuple[bytes, bytes | None]], at: int) -> None:
    for key, value in entries:
        try:
            pairs.load(key, value)
        except CorruptRecord as error:
            raise BrokenChain(f"the snapshot chunk at {at}: {error}", at) from None


def _take_members(members: dict[bytes, Members], entries: Iterable[MemberEntry]) -> None:
    for key, epoch, user_id, membership in entries:
        found = members.get(key)
        if membership is None:
            if found is not None and found.epoch == epoch:
                found.remove(user_id)
            continue
        if found is None or found.epoch < epoch:
            found = members[key] = Members(epoch)
        if found.epoch == epoch:
            found.put(user_id, membership)


def _readable(chunk: Chunk) -> Chunk:
    """Returns the chunk. Raises NewerSnapshot: an older chain and old code would give other numbers."""
    if chunk.logic > LOGIC:
        raise NewerSnapshot(
            f"shard {chunk.shard}: the snapshot chunk at {chunk.at} was written with logic {chunk.logic}, "
            f"this code has {LOGIC}: upgrade this node"
        )
    return chunk
