"""Compares a base that was read back from the log with the state it was made of, without a second copy of the state."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.pairs import NoPairs, Pairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import Chunk, ChunkBody, MemberEntry, MessageEntry
from headgate.core.sequencer.snapshot_writer import MemberKey, MessageKey, PairKey, SnapshotWriter
from headgate.core.sequencer.window import WindowMark
from headgate.core.wire.errors import HeadgateError

SLICE_ROWS: Final = 4_000  # about 2 ms


class BadSnapshot(HeadgateError):
    """A base that was read back differs from the state it was made of. Older snapshots must not be deleted."""


class BaseCheck:
    """The check of one base, made right after the base was written. Give it the chunks newest first, then finish.

    Records are applied meanwhile: a row that was touched since the base is not compared.
    """

    def __init__(
        self,
        names: Sequence[bytes],
        mark: WindowMark,
        shard: Shard,
        rows: Mapping[bytes, Row],
        writer: SnapshotWriter,
        pairs: Pairs | None = None,
    ) -> None:
        self._names = list(names)
        self._mark = mark
        self._window = shard.window
        self._shard = shard
        self._rows = rows
        self._writer = writer
        self._seen: set[bytes] = set()
        self._pairs: Pairs = NoPairs() if pairs is None else pairs
        self._seen_pairs: set[int] = set()  # hashes of the keys
        self._seen_members: set[int] = set()  # hashes of (topic key, user id): a third of the room
        self._seen_messages: set[int] = set()  # hashes of (topic key, seq)
        self._ids: dict[tuple[bool, int], int] = {}

    @property
    def is_read(self) -> bool:
        """Whether every chunk of the base was taken."""
        return not self._names

    def taking(self, chunk: Chunk) -> Iterator[None]:
        """Compares one chunk, in slices; skips a chunk of another snapshot. Raises BadSnapshot."""
        if not self._names or chunk.name != self._names[-1]:
            return
        self._names.pop()
        body = chunk.body()
        yield
        yield from self._rows_of(chunk.at, body)
        yield from self._members_of(chunk.at, body)
        yield from self._messages_of(chunk.at, body)
        yield from self._pairs_of(chunk.at, body)
        for piece in body.blocks:
            place = (piece.keyed, piece.number)
            self._ids[place] = self._ids.get(place, 0) + len(piece.ids) // 16
            if not self._window.agrees(piece):
                raise BadSnapshot(f"block {place} of the window is not what was written at {chunk.at}")
            yield

    def _rows_of(self, at: int, body: ChunkBody) -> Iterator[None]:
        for count, (key, row) in enumerate(reversed(body.rows)):
            if key not in self._seen:
                self._seen.add(key)
                if row != self._rows.get(key) and not self._writer.touched(key):
                    raise BadSnapshot(f"the row of {key!r} is not what was written at {at}")
            if count % SLICE_ROWS == SLICE_ROWS - 1:
                yield

    def _members_of(self, at: int, body: ChunkBody) -> Iterator[None]:
        for count, entry in enumerate(reversed(body.members)):
            key, _, user_id, _ = entry
            place = hash((key, user_id))
            if place not in self._seen_members:
                self._seen_members.add(place)
                if not self._is_right(entry):
                    raise BadSnapshot(f"member {user_id!r} of {key!r} is not what was written at {at}")
            if count % SLICE_ROWS == SLICE_ROWS - 1:
                yield

    def _is_right(self, entry: MemberEntry) -> bool:
        """Whether a member is what was written, or it or its whole topic changed since."""
        members = self._shard.members.get(entry.key)
        if members is None or members.epoch != entry.epoch:
            return self._writer.touched(entry.key)
        changed = self._writer.touched(MemberKey(entry.key, entry.user_id))
        return changed or members.get(entry.user_id) == entry.membership

    def _messages_of(self, at: int, body: ChunkBody) -> Iterator[None]:
        for count, entry in enumerate(reversed(body.messages)):
            place = hash((entry.key, entry.seq))
            if place not in self._seen_messages:
                self._seen_messages.add(place)
                if not self._message_is_right(entry):
                    raise BadSnapshot(f"changed message {entry.seq} of {entry.key!r} is not what was written at {at}")
            if count % SLICE_ROWS == SLICE_ROWS - 1:
                yield

    def _message_is_right(self, entry: MessageEntry) -> bool:
        """Whether a changed message is what was written, or it or its topic changed, or it left, since."""
        changed, touched = self._shard.changed, self._writer.touched
        if entry.row.pos <= changed.below or touched(entry.key) or touched(MessageKey(entry.key, entry.seq)):
            return True
        return changed.get(entry.key, entry.epoch, entry.seq) == entry.row

    def _all_messages(self) -> Iterator[None]:
        """Looks for changed messages that are not in the base, some thousand a slice."""
        for key in self._shard.changed.topic_keys():
            seqs = self._shard.changed.seqs(key)
            for at in range(0, len(seqs), SLICE_ROWS):
                self._require_messages(key, seqs[at : at + SLICE_ROWS])
                yield
        yield

    def _require_messages(self, key: bytes, seqs: Sequence[int]) -> None:
        for seq in seqs:
            if hash((key, seq)) not in self._seen_messages and not self._writer.touched(MessageKey(key, seq)):
                raise BadSnapshot(f"changed message {seq} of {key!r} is not in the base")

    def _pairs_of(self, at: int, body: ChunkBody) -> Iterator[None]:
        for count, (key, value) in enumerate(reversed(body.pairs)):
            if hash(key) not in self._seen_pairs:
                self._seen_pairs.add(hash(key))
                if value != self._pairs.encoded(key) and not self._writer.touched(PairKey(key)):
                    raise BadSnapshot(f"the pair of {key!r} is not what was written at {at}")
            if count % SLICE_ROWS == SLICE_ROWS - 1:
                yield

    def _all_pairs(self) -> Iterator[None]:
        for keys in self._pairs.keys(SLICE_ROWS):
            for key in keys:
                if hash(key) not in self._seen_pairs and not self._writer.touched(PairKey(key)):
                    raise BadSnapshot(f"the pair of {key!r} is not in the base")
            yield

    def _all_members(self) -> Iterator[None]:
        """Looks for members that are not in the base, some thousand a slice."""
        for key in list(self._shard.members):
            after = ""
            while (members := self._shard.members.get(key)) is not None:
                page = members.above(after, SLICE_ROWS)
                self._require_seen(key, page)
                if len(page) < SLICE_ROWS:
                    break
                after = page[-1][0]
                yield
        yield

    def _require_seen(self, key: bytes, page: Sequence[tuple[str, Membership]]) -> None:
        for user_id, _ in page:
            if hash((key, user_id)) not in self._seen_members and not self._writer.touched(MemberKey(key, user_id)):
                raise BadSnapshot(f"member {user_id!r} of {key!r} is not in the base")

    def finishing(self) -> Iterator[None]:
        """Checks, in slices, that nothing is missing. Raises BadSnapshot."""
        if self._names:
            raise BadSnapshot(f"{len(self._names)} chunks of the base cannot be read back")
        keys = list(self._rows)
        for at in range(0, len(keys), SLICE_ROWS):
            for key in keys[at : at + SLICE_ROWS]:
                if key not in self._seen and key in self._rows and not self._writer.touched(key):
                    raise BadSnapshot(f"the row of {key!r} is not in the base")
            yield
        yield from self._all_members()
        yield from self._all_messages()
        yield from self._all_pairs()
        for keyed, number, count in self._window.counts(self._mark):
            if self._ids.get((keyed, number), 0) != count:
                raise BadSnapshot(f"block {(keyed, number)} of the window has {count} ids, not all are in the base")
