"""The logs that a backup is restored into: whether they are unused, places for topics, and the end of a restore.

A log that `headgate init` made holds its config records. A restore that was interrupted leaves probes and snapshots,
which mean nothing as long as no dispatcher has claimed a shard.
"""

import asyncio
from contextlib import aclosing
from typing import Final

from dispatcher.backup import tail
from headgate.core.sequencer.apply import NotConfigured
from headgate.core.sequencer.pairs import Pairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import name_of
from headgate.core.sequencer.snapshot_check import BaseCheck
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from headgate.core.wire.control import CONFIG_KEY, PROBE_KEY, Config
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.records import LogName
from headgate.runtime.appender import PROBE
from headgate.runtime.logs.chunks import chunks_back
from headgate.runtime.logs.shard_config import find_config
from headgate.runtime.ports import Log

PLACES_AT_ONCE: Final = 1_000  # probes that are appended and not acknowledged
_MUST_BE_EMPTY: Final = (LogName.OWNERSHIP, LogName.INBOX, LogName.DEAD_LETTERS)


class TargetUsed(HeadgateError):
    """The logs hold somebody's data, or a dispatcher has owned a shard of them. Nothing was changed."""


async def check_unused(log: Log) -> list[Config]:
    """Returns the config of each shard of logs that nobody has used. Raises TargetUsed, NotConfigured, LogUnavailable.

    The message log of an unused shard has config records and probes only.
    """
    await check_unclaimed(log)
    configs = []
    for shard in range(log.shards):
        config = await find_config(log, shard)
        if config is None:
            raise NotConfigured(f"{log.address}: shard {shard} has no config record; run: headgate init")
        configs.append(config)
        await _check_messages(log, shard)
    return configs


async def check_unclaimed(log: Log) -> None:
    """Raises TargetUsed where a dispatcher has claimed a shard, or anything was written for users."""
    for shard in range(log.shards):
        for name in _MUST_BE_EMPTY:
            bounds = await log.bounds(name, shard)
            if bounds.end > bounds.first:
                raise _used(log, name, shard)


async def _check_messages(log: Log, shard: int) -> None:
    first = (await log.bounds(LogName.MESSAGES, shard)).first
    async for records in tail(log, LogName.MESSAGES, shard, first):
        if any(record.key not in (CONFIG_KEY, PROBE_KEY) for record in records):
            raise _used(log, LogName.MESSAGES, shard)


def _used(log: Log, name: LogName, shard: int) -> TargetUsed:
    return TargetUsed(
        f"{log.address} has been used: shard {shard} of its {name} log holds records. A backup is restored into logs"
        " that headgate init has just made and no dispatcher has served: use another log.prefix, or an empty folder"
    )


async def places_for(log: Log, shard: int, count: int) -> list[int]:
    """Appends so many probes and returns their offsets, ascending: what began at each of them has an epoch of its own.

    Raises LogError.
    """
    offsets: list[int] = []
    while len(offsets) < count:
        some = min(PLACES_AT_ONCE, count - len(offsets))
        futures = [log.append(LogName.MESSAGES, shard, PROBE_KEY, PROBE) for _ in range(some)]
        offsets += [place.offset for place in await asyncio.gather(*futures)]
    return sorted(offsets)


async def write_base(log: Log, number: int, shard: Shard, rows: dict[bytes, Row], pairs: Pairs) -> int:
    """Writes a shard's state as a snapshot, reads it back and compares; returns where it begins in its log.

    Raises LogError, BadSnapshot.
    """
    writer = SnapshotWriter(pairs)
    floor = (await log.bounds(LogName.SNAPSHOTS, number)).end
    names: list[bytes] = []
    for value in writer.base(shard, rows, floor):
        if value is not None:
            await log.append(LogName.SNAPSHOTS, number, None, value)
            names.append(name_of(value))
    check = BaseCheck(names, writer.mark, shard, rows, writer, pairs)
    async with aclosing(chunks_back(log, number)) as chunks:
        async for chunk in chunks:
            if chunk.at < floor or check.is_read:
                break
            for _ in check.taking(chunk):
                pass
    for _ in check.finishing():
        pass
    return floor
