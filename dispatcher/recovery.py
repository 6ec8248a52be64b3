"""Brings a shard back: newest valid snapshot chain, then where to read on; knows neither routes nor links."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from headgate.core.sequencer.pairs import NoPairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import Chunk, restoring
from headgate.core.wire.errors import BrokenChain, HeadgateError
from headgate.core.wire.records import LogName
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.logs.shard_config import first_config
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
    steps, now = restoring(chain, NoPairs()), asyncio.get_running_loop().time
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
    if shard.next_offset > bounds.end:
        raise ShardLost(
            f"shard {number}: its newest snapshot ends at offset {shard.next_offset} and the log at {bounds.end}: the "
            "log lost its newest records or was made anew; see 'A shard is parked' in docs/operations.md"
        )
    return Recovered(shard, rows, chain, bounds.end)


async def _newest_state(log: Log, number: int, worked: Worked) -> tuple[list[Chunk], Shard, dict[bytes, Row]]:
    """Restores the newest chain that the log goes on from and that can be restored. Raises ShardLost.

    A snapshot ends behind transaction markers and whatever else takes an offset without being a record for us, so an
    offset that the log no longer has was a record.
    """
    first = (await log.bounds(LogName.MESSAGES, number)).first
    skip: list[bytes] = []
    highest = -1
    while chain := await newest_chain(log, number, skip):
        end = chain[-1]
        try:
            if end.offset >= first:
                shard, rows = await restore_gently(chain, worked)
                return chain, shard, rows
            highest = max(highest, end.offset)
        except BrokenChain as error:
            logger.error("a snapshot cannot be restored, an older one is used", shard=number, why=str(error))
        skip.append(end.name)
    if highest >= 0:
        raise ShardLost(
            f"shard {number}: its newest snapshot ends at offset {highest} and the log begins at {first}: what stood "
            "between was removed before anybody applied it; see 'A shard is parked' in docs/operations.md"
        )
    return [], Shard(), {}
