"""Writes a shard's snapshots, and drops behind them what need not be kept; knows no link."""

import asyncio
from typing import Final

import structlog

from dispatcher.recovery import restore_gently
from dispatcher.shard import ShardOwner
from headgate.core.errors import BrokenChain, HeadgateError
from headgate.core.records import LogName
from headgate.core.snapshot import base_starts, newest_chain
from headgate.runtime.logs.beginning import read_chunks
from headgate.runtime.ports import Clock, LogError

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 1.0
CHECK_S: Final = 0.25
INTERVAL_S: Final = 30.0
CHANGES: Final = 10_000  # records that changed something; also the bound on what a fail-over reads again
BASES_KEPT: Final = 3
QUIET_OFFSETS: Final = 100_000  # records that changed nothing (repeats, probes, dead letters)
QUIET_S: Final = 3_600.0
TRIM_S: Final = 30.0  # how soon the index forgets what the log's retention has taken


class BadSnapshot(HeadgateError):
    """A base that was read back does not restore to what was written: nothing older is deleted."""


class Snapshots:
    """One shard's snapshots. `run` is a task of the owner's; `final` is called once, after `run` has ended."""

    def __init__(self, owner: ShardOwner, clock: Clock) -> None:
        self._owner = owner
        self._clock = clock
        self._last = self._trimmed = clock.now()

    async def run(self) -> None:
        """Writes and drops what is due, until cancelled; a log that is away is tried again later."""
        while True:
            await asyncio.sleep(CHECK_S)
            if self._owner.shard.config is None:
                continue
            try:
                if self._due():
                    await self.write(base=self._owner.writer.wants_base)
                if self._owner.log.above_limit() or self._clock.now() - self._trimmed >= TRIM_S:
                    await self._trim()
            except LogError:
                await asyncio.sleep(RETRY_S)
            except (BadSnapshot, BrokenChain):
                logger.exception("a snapshot is not what was written", shard=self._owner.number)
                self._owner.writer.broken()
                await asyncio.sleep(INTERVAL_S)

    def _due(self) -> bool:
        pending, passed = self._owner.writer.pending(self._owner.shard), self._clock.now() - self._last
        quiet = self._owner.shard.next_offset - self._owner.writer.offset  # retention must not overtake a snapshot
        return (
            pending >= CHANGES
            or (pending > 0 and passed >= INTERVAL_S)
            or quiet >= QUIET_OFFSETS
            or (quiet > 0 and passed >= QUIET_S)
        )

    async def _trim(self) -> None:
        """Keeps the index from answering what the log no longer holds, and a bounded log within its bound."""
        owner = self._owner
        bounds = await owner.log.bounds(LogName.MESSAGES, owner.number)
        if owner.log.above_limit() and owner.shard.config is not None:
            await self.write(base=True)
            half = bounds.first + (owner.shard.next_offset - bounds.first) // 2
            await owner.log.truncate_before(LogName.MESSAGES, owner.number, half)
            bounds = await owner.log.bounds(LogName.MESSAGES, owner.number)
        while owner.index.trim(bounds.first):  # noqa: ASYNC110 - gives way between slices, waits for nothing
            await asyncio.sleep(0)
        self._trimmed = self._clock.now()

    async def final(self) -> None:
        """Writes a base, so that the next owner starts from here. Raises LogError."""
        if self._owner.shard.config is not None and self._owner.shard.next_offset > self._owner.writer.offset:
            await self.write(base=True, check=False)  # a drain has its deadline; the next owner checks

    async def write(self, *, base: bool, check: bool = True) -> None:
        """Writes one snapshot, chunk by chunk. Raises LogError; the next one is then a base."""
        owner = self._owner
        try:
            for value in owner.writer.build(owner.shard, owner.rows, base=base):
                await owner.dead_letters.safe()
                await owner.log.append(LogName.SNAPSHOTS, owner.number, None, value)
        except BaseException:
            owner.writer.broken()
            raise
        self._last = self._clock.now()
        if base and check:
            await self._check_and_prune()
        owner.snapshot_offset = owner.writer.offset

    async def _check_and_prune(self) -> None:
        owner = self._owner
        chunks = await read_chunks(owner.log, owner.number)
        chain = newest_chain(chunks)
        if not chain:
            raise BadSnapshot(f"shard {owner.number}: the base just written cannot be read back")
        await restore_gently(chain)
        starts = base_starts(chunks)
        if len(starts) > BASES_KEPT:
            await owner.log.truncate_before(LogName.SNAPSHOTS, owner.number, starts[-BASES_KEPT])
