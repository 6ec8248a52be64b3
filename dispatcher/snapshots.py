"""Writes the snapshots of a shard when they are due, and checks each base.

Between two slices it rests for as long as the one before took. A request passes ten turns of the loop and more; with a
slice in each of them it would take ten slices longer.
"""

import asyncio
from collections.abc import Generator, Iterator
from contextlib import aclosing, closing
from typing import Final, NamedTuple

import structlog

from dispatcher.node import Node
from dispatcher.old_snapshots import OldSnapshots
from dispatcher.shard import ShardOwner
from headgate.core.sequencer.snapshot import ends, name_of
from headgate.core.sequencer.snapshot_check import BadSnapshot, BaseCheck
from headgate.core.sequencer.snapshot_writer import PairKey
from headgate.core.wire.errors import BrokenChain
from headgate.core.wire.records import LogName
from headgate.runtime.logging import Reminder
from headgate.runtime.logs.chunks import chunks_back
from headgate.runtime.ports import LogError, RecordTooLarge

logger = structlog.get_logger("dispatcher")

TRIM_S: Final = 30.0  # how soon the index forgets messages that the log's retention has removed
RETRY_S: Final = 1.0
RETRY_MAX_S: Final = 60.0  # a base that fails again and again leaves chunks behind
OLD_S: Final = 600.0  # a change that waits so long for a snapshot makes the node not ready

FAILURES: Final = (LogError, BadSnapshot, BrokenChain)

Steps = Generator[bytes | None, None, None]
_DONE: Final = object()


class _Written(NamedTuple):
    name: bytes
    at: int  # in the snapshots log


class _Backoff:
    """When to try again: after 1 s, then twice as long each time, at most a minute."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._wait_s = 0.0

    def failed(self, now: float) -> None:
        self._wait_s = min(max(self._wait_s * 2, RETRY_S), RETRY_MAX_S)
        self._until = now + self._wait_s

    def worked(self) -> None:
        self._until, self._wait_s = float("-inf"), 0.0

    def allows(self, now: float) -> bool:
        return now >= self._until


class Snapshots:
    """The snapshots of one shard. `run` is its task; `final` is called once, after `run` has ended."""

    def __init__(self, owner: ShardOwner, node: Node) -> None:
        self._owner = owner
        self._log = node.log
        self._clock = node.shell.clock
        self._metrics = node.shell.metrics
        self._options = node.options.snapshots
        self._old = OldSnapshots(node.log, owner.number)
        self._last = self._trimmed = self._based = self._clock.now()
        self._first = -1  # of the message log, when old snapshots were last deleted
        self._waiting_since: float | None = None
        self._any, self._base = _Backoff(), _Backoff()
        self._reminder = Reminder(self._clock.now)
        self._log_has_chain = owner.writer.has_chain
        self._unfinished: int | None = None  # where a base that failed began, while the log has no valid chain

    async def run(self) -> None:
        """Writes snapshots and deletes old ones when due, until cancelled. Failures are logged and counted."""
        while True:
            await asyncio.sleep(self._options.check_s)
            if self._owner.shard.config is None:
                continue
            self._note_waiting()
            if not self._any.allows(self._clock.now()):
                continue
            try:
                await self._step()
            except FAILURES as error:
                self._any.failed(self._clock.now())
                self._failed(error)
            else:
                self._any.worked()

    async def _step(self) -> None:
        now = self._clock.now()
        if self._due(now):
            await self._write_due(now)
        above = self._log.above_limit() and now - self._trimmed >= self._options.least_s
        if above or now - self._trimmed >= TRIM_S:
            await self._trim(above)

    async def _write_due(self, now: float) -> None:
        """Writes a base where one is wanted, else a delta; deltas also while a base has to wait after a failure."""
        writer = self._owner.writer
        await self._look_for_chain()
        wants_base = writer.wants_base or now - self._based >= self._options.base_s
        if writer.has_chain and not (wants_base and self._base.allows(now)):
            await self._write_delta()
            return
        try:
            await self._write_base()
        except FAILURES as error:
            self._base.failed(self._clock.now())
            if not writer.has_chain:
                raise
            self._failed(error)
        else:
            self._base.worked()

    def _due(self, now: float) -> bool:
        pending, passed = self._owner.writer.pending(self._owner.shard), now - self._last
        quiet = self._unwritten()  # retention must not overtake a snapshot
        options = self._options
        if passed < options.least_s:
            return False
        return (
            pending >= options.changes
            or ((pending > 0 or self._owner.writer.is_dirty) and passed >= options.interval_s)
            or quiet >= options.quiet_offsets
            or (quiet > 0 and passed >= options.quiet_s)
        )

    def _unwritten(self) -> int:
        """Returns how many offsets of the two logs were read since the last snapshot, whatever they hold."""
        owner, saved = self._owner, self._owner.writer.inbox_offset
        inbox = owner.inbox.users.next_offset - saved if saved >= 0 else 0
        return owner.shard.next_offset - owner.writer.offset + inbox

    def _note_waiting(self) -> None:
        if self._owner.writer.pending(self._owner.shard) <= 0:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self._clock.now()

    def age(self) -> float:
        """Returns for how many seconds the oldest change that is in no snapshot has waited."""
        return 0.0 if self._waiting_since is None else self._clock.now() - self._waiting_since

    def overdue(self) -> str | None:
        """Returns one sentence where changes have waited for longer than OLD_S seconds."""
        age = self.age()
        return f"shard {self._owner.number}: no snapshot could be written for {age:.0f} s" if age > OLD_S else None

    def _failed(self, error: Exception) -> None:
        reason = _reason(error)
        self._metrics.snapshot_failed(reason)
        if self._reminder.is_due(reason):
            why, age_s = str(error), round(self.age())
            logger.error("snapshot failed", shard=self._owner.number, reason=reason, why=why, age_s=age_s)

    async def _trim(self, above: bool) -> None:
        """Makes the history forget what the log no longer holds, and keeps a bounded log within its bound."""
        owner = self._owner
        await self._look_for_chain()  # also where nothing changes
        bounds = await self._log.bounds(LogName.MESSAGES, owner.number)
        if above:
            await self._write_due(self._clock.now())
            half = bounds.first + (owner.writer.offset - bounds.first) // 2
            await self._log.truncate_before(LogName.MESSAGES, owner.number, half)
            await self._log.truncate_before(LogName.INBOX, owner.number, owner.inbox_snapshot_offset)
            bounds = await self._log.bounds(LogName.MESSAGES, owner.number)
        if bounds.first != self._first:
            await self._old.drop(bounds.first)
            self._first = bounds.first
        owner.history.log_begins(bounds.first)
        self._trimmed = self._clock.now()

    async def final(self) -> None:
        """Writes the last snapshot before the shard is released: a delta, where there is a chain. Raises LogError."""
        owner = self._owner
        if owner.shard.config is None:
            return
        await self._look_for_chain()
        if self._unwritten() <= 0 and not owner.writer.is_dirty:
            return
        if owner.writer.has_chain:
            await self._write_delta(rests=False)
        else:
            await self._write_base(final=True)

    async def _write_delta(self, *, rests: bool = True) -> None:
        owner = self._owner
        written = await self._append_all(owner.writer.delta(owner.shard, owner.rows), rests=rests)
        owner.writer.stands_at([chunk.at for chunk in written], base=False)
        self._note_written()

    def _note_written(self) -> None:
        owner = self._owner
        owner.snapshot_offset, owner.inbox_snapshot_offset = owner.writer.offset, owner.writer.inbox_offset

    async def _write_base(self, *, final: bool = False) -> None:
        """Writes a base. The `final` one has a deadline: it rests not, and the next owner checks its own."""
        owner = self._owner
        end = (await self._log.bounds(LogName.SNAPSHOTS, owner.number)).end
        if self._unfinished is not None:
            await self._log.truncate_before(LogName.SNAPSHOTS, owner.number, end)
        if not owner.writer.has_chain and not self._log_has_chain:
            self._unfinished = end
        await self._expire()
        written = await self._append_all(owner.writer.base(owner.shard, owner.rows, end), rests=not final)
        owner.writer.stands_at([chunk.at for chunk in written], base=True)
        self._unfinished = None
        if not final:
            await self._check([chunk.name for chunk in written], end)
            self._first = -1  # there may be one more old base
        self._log_has_chain = True
        self._based = self._clock.now()
        self._note_written()  # not before the check: records below it may be dropped

    async def _expire(self) -> None:
        """Forgets what users left, and what belonged to it, of which the inbox log has no record any more."""
        owner = self._owner
        now_ms, keep_ms = owner.time.ms(), self._log.keep_ms[LogName.INBOX]
        for gone in owner.inbox.users.expire(now_ms, keep_ms, owner.leases.is_held):
            for key in gone:
                owner.writer.touch(PairKey(key))
            await asyncio.sleep(0)

    async def _look_for_chain(self) -> None:
        """Forgets the chain where the snapshots log lost a part of it: the next snapshot is then a base."""
        bounds = await self._log.bounds(LogName.SNAPSHOTS, self._owner.number)
        if not self._owner.writer.is_within(bounds.first, bounds.end):
            self._forget(f"the log holds {bounds.first} to {bounds.end - 1}")

    def _forget(self, why: str) -> None:
        owner, at = self._owner, self._owner.writer.end_at
        logger.error("the snapshots log lost a snapshot, a base is written", shard=owner.number, offset=at, why=why)
        owner.writer.forget()
        owner.snapshot_offset = owner.inbox_snapshot_offset = 0  # nothing may be dropped before there is one
        self._old = OldSnapshots(self._log, owner.number)

    async def _append_all(self, steps: Steps, *, rests: bool) -> list[_Written]:
        """Appends the chunks of a snapshot; after a failure it counts as not begun. Raises LogError, BrokenChain."""
        written: list[_Written] = []
        with closing(steps):
            while True:
                started = self._clock.now()
                value = next(steps, b"")
                took = self._clock.now() - started
                self._metrics.worked("snapshot", took)
                if value == b"":
                    break
                if value is not None:
                    await self._append(value, written)
                await asyncio.sleep(took if rests else 0)
        self._last = self._clock.now()
        self._waiting_since = None
        return written

    async def _append(self, value: bytes, written: list[_Written]) -> None:
        if ends(value):  # without its last chunk the others mean nothing
            await self._owner.dead_letters.safe()
            await self._owner.outputs.safe()
            await self._owner.pointers.safe()
        place = await self._log.append(LogName.SNAPSHOTS, self._owner.number, None, value)
        before = written[-1].at if written else self._owner.writer.end_at
        if place.offset <= before:
            self._forget(f"a chunk behind it was appended at {place.offset}")
            raise BrokenChain(f"the snapshots log was made anew: {place.offset} comes behind {before}")
        written.append(_Written(name_of(value), place.offset))

    async def _check(self, names: list[bytes], floor: int) -> None:
        """Reads the base back. Raises BadSnapshot or BrokenChain; then the next snapshot is a base again."""
        owner = self._owner
        check = BaseCheck(names, owner.writer.mark, owner.shard, owner.rows, owner.writer, owner.writer.pairs)
        try:
            async with aclosing(chunks_back(self._log, owner.number, background=True)) as chunks:
                async for chunk in chunks:
                    if chunk.at < floor or check.is_read:
                        break
                    await self._in_turns(check.taking(chunk))
            await self._in_turns(check.finishing())
        except (BadSnapshot, BrokenChain):
            owner.writer.forget()
            raise

    async def _in_turns(self, slices: Iterator[None]) -> None:
        while True:
            started = self._clock.now()
            done = next(slices, _DONE)
            took = self._clock.now() - started
            self._metrics.worked("check", took)
            if done is _DONE:
                return
            await asyncio.sleep(took)


def _reason(error: Exception) -> str:
    if isinstance(error, RecordTooLarge):
        return "too_large"  # chunks are bounded, so this is a fault of ours
    return "log" if isinstance(error, LogError) else "content"
