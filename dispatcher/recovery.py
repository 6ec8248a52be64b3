"""Brings a shard back: newest valid snapshot chain, then where to read on; knows neither routes nor links."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from headgate.core.errors import BrokenChain, HeadgateError
from headgate.core.records import Bounds, LogName
from headgate.core.rows import Row, Shard
from headgate.core.snapshot import Chunk, restoring
from headgate.runtime.logs.beginning import first_config
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.ports import Log

logger = structlog.get_logger("dispatcher")


class ShardLost(HeadgateError):
    """Log and snapshots do not belong together: data is gone, and an operator has to say so (DESIGN section 11)."""


class Recovered(NamedTuple):
    """A shard's state, the chain it came from (empty: from the log alone), and the log's `end`."""

    shard: Shard
    rows: dict[bytes, Row]
    chain: list[Chunk]
    end: int


Worked = Callable[[str, float], None]


async def restore_gently(
    chain: Sequence[Chunk], worked: Worked = lambda work, seconds: None
) -> tuple[Shard, dict[bytes, Row]]:
    """Restores a chain in slices, so that the shards beside it are served meanwhile. Raises BrokenChain.

    `worked` is told how many seconds each slice took.
    """
    steps, now = restoring(chain), asyncio.get_running_loop().time
    while True:
        started = now()
        try:
            next(steps)
        except StopIteration as done:
            restored: tuple[Shard, dict[bytes, Row]] = done.value
            return restored
        finally:
            worked("restore", now() - started)
        await asyncio.sleep(0)


async def recover(log: Log, number: int, worked: Worked) -> Recovered:
    """Returns the newest state snapshots can give. Raises ShardLost, LogUnavailable, NewerSnapshot."""
    chain, shard, rows = await _newest_state(log, number, worked)
    bounds = await log.bounds(LogName.MESSAGES, number)
    if not chain:
        shard.next_offset = bounds.first
        return Recovered(shard, {}, [], bounds.end)
    config = await first_config(log, number)
    if config is not None and config != shard.config:
        raise ShardLost(f"shard {number}: the log begins with {config}, its snapshot is of {shard.config}")
    _check_joins(number, shard.next_offset, bounds)
    return Recovered(shard, rows, chain, bounds.end)


def _check_joins(number: int, offset: int, bounds: Bounds) -> None:
    """Raises ShardLost where the log does not go on at the snapshot's end.

    A snapshot ends behind transaction markers and whatever else takes an offset without being a record for us, so an
    offset that is missing was a record.
    """
    if offset < bounds.first:
        raise ShardLost(
            f"shard {number}: its newest snapshot ends at offset {offset} and the log begins at {bounds.first}: "
            f"{bounds.first - offset} records were removed before anybody applied them; see 'A shard is parked' in "
            "docs/operations.md"
        )
    if offset > bounds.end:
        raise ShardLost(
            f"shard {number}: its newest snapshot ends at offset {offset} and the log at {bounds.end}: the log lost "
            "its newest records or was made anew; see 'A shard is parked' in docs/operations.md"
        )


async def _newest_state(log: Log, number: int, worked: Worked) -> tuple[list[Chunk], Shard, dict[bytes, Row]]:
    """Restores the newest chain that can be restored; an older one where a chunk does not decode."""
    skip: list[bytes] = []
    while chain := await newest_chain(log, number, skip):
        try:
            shard, rows = await restore_gently(chain, worked)
        except BrokenChain as error:
            logger.error("a snapshot cannot be restored, an older one is used", shard=number, why=str(error))
            skip.append(chain[-1].name)
            continue
        return chain, shard, rows
    return [], Shard(), {}
