"""The duplicate window of a shard: which ids were seen lately; knows nothing of topics, only (id, epoch) and offsets.

Ids enter in blocks of 4,096 offsets and leave by whole blocks, decided when a record of a new block arrives: a pure
function of the log. The newest blocks keep the seq of each id; older ones are packed to 16 bytes an id and say only
"seen" (the seq is then in the history index).
"""

import struct
from collections import deque
from collections.abc import Generator, Iterable
from typing import Final

import msgspec

from headgate.core.control import Config

BLOCK_BITS: Final = 12  # 4,096 offsets
RECENT_BLOCKS: Final = 16  # 65,536 offsets with their seq at hand
SEQ_UNKNOWN: Final = 0
_BUCKETS: Final = 1 << 12
_TAG: Final = struct.Struct(">16sI")


def window_key(record_id: bytes, epoch: int) -> int:
    """Returns the key of (id, topic epoch): ids are hashes, so the exclusive or is as good as the pair."""
    return int.from_bytes(record_id, "big") ^ epoch


class BlockState(msgspec.Struct, array_like=True):
    """A block as it stands in a snapshot: 16 bytes an id in `ids`, 8 bytes a seq in `seqs` (empty once packed)."""

    number: int
    keyed: bool
    last_ms: int
    ids: bytes
    seqs: bytes


class _Block:
    __slots__ = ("count", "keyed", "keys", "last_ms", "number", "packed")

    def __init__(self, number: int, keyed: bool) -> None:
        self.number = number
        self.keyed = keyed
        self.last_ms = 0
        self.count = 0
        self.keys: list[int] = []
        self.packed = b""


class _Packed:
    """Set of 16-byte ids with the block each came from; a block leaves by raising `oldest`."""

    __slots__ = ("_buckets", "oldest", "used")

    def __init__(self) -> None:
        self._buckets: dict[int, bytes] = {}
        self.oldest = 0
        self.used = False

    def add(self, key: bytes, block: int) -> None:
        self.used = True
        at = int.from_bytes(key[12:14], "big") % _BUCKETS
        bucket = self._buckets.get(at, b"")
        start = 0
        while start < len(bucket) and int.from_bytes(bucket[start + 16 : start + 20], "big") < self.oldest:
            start += _TAG.size
        self._buckets[at] = bucket[start:] + _TAG.pack(key, block)

    def __contains__(self, key: bytes) -> bool:
        bucket = self._buckets.get(int.from_bytes(key[12:14], "big") % _BUCKETS, b"")
        at = bucket.find(key)
        while at >= 0:
            if at % _TAG.size == 0 and int.from_bytes(bucket[at + 16 : at + 20], "big") >= self.oldest:
                return True
            at = bucket.find(key, at + 1)
        return False


class _Lane:
    """Blocks of one kind of id, oldest first."""

    __slots__ = ("blocks", "count", "keyed", "packed")

    def __init__(self, keyed: bool) -> None:
        self.keyed = keyed
        self.blocks: deque[_Block] = deque()
        self.packed = _Packed()
        self.count = 0

    def open(self, number: int) -> _Block:
        """Returns the block `number`, the newest; block numbers never fall."""
        if not self.blocks or self.blocks[-1].number != number:
            self.blocks.append(_Block(number, self.keyed))
        return self.blocks[-1]


class Window:
    """The ids a shard has seen lately. One owner, one writer; `add` and `enter` are called in log order."""

    __slots__ = ("_block", "_keyed", "_recent", "_unkeyed")

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._keyed = _Lane(True)
        self._unkeyed = _Lane(False)
        self._block = -1

    def __len__(self) -> int:
        """The number of ids that would be recognised."""
        return self._keyed.count + self._unkeyed.count

    def find(self, key: int) -> int | None:
        """Returns the seq that was given to this id, SEQ_UNKNOWN where it is packed, None where it was not seen."""
        seq = self._recent.get(key)
        if seq is not None:
            return seq
        if not (self._keyed.packed.used or self._unkeyed.packed.used):
            return None
        raw = key.to_bytes(16, "big")
        return SEQ_UNKNOWN if raw in self._keyed.packed or raw in self._unkeyed.packed else None

    def add(self, key: int, seq: int, keyed: bool, offset: int, log_ms: int) -> None:
        """Takes an id in. `log_ms` is log time in milliseconds."""
        lane = self._keyed if keyed else self._unkeyed
        block = lane.open(offset >> BLOCK_BITS)
        block.keys.append(key)
        block.last_ms = log_ms
        block.count += 1
        lane.count += 1
        self._recent[key] = seq

    def enter(self, offset: int, log_ms: int, config: Config) -> None:
        """Called for each record before it is judged: at a new block old ones are packed or leave."""
        number = offset >> BLOCK_BITS
        if number == self._block:
            return
        self._block = number
        self._drop_keyed(log_ms, config)
        self._drop_unkeyed(number, log_ms, config)
        for lane in (self._keyed, self._unkeyed):
            self._pack(lane, number - RECENT_BLOCKS)

    def _drop_keyed(self, log_ms: int, config: Config) -> None:
        lane = self._keyed
        while lane.blocks:
            block = lane.blocks[0]
            too_old = log_ms - block.last_ms > config.dedup_keyed_ms
            if not too_old and lane.count - block.count < config.dedup_max_ids:
                return
            self._drop_first(lane)

    def _drop_unkeyed(self, number: int, log_ms: int, config: Config) -> None:
        lane = self._unkeyed
        blocks_kept = (config.dedup_unkeyed_records >> BLOCK_BITS) + 1
        while lane.blocks:
            block = lane.blocks[0]
            if log_ms - block.last_ms <= config.dedup_unkeyed_ms or number - block.number <= blocks_kept:
                return
            self._drop_first(lane)

    def _drop_first(self, lane: _Lane) -> None:
        block = lane.blocks.popleft()
        lane.count -= block.count
        if block.packed:
            lane.packed.oldest = block.number + 1
        for key in block.keys:
            self._recent.pop(key, None)

    def _pack(self, lane: _Lane, newest: int) -> None:
        for block in lane.blocks:
            if block.number > newest:
                return
            if block.packed:
                continue
            parts = [key.to_bytes(16, "big") for key in block.keys]
            self._pack_block(lane, block, parts)

    def _pack_block(self, lane: _Lane, block: _Block, parts: list[bytes]) -> None:
        for raw in parts:
            lane.packed.add(raw, block.number)
        for key in block.keys:
            self._recent.pop(key, None)
        block.packed = b"".join(parts)
        block.keys = []

    def blocks_from(self, number: int) -> list[BlockState]:
        """Returns the state of every block from `number` on, for a snapshot; 0 gives all."""
        lanes = (self._keyed, self._unkeyed)
        return [self._state(b) for lane in lanes for b in lane.blocks if b.number >= number]

    def oldest_blocks(self) -> tuple[int, int]:
        """Returns the numbers of the oldest keyed and unkeyed block kept; where there is none, one not yet begun."""
        keyed, unkeyed = self._keyed.blocks, self._unkeyed.blocks
        none = self._block + 1
        return (keyed[0].number if keyed else none, unkeyed[0].number if unkeyed else none)

    def _state(self, block: _Block) -> BlockState:
        if block.packed:
            return BlockState(block.number, block.keyed, block.last_ms, block.packed, b"")
        ids = b"".join(key.to_bytes(16, "big") for key in block.keys)
        seqs = struct.pack(f">{len(block.keys)}Q", *(self._recent[key] for key in block.keys))
        return BlockState(block.number, block.keyed, block.last_ms, ids, seqs)

    @classmethod
    def restoring(cls, blocks: Iterable[BlockState], next_offset: int) -> Generator[None, None, "Window"]:
        """Builds the window a snapshot describes, yielding after each block; `blocks` may come in any order."""
        window = cls()
        newest = {(s.keyed, s.number): s for s in blocks}
        for (keyed, number), state in sorted(newest.items(), key=lambda kv: kv[0][1]):
            lane = window._keyed if keyed else window._unkeyed
            block = lane.open(number)
            parts = [state.ids[i : i + 16] for i in range(0, len(state.ids), 16)]
            block.last_ms = state.last_ms
            block.count = len(parts)
            lane.count += block.count
            if state.seqs:
                block.keys = [int.from_bytes(raw, "big") for raw in parts]
                seqs = struct.unpack(f">{block.count}Q", state.seqs)
                window._recent.update(zip(block.keys, seqs, strict=True))
            elif parts:
                window._pack_block(lane, block, parts)
            yield
        window._block = (next_offset - 1) >> BLOCK_BITS
        return window
