"""The duplicate window of a shard: the (id, topic epoch) pairs that it accepted lately.

Ids are kept in log order in two lanes, keyed and unkeyed. A block of a lane closes at 4,096 ids or 4,096 offsets,
whichever comes first, and ids are dropped by whole blocks: a pure function of the log. Newer ids keep their seq (about
190 bytes an id). Older ones are packed (about 35 bytes), which tells only that they were seen: the seq is then in the
history index. Nodes pack blocks at different times, so no verdict depends on it.
"""

import struct
from array import array
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from headgate.core.sequencer.packed_ids import ID_BYTES, PackedIds, is_in_any
from headgate.core.wire.control import Config
from headgate.core.wire.errors import BrokenChain

BLOCK_IDS: Final = 4_096
BLOCK_OFFSETS: Final = 4_096
PACK_RECORDS: Final = 200  # records from one block packed to the next: a block takes 4 ms, a slice has 200 records
RECENT_BLOCKS: Final = 4  # of each lane, newest: never packed, a repeat usually comes soon
UNSAVED_IDS: Final = (
    250_000  # not in a snapshot and not packed: about 50 MB; above that the oldest are packed nevertheless
)
SEQ_UNKNOWN: Final = 0
_int: Final = int.from_bytes  # a global is found faster than an attribute, and this is used for every message


def window_key(record_id: bytes, epoch: int) -> int:
    """Returns the key of (id, topic epoch): ids are hashes, so the exclusive or is as good as the pair."""
    return _int(record_id, "big") ^ epoch


class LanePlace(NamedTuple):
    """A position in a lane: behind the first `ids` ids of block `number`."""

    number: int
    ids: int


class WindowMark(NamedTuple):
    """A position in the window; the mark of a snapshot: everything before it is in a snapshot."""

    keyed: LanePlace
    unkeyed: LanePlace


START: Final = WindowMark(LanePlace(0, 0), LanePlace(0, 0))


class BlockState(msgspec.Struct, array_like=True, gc=False):
    """Ids of one block in a snapshot, from the `index`-th of the block on; at most BLOCK_IDS, 98 KB.

    `first` is the offset of the block's first id, `last` and `last_ms` are offset and log time of its newest. `ids` are
    16 bytes each (`window_key`), `seqs` 8 bytes each, big endian; `seqs` is empty where the block was packed.
    """

    keyed: bool
    number: int
    index: int
    first: int
    last: int
    last_ms: int
    ids: bytes
    seqs: bytes

    def numbers(self) -> Iterator[tuple[int, int]]:
        """Yields (window key, seq) of each id; nothing where the seqs are unknown."""
        keys = (int.from_bytes(self.ids[at : at + ID_BYTES], "big") for at in range(0, len(self.ids), ID_BYTES))
        return zip(keys, _seqs(self.seqs), strict=False)


class _Block:
    """`keys` and `seqs` are only appended to, so a slice of them never changes; both are empty once packed."""

    __slots__ = ("count", "first", "keys", "last", "last_ms", "number", "packed", "seqs")

    def __init__(self, number: int, first: int) -> None:
        self.number = number
        self.first = self.last = first
        self.last_ms = 0
        self.count = 0
        self.keys: list[int] = []
        self.seqs: array[int] = array("Q")
        self.packed = b""


class _BlockPart(NamedTuple):
    """Part of a block that stays as it is while the block grows, is packed or is dropped."""

    state: BlockState
    keys: Sequence[int]
    seqs: "array[int]"
    packed: bytes
    start: int
    stop: int


class _Lane:
    """Blocks of one kind of id, oldest first. Every id that was added from offset `whole_from` on has its seq here."""

    __slots__ = ("blocks", "count", "keyed", "next_number", "packed", "saved", "to_pack", "unsaved", "whole_from")

    def __init__(self, keyed: bool) -> None:
        self.keyed = keyed
        self.blocks: deque[_Block] = deque()
        self.packed = PackedIds()
        self.count = 0
        self.next_number = 0
        self.to_pack = 0  # the oldest block that is not packed
        self.saved = 0  # blocks before this one are in a snapshot
        self.unsaved = 0  # ids of closed blocks that are neither saved nor packed
        self.whole_from = 0

    def open(self, offset: int) -> _Block:
        if self.blocks:
            self.unsaved += self.blocks[-1].count
        block = _Block(self.next_number, offset)
        self.next_number += 1
        self.blocks.append(block)
        return block

    @property
    def end(self) -> LanePlace:
        return (
            LanePlace(self.blocks[-1].number, self.blocks[-1].count) if self.blocks else LanePlace(self.next_number, 0)
        )

    @property
    def oldest(self) -> int:
        return self.blocks[0].number if self.blocks else self.next_number

    def save(self, place: LanePlace) -> None:
        self.saved = place.number
        closed = (b.count for b in self.newest(max(place.number, self.to_pack)) if b is not self.blocks[-1])
        self.unsaved = sum(closed)

    def newest(self, number: int) -> list[_Block]:
        """Returns the blocks from `number` on, oldest first."""
        found: list[_Block] = []
        for block in reversed(self.blocks):
            if block.number < number:
                break
            found.append(block)
        found.reverse()
        return found

    def parts(self, start: LanePlace, end: LanePlace) -> Iterator[_BlockPart]:
        for b in self.newest(start.number):
            low = start.ids if b.number == start.number else 0
            high = b.count if b.number < end.number else end.ids if b.number == end.number else 0
            if low < high:
                yield _part_of(self.keyed, b, low, high)


class Window:
    """The ids that a shard accepted lately. `add` and `enter` are called in log order, by its one owner."""

    __slots__ = ("_keyed", "_may_pack", "_opened", "_pack_in", "_packed", "_recent", "_unkeyed")

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._keyed = _Lane(True)
        self._unkeyed = _Lane(False)
        self._packed: tuple[PackedIds, ...] = ()  # those of the lanes that have any
        self._may_pack = False
        self._pack_in = 0  # records until the next block may be packed
        self._opened = 0  # blocks for each of which an older one may be packed before that

    def __len__(self) -> int:
        """The number of ids in the window."""
        return self._keyed.count + self._unkeyed.count

    def find(self, key: int) -> int | None:
        """Returns the seq that was given to this id, SEQ_UNKNOWN where it is packed, None where it was not seen."""
        seq = self._recent.get(key)
        if seq is not None or not self._packed:
            return seq
        return SEQ_UNKNOWN if is_in_any(self._packed, key) else None

    def add(self, key: int, seq: int, keyed: bool, offset: int, log_ms: int) -> None:
        """Adds an id. `log_ms` is log time in milliseconds."""
        lane = self._keyed if keyed else self._unkeyed
        block = lane.blocks[-1] if lane.blocks else None
        if block is None or block.count >= BLOCK_IDS or offset - block.first >= BLOCK_OFFSETS:
            block = lane.open(offset)
            self._may_pack = True
            self._opened += 1
        block.keys.append(key)
        block.seqs.append(seq)
        block.last = offset
        block.last_ms = log_ms
        block.count += 1
        lane.count += 1
        self._recent[key] = seq

    def enter(self, log_ms: int, config: Config) -> None:
        """Drops the blocks that are due, and may pack one; called for each record before it is applied.

        Time alone empties no lane: a broker whose clock is a month ahead for a moment must not make repeats new.
        """
        lane = self._keyed
        while lane.blocks:
            block = lane.blocks[0]
            newer = lane.count - block.count
            too_old = log_ms - block.last_ms > config.dedup_keyed_ms
            if newer < (config.dedup_unkeyed_ids if too_old else config.dedup_max_ids):
                break
            self._drop_first(lane)
        lane = self._unkeyed
        while lane.blocks:
            block = lane.blocks[0]
            newer = lane.count - block.count
            too_old = log_ms - block.last_ms > config.dedup_unkeyed_ms
            if newer < config.dedup_unkeyed_ids * (1 if too_old else 2):
                break
            self._drop_first(lane)
        if self._may_pack:
            self._pack_one()

    def _drop_first(self, lane: _Lane) -> None:
        block = lane.blocks.popleft()
        lane.count -= block.count
        lane.whole_from = max(lane.whole_from, block.last + 1)
        if block.packed:
            lane.packed.drop(block.number)
            return
        if block.number >= lane.saved and block.number + 1 < lane.next_number:
            lane.unsaved -= block.count
        for key in block.keys:
            self._recent.pop(key, None)

    def _pack_one(self) -> None:
        """Packs the oldest block that may be packed: one for each block that comes, whatever a record holds, and one in
        PACK_RECORDS records. So no step is long, and what no snapshot takes stays within its bound.
        """
        if self._opened:
            self._opened -= 1
        elif self._pack_in > 0:
            self._pack_in -= 1
            return
        else:
            self._pack_in = PACK_RECORDS
        full = self._keyed.unsaved + self._unkeyed.unsaved > UNSAVED_IDS
        for lane in (self._keyed, self._unkeyed):
            number = max(lane.to_pack, lane.oldest)
            if number + RECENT_BLOCKS < lane.next_number and (number < lane.saved or full):
                self._pack(lane, lane.blocks[number - lane.oldest])
                return
        self._may_pack, self._opened = False, 0

    def _pack(self, lane: _Lane, block: _Block) -> None:
        self._take_packed(lane, block, b"".join([key.to_bytes(ID_BYTES, "big") for key in block.keys]))
        for key in block.keys:
            self._recent.pop(key, None)
        if block.number >= lane.saved:
            lane.unsaved -= block.count
        block.keys, block.seqs = [], array("Q")

    def _take_packed(self, lane: _Lane, block: _Block, ids: bytes) -> None:
        block.packed = ids
        lane.packed.add(block.number, ids)
        lane.to_pack = block.number + 1
        lane.whole_from = block.last + 1
        if lane.packed not in self._packed:
            self._packed = (*self._packed, lane.packed)

    # -- snapshots

    def mark(self) -> WindowMark:
        """Returns the position of the window's end."""
        return WindowMark(self._keyed.end, self._unkeyed.end)

    def pieces(self, start: WindowMark, end: WindowMark) -> Iterator[BlockState]:
        """Yields the ids from `start` to `end`, both marks of this window; START is its beginning.

        The call captures them: records may be applied while they are yielded.
        """
        lanes = ((self._keyed, start.keyed, end.keyed), (self._unkeyed, start.unkeyed, end.unkeyed))
        parts = [part for lane, low, high in lanes for part in lane.parts(low, high)]
        return (_state(part) for part in parts)

    def saved(self, mark: WindowMark) -> None:
        """Notes that everything before the mark is in a snapshot: it may be packed."""
        self._keyed.save(mark.keyed)
        self._unkeyed.save(mark.unkeyed)
        self._may_pack = True

    @property
    def whole_from(self) -> int:
        """The offset from which on every id that was added is still here with its seq."""
        return max(self._keyed.whole_from, self._unkeyed.whole_from)

    @property
    def oldest(self) -> tuple[int, int]:
        """The numbers of the oldest keyed and unkeyed block; where a lane has none, of its next block."""
        return (self._keyed.oldest, self._unkeyed.oldest)

    def counts(self, mark: WindowMark) -> Iterator[tuple[bool, int, int]]:
        """Yields (keyed, number, ids before the mark) of each block that is kept and begins before the mark."""
        for lane, place in ((self._keyed, mark.keyed), (self._unkeyed, mark.unkeyed)):
            for part in lane.parts(LanePlace(0, 0), place):
                yield lane.keyed, part.state.number, part.stop

    def agrees(self, piece: BlockState) -> bool:
        """Returns whether a piece of a snapshot equals the window; a piece of a dropped block always does."""
        block = self._block(piece.keyed, piece.number)
        if block is None:
            return piece.number < (self._keyed if piece.keyed else self._unkeyed).oldest
        stop = piece.index + len(piece.ids) // ID_BYTES
        mine = _state(_part_of(piece.keyed, block, piece.index, stop))
        same_seqs = not mine.seqs or not piece.seqs or mine.seqs == piece.seqs
        return mine.first == piece.first and mine.ids == piece.ids and same_seqs

    def _block(self, keyed: bool, number: int) -> _Block | None:
        lane = self._keyed if keyed else self._unkeyed
        at = number - lane.oldest
        return lane.blocks[at] if 0 <= at < len(lane.blocks) else None

    @classmethod
    def restoring(
        cls, pieces: Iterable[BlockState], oldest: tuple[int, int], next_offset: int
    ) -> Generator[None, None, "Window"]:
        """Builds the window of a chain, yielding after each block. `pieces` are in the chain's order.

        `oldest` and `next_offset` are those of its newest snapshot. Raises BrokenChain where a piece is missing.
        """
        window = cls()
        joined = _joined(pieces, oldest)
        for lane, first in zip((window._keyed, window._unkeyed), oldest, strict=True):
            blocks = sorted((n, found) for (keyed, n), found in joined.items() if keyed == lane.keyed)
            lane.next_number = lane.to_pack = first
            lane.whole_from = next_offset if first and not blocks else 0
            for number, parts in blocks:
                if number != lane.next_number:
                    raise BrokenChain(f"window block {lane.next_number} is missing, the next is {number}")
                window._restore(lane, parts, recent=number + RECENT_BLOCKS > blocks[-1][0])
                yield
        window.saved(window.mark())
        return window

    def _restore(self, lane: _Lane, parts: list[BlockState], *, recent: bool) -> None:
        block = lane.open(parts[0].first)
        if block.number and len(lane.blocks) == 1:
            lane.whole_from = block.first + 1  # the block before it may have ended in the same record
        block.last, block.last_ms = parts[-1].last, parts[-1].last_ms
        ids = b"".join(part.ids for part in parts)
        seqs = b"".join(part.seqs for part in parts)
        block.count = len(ids) // ID_BYTES
        lane.count += block.count
        if recent and len(seqs) == 8 * block.count:
            block.keys = [int.from_bytes(ids[at : at + ID_BYTES], "big") for at in range(0, len(ids), ID_BYTES)]
            block.seqs = _seqs(seqs)
            self._recent.update(zip(block.keys, block.seqs, strict=True))
            return
        self._take_packed(lane, block, ids)


def _joined(pieces: Iterable[BlockState], oldest: tuple[int, int]) -> dict[tuple[bool, int], list[BlockState]]:
    """Returns the pieces of the blocks that are still kept, by block. Raises BrokenChain where a piece is missing."""
    blocks: dict[tuple[bool, int], list[BlockState]] = {}
    for piece in pieces:
        if piece.number < oldest[not piece.keyed]:
            continue
        parts = blocks.setdefault((piece.keyed, piece.number), [])
        have = sum(len(part.ids) for part in parts) // ID_BYTES
        if have != piece.index or not 0 < have + len(piece.ids) // ID_BYTES <= BLOCK_IDS:
            raise BrokenChain(f"window block {piece.number} has {have} ids, the next piece begins at {piece.index}")
        parts.append(piece)
    return blocks


def _part_of(keyed: bool, block: _Block, start: int, stop: int) -> _BlockPart:
    state = BlockState(keyed, block.number, start, block.first, block.last, block.last_ms, b"", b"")
    return _BlockPart(state, block.keys, block.seqs, block.packed, start, stop)


def _state(part: _BlockPart) -> BlockState:
    state = part.state
    if part.packed:
        state.ids = part.packed[part.start * ID_BYTES : part.stop * ID_BYTES]
        return state
    state.ids = b"".join([key.to_bytes(ID_BYTES, "big") for key in part.keys[part.start : part.stop]])
    seqs = part.seqs[part.start : part.stop]
    state.seqs = struct.pack(f">{len(seqs)}Q", *seqs)
    return state


def _seqs(packed: bytes) -> "array[int]":
    return array("Q", struct.unpack(f">{len(packed) // 8}Q", packed))
