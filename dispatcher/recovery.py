"""Brings a shard back: newest valid snapshot chain, then where to read on; knows neither routes nor links."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from headgate.core.errors import HeadgateError
from headgate.core.records import LogName
from headgate.core.rows import Row, Shard
from headgate.core.snapshot import Placed, newest_chain, restoring
from headgate.runtime.logs.beginning import first_config, read_chunks
from headgate.runtime.ports import Log


class ShardLost(HeadgateError):
    """Log and snapshots do not belong together: data is gone, and an operator has to say so (DESIGN section 11)."""


class Recovered(NamedTuple):
    """A shard's state, the chain it came from (empty: from the log alone), all chunks read, and the log's `end`."""

    shard: Shard
    rows: dict[bytes, Row]
    chain: list[Placed]
    chunks: list[Placed]
    end: int


async def restore_gently(chain: Sequence[Placed]) -> tuple[Shard, dict[bytes, Row]]:
    """Restores a chain in slices, so that the shards beside it are served meanwhile. Raises BrokenChain."""
    steps = restoring(chain)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            restored: tuple[Shard, dict[bytes, Row]] = done.value
            return restored
        await asyncio.sleep(0)


async def recover(log: Log, number: int) -> Recovered:
    """Returns the newest state snapshots can give. Raises ShardLost, LogUnavailable, BrokenChain."""
    chunks = await read_chunks(log, number)
    bounds = await log.bounds(LogName.MESSAGES, number)
    config = await first_config(log, number)
    chain = newest_chain(chunks)
    if not chain:
        shard = Shard()
        shard.next_offset = bounds.first
        return Recovered(shard, {}, [], chunks, bounds.end)
    shard, rows = await restore_gently(chain)
    if config is not None and config != shard.config:
        raise ShardLost(f"shard {number}: the log begins with {config}, its snapshot is of {shard.config}")
    if not bounds.first <= shard.next_offset <= bounds.end:
        raise ShardLost(
            f"shard {number}: its snapshot ends at offset {shard.next_offset}, the log holds {bounds.first} "
            f"to {bounds.end - 1}"
        )
    return Recovered(shard, rows, chain, chunks, bounds.end)
