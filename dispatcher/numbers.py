"""The numbers that snapshots remember of the messages in the log, newest first; knows no index."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from headgate.core.snapshot import Body
from headgate.core.window import BLOCK_OFFSETS
from headgate.runtime.logs.chunks import chunks_back
from headgate.runtime.ports import Log


class Numbers(NamedTuple):
    """The seq of each message accepted in the offsets [since, offset), by `window_key` of its id and topic epoch.

    Some were accepted before `since`, from `begin` on: whoever looks for first copies reads from there, or a repeat
    behind `since` is taken for one.
    """

    begin: int
    since: int
    offset: int
    seqs: dict[int, int]

    def take(self, body: Body) -> None:
        """Takes in what a chunk of the snapshot holds."""
        for piece in body.blocks:
            if piece.last >= self.since:
                self.seqs.update(piece.numbers())


async def numbers_back(log: Log, number: int) -> AsyncGenerator[Numbers, None]:
    """Yields what each whole snapshot of a shard adds, from the newest back; use it with `aclosing`.

    Raises LogUnavailable, NewerSnapshot, BrokenChain.
    """
    wanted: dict[bytes, list[Numbers]] = {}  # snapshots on the way, by the chunk that comes next
    async with aclosing(chunks_back(log, number)) as chunks:
        async for chunk in chunks:
            found = wanted.pop(chunk.name, [])
            if not found and not chunk.is_end:
                continue  # of a snapshot that was not finished
            body = chunk.body()
            if body.rest is not None:  # several: two owners went on behind one snapshot
                for one in sorted(found, key=lambda numbers: -numbers.offset):
                    exact = one.since <= chunk.offset  # it has only what came after this snapshot
                    yield one._replace(begin=one.since) if exact else one
                since = body.rest.since
                found = [Numbers(max(since - BLOCK_OFFSETS, 0), since, chunk.offset, {})]
            (current,) = found
            current.take(body)
            if chunk.is_first:
                yield current
            else:
                wanted.setdefault(chunk.prev, []).append(current)
            await asyncio.sleep(0)
