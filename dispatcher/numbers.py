"""The seqs of the messages in the log, as snapshots hold them, newest first."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from headgate.core.sequencer.packed_ids import ID_BYTES
from headgate.core.sequencer.snapshot import ChunkBody
from headgate.core.sequencer.window import BLOCK_OFFSETS, BlockState
from headgate.runtime.logs.chunks import chunks_back
from headgate.runtime.ports import Log


class Part(NamedTuple):
    """The seq of each message accepted in the offsets [low, high), by `window_key` of its id and topic epoch.

    Read the log from `start` (not above `low`) on: the first record of an id is the message, later ones are repeats.
    """

    start: int
    low: int
    high: int
    seqs: dict[int, int]


class Numbers(NamedTuple):
    """The ids and seqs that a snapshot holds of the messages accepted in the offsets [since, offset).

    Some were accepted before `since`, from `begin` on. A search for first copies reads from `begin`, so that it does
    not take a repeat behind `since` for the message.
    """

    begin: int
    since: int
    offset: int
    pieces: list[BlockState]

    def take(self, body: ChunkBody) -> None:
        """Adds the content of a chunk of the snapshot."""
        self.pieces.extend(piece for piece in body.blocks if piece.last >= self.since)

    def newest(self, low: int, high: int, messages: int) -> Part:
        """Returns the newest part of [low, high) with about so many messages, by whole blocks of the window."""
        inside = [piece for piece in self.pieces if piece.first < high and piece.last >= low]
        edge, count = low, 0
        for piece in sorted(inside, key=lambda p: p.first, reverse=True):
            count += len(piece.ids) // ID_BYTES
            if count >= messages:
                edge = max(low, piece.first)
                break
        wanted = [piece for piece in inside if piece.last >= edge]
        start = max(min([edge, *(piece.first for piece in wanted)]), self.begin)
        return Part(start, edge, high, {key: seq for piece in wanted for key, seq in piece.numbers()})


async def numbers_back(log: Log, number: int) -> AsyncGenerator[Numbers, None]:
    """Yields the numbers of each whole snapshot of a shard, from the newest back; use it with `aclosing`.

    Raises LogUnavailable, NewerSnapshot, BrokenChain.
    """
    wanted: dict[bytes, dict[bytes, Numbers]] = {}  # by the chunk that comes next: snapshots on the way, by their END
    async with aclosing(chunks_back(log, number)) as chunks:
        async for chunk in chunks:
            found = wanted.pop(chunk.name, {})
            if not found and not chunk.is_end:
                continue  # of a snapshot that was not finished
            body = chunk.body()
            if body.rest is not None:  # several: two owners went on behind one snapshot
                for one in sorted(found.values(), key=lambda numbers: -numbers.offset):
                    exact = one.since <= chunk.offset  # it has only what came after this snapshot
                    yield one._replace(begin=one.since) if exact else one
                since = body.rest.since
                found = {chunk.name: Numbers(max(since - BLOCK_OFFSETS, 0), since, chunk.offset, [])}
            for end, current in found.items():
                current.take(body)
                if chunk.is_first:
                    yield current
                else:  # an END may stand twice in the log: a producer that lost its connection sends again
                    wanted.setdefault(chunk.prev, {})[end] = current
            await asyncio.sleep(0)
