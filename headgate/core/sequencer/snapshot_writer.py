"""Builds the snapshots of a shard in slices, chunk by chunk, while more records are applied.

A base holds everything, a delta the changes since the last snapshot. Both are built the same way. First the rows and
the window are written slice by slice, each row as it is at that moment; then, in the same way, those that changed
meanwhile, until they are few. Then, at one instant, follow these few, the ids that were added meanwhile, and the rest.
The snapshot is the state at that instant.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from headgate.core.sequencer.chunk_builder import ChunkBuilder, Pair
from headgate.core.sequencer.pairs import NoPairs, Pairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import BASE, CHUNK_BYTES, NO_NAME, Chunk, MemberEntry, MessageEntry, Rest
from headgate.core.sequencer.window import START, Window, WindowMark

SLICE_ROWS: Final = 500  # about 1 ms
ROUNDS: Final = 20  # over what changed meanwhile; each leaves fewer, unless rows change faster than they are written

Steps = Generator[bytes | None, None, None]


class MemberKey(msgspec.Struct, frozen=True, gc=False):  # hundreds of thousands wait: no work for the collector
    """The key of a member's row."""

    topic_key: bytes
    user_id: str


class MessageKey(msgspec.Struct, frozen=True, gc=False):
    """The key of the row of a message that was changed."""

    topic_key: bytes
    seq: int


class PairKey(msgspec.Struct, frozen=True, gc=False):
    """The key of a pair (see `Pairs`), apart from those of rows."""

    key: bytes


Key = bytes | MemberKey | MessageKey | PairKey  # bytes: the topic key of a topic's row


class SnapshotWriter:
    """Writes the chain of one shard. The owner calls `touch` for each key that changed and appends the chunks it gets.

    A snapshot counts as written once its iterator has ended. An iterator that is closed before leaves the chain as it
    was: the next snapshot adds to the last whole one.
    """

    def __init__(self, pairs: Pairs | None = None) -> None:
        self._pairs: Pairs = NoPairs() if pairs is None else pairs
        self._dirty: set[Key] = set()
        self._prev = NO_NAME
        self._mark = START
        self._changes = 0
        self._pair_changes = 0
        self._floor = 0
        self._first_at = self._end_at = -1  # of the chain in the snapshots log: its first chunk, and its newest
        self.offset = -1  # where the newest snapshot ends
        self.inbox_offset = -1  # and in the inbox log
        self.base_bytes = 0
        self.delta_bytes = 0

    def touch(self, key: Key) -> None:
        """Notes that a topic's row or a member changed, came or went."""
        self._dirty.add(key)

    def touched(self, key: Key) -> bool:
        """Says whether a row or member may differ from the newest snapshot."""
        return key in self._dirty

    def resume(self, chain: Sequence[Chunk], window: Window) -> None:
        """Continues a chain that was just restored, together with its window."""
        rest = chain[-1].body().rest
        assert rest is not None
        self._prev, self._floor, self.offset = chain[-1].name, chain[-1].floor, chain[-1].offset
        self._first_at, self._end_at = chain[0].at, chain[-1].at
        self._mark, self._changes, self._pair_changes = window.mark(), rest.changes, self._pairs.changes
        self.inbox_offset = rest.inbox_offset
        self.base_bytes = sum(len(chunk.value) for chunk in chain if chunk.is_base)
        self.delta_bytes = sum(len(chunk.value) for chunk in chain if not chunk.is_base)

    def forget(self) -> None:
        """Forgets the chain, because its content is in doubt: the next snapshot is a base."""
        self._prev = NO_NAME
        self._first_at = self._end_at = -1
        self._changes = -1  # all changes count as not written
        self.offset = self.inbox_offset = -1

    def stands_at(self, places: Sequence[int], *, base: bool) -> None:
        """Notes at which offsets of the snapshots log the chunks of the newest snapshot stand."""
        self._first_at, self._end_at = places[0] if base else self._first_at, places[-1]

    def is_within(self, first: int, end: int) -> bool:
        """Whether a snapshots log that holds [first, end) can have the chain; True where its place is not known."""
        return (self._first_at < 0 or first <= self._first_at) and self._end_at < end

    @property
    def end_at(self) -> int:
        """Where the newest chunk of the chain stands in the snapshots log, -1 where that is not known."""
        return self._end_at

    @property
    def pairs(self) -> Pairs:
        """What other wings keep in the snapshots."""
        return self._pairs

    @property
    def is_dirty(self) -> bool:
        """Whether a row or member may differ from the newest snapshot."""
        return bool(self._dirty)

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
        """Returns how many messages, controls and pairs changed something since the last snapshot."""
        return shard.changes - self._changes + self._pairs.changes - self._pair_changes

    def base(self, shard: Shard, rows: Mapping[bytes, Row], floor: int) -> Steps:
        """Yields the values of a base's chunks in order, and None where only other tasks should get their turn.

        `floor` is an offset of the snapshots log, at or below that of the first chunk.
        """
        chunks = ChunkBuilder(shard, BASE, floor, NO_NAME)
        taken = self._take_dirty()
        try:
            yield from self._fuzzy(chunks, shard, rows, list(rows))
            yield from _all_members(chunks, shard)
            yield from _all_messages(chunks, shard, rows)
            for keys in self._pairs.keys(SLICE_ROWS):
                yield from chunks.pairs(self._pairs_at([PairKey(key) for key in keys]))
                yield None
            mark = shard.window.mark()
            yield from chunks.blocks(shard.window.pieces(START, mark))
            yield from self._late(chunks, shard, rows, taken)
            yield from self._instant(chunks, shard, rows, taken, mark, changed=())
        except BaseException:
            self._dirty |= taken
            raise
        self._floor, self.base_bytes, self.delta_bytes = floor, chunks.written, 0
        yield from _release(taken)

    def delta(self, shard: Shard, rows: Mapping[bytes, Row]) -> Steps:
        """Yields the chunk values of a delta in order, None where only others should have their turn."""
        chunks = ChunkBuilder(shard, 0, self._floor, self._prev)
        taken = self._take_dirty()
        few = len(taken) <= SLICE_ROWS
        try:
            if not few:
                yield from self._fuzzy(chunks, shard, rows, list(taken))
                yield from self._late(chunks, shard, rows, taken)
            yield from self._instant(chunks, shard, rows, taken, self._mark, changed=tuple(taken) if few else ())
        except BaseException:
            self._dirty |= taken
            raise
        self.delta_bytes += chunks.written
        yield from _release(taken)

    def _take_dirty(self) -> set[Key]:
        taken, self._dirty = self._dirty, set()
        return taken

    def _fuzzy(
        self, chunks: ChunkBuilder, shard: Shard, rows: Mapping[bytes, Row], keys: Sequence[Key]
    ) -> Iterator[bytes | None]:
        for at in range(0, len(keys), SLICE_ROWS):
            some = keys[at : at + SLICE_ROWS]
            yield from chunks.rows([(key, rows.get(key)) for key in some if isinstance(key, bytes)])
            yield from chunks.members(_members_at(shard, rows, some))
            yield from chunks.messages(_messages_at(shard, rows, some))
            yield from chunks.pairs(self._pairs_at(some))
            yield None

    def _late(
        self, chunks: ChunkBuilder, shard: Shard, rows: Mapping[bytes, Row], taken: set[Key]
    ) -> Iterator[bytes | None]:
        """Writes what changed meanwhile, and what changes while that is written, until a slice can hold the rest.

        Adds the keys that it takes to `taken`.
        """
        for _ in range(ROUNDS):
            if len(self._dirty) <= SLICE_ROWS:
                return
            late = self._take_dirty()
            taken |= late
            yield from self._fuzzy(chunks, shard, rows, list(late))

    def _pairs_at(self, keys: Iterable[Key]) -> list[Pair]:
        encoded = self._pairs.encoded
        return [(key.key, encoded(key.key)) for key in keys if isinstance(key, PairKey)]

    def _instant(
        self,
        chunks: ChunkBuilder,
        shard: Shard,
        rows: Mapping[bytes, Row],
        taken: set[Key],
        start: WindowMark,
        changed: Iterable[Key],
    ) -> Iterator[bytes | None]:
        """Captures the rest of the snapshot at one instant, then yields it. Adds the keys that it takes to `taken`."""
        assert shard.config is not None
        late = self._take_dirty()
        taken |= late
        keys = late.union(changed)
        entries = [(key, _copy(rows.get(key))) for key in keys if isinstance(key, bytes)]
        members, pairs = _members_at(shard, rows, keys), self._pairs_at(keys)
        messages = _messages_at(shard, rows, keys)
        window, mark = shard.window, shard.window.mark()
        pieces = window.pieces(start, mark)
        since = window.whole_from if chunks.is_base else max(self.offset, window.whole_from)
        offset, changes = shard.next_offset, shard.changes
        inbox_offset, pair_changes = self._pairs.next_offset, self._pairs.changes
        rest = Rest(
            shard.config,
            shard.log_ms,
            changes,
            shard.digest.value,
            window.oldest,
            since,
            shard.logic,
            inbox_offset,
            shard.changed.below,
            shard.last,
        )
        for at in range(0, len(entries), SLICE_ROWS):
            yield from chunks.rows(entries[at : at + SLICE_ROWS])
            yield None
        for at in range(0, len(members), SLICE_ROWS):
            yield from chunks.members(members[at : at + SLICE_ROWS])
            yield None
        for at in range(0, len(messages), SLICE_ROWS):
            yield from chunks.messages(messages[at : at + SLICE_ROWS])
            yield None
        for at in range(0, len(pairs), SLICE_ROWS):
            yield from chunks.pairs(pairs[at : at + SLICE_ROWS])
            yield None
        yield from chunks.blocks(pieces)
        yield from chunks.end(offset, rest)
        self._prev, self._mark, self._changes, self.offset = chunks.prev, mark, changes, offset
        self._pair_changes, self.inbox_offset = pair_changes, inbox_offset
        window.saved(mark)


def _members_at(shard: Shard, rows: Mapping[bytes, Row], keys: Iterable[Key]) -> list[MemberEntry]:
    """Returns the members that some of the keys name, as they are now; of a topic that is gone its row says so."""
    entries: list[MemberEntry] = []
    for key in keys:
        if isinstance(key, MemberKey) and key.topic_key in rows:
            row = rows[key.topic_key]
            found = shard.listed(key.topic_key, key.user_id)
            entries.append(MemberEntry(key.topic_key, row.epoch, key.user_id, found))
    return entries


def _all_members(chunks: ChunkBuilder, shard: Shard) -> Iterator[bytes | None]:
    """Writes the members of all topics, some hundred a slice; a topic may change or go between two slices."""
    entries: list[MemberEntry] = []
    for key in list(shard.members):
        after = ""
        while (members := shard.members.get(key)) is not None:
            page = members.above(after, SLICE_ROWS - len(entries))
            entries += [MemberEntry(key, members.epoch, user_id, found) for user_id, found in page]
            if len(entries) < SLICE_ROWS:
                break  # the last of this topic
            after = page[-1][0]
            yield from chunks.members(entries)
            yield None
            entries = []
    yield from chunks.members(entries)
    yield None


def _messages_at(shard: Shard, rows: Mapping[bytes, Row], keys: Iterable[Key]) -> list[MessageEntry]:
    """Returns the changed messages that some of the keys name; those that left are below `Rest.below`."""
    entries: list[MessageEntry] = []
    for key in keys:
        if isinstance(key, MessageKey) and key.topic_key in rows:
            epoch = rows[key.topic_key].epoch
            found = shard.changed.get(key.topic_key, epoch, key.seq)
            if found is not None:
                entries.append(MessageEntry(key.topic_key, epoch, key.seq, found))
    return entries


def _all_messages(chunks: ChunkBuilder, shard: Shard, rows: Mapping[bytes, Row]) -> Iterator[bytes | None]:
    """Writes the changed messages of all topics in slices; a topic may change or go between two of them."""
    entries: list[MessageEntry] = []
    for key in shard.changed.topic_keys():
        seqs = shard.changed.seqs(key)
        for at in range(0, len(seqs), SLICE_ROWS):
            entries += _messages_at(shard, rows, [MessageKey(key, seq) for seq in seqs[at : at + SLICE_ROWS]])
            if len(entries) >= SLICE_ROWS:
                yield from chunks.messages(entries)
                yield None
                entries = []
    yield from chunks.messages(entries)
    yield None


def _release(taken: set[Key]) -> Iterator[None]:
    """Lets the keys of a snapshot that is written go, some hundred a slice."""
    while taken:
        for _ in range(min(SLICE_ROWS, len(taken))):
            taken.pop()
        yield None


def _copy(row: Row | None) -> Row | None:
    return None if row is None else row.__copy__()  # type: ignore[attr-defined]  # msgspec has it, its stubs do not
