"""Deletes old records of the served shards where the log does not do so itself."""

import asyncio
from typing import Final, NamedTuple

import structlog

from dispatcher.dispatcher import Dispatcher
from dispatcher.shard import ShardOwner
from headgate.core.wire.ids import EPOCH_OFFSET_BITS
from headgate.core.wire.records import Batch, LogName
from headgate.runtime.ports import Log, LogError, OffsetGone

logger = structlog.get_logger("dispatcher")

INTERVAL_S: Final = 60.0
READ_RECORDS: Final = 500
READ_S: Final = 5.0  # for records that are there
NEVER: Final = 1 << 63  # ms


class LookedThrough(NamedTuple):
    """How far a part was looked through: up to the offset `end`, and below `old` everything is old.

    Between the two are records of the future, as far as is known; the first of them is none any more from `until` on
    (Unix milliseconds).
    """

    end: int = 0
    old: int = 0
    until: int = NEVER


class Retention:
    """Keeps records for `log.keep_ms`, messages and memberships as far back as the newest snapshot whatever their age.

    Claims before that of the present owner are deleted too, because nobody reads them again. `run` is its task; it ends
    at once where the log deletes records itself (Kafka).
    """

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher
        self._looked: dict[tuple[LogName, int], LookedThrough] = {}

    async def run(self) -> None:
        """Deletes old records every INTERVAL_S seconds, until cancelled; a failure is logged and tried again then."""
        while self._log.owner_deletes:
            await asyncio.sleep(INTERVAL_S)
            for owner in list(self._dispatcher.owners.values()):
                try:
                    await self.apply(owner)
                except (LogError, OffsetGone) as error:
                    logger.warning("old records cannot be dropped now", shard=owner.number, why=str(error))

    async def apply(self, owner: ShardOwner) -> None:
        """Deletes the old records of one shard. Raises LogError, OffsetGone."""
        now_ms, latest_ms = owner.time.ms(), owner.time.latest_ms()
        for name, ms in self._log.keep_ms.items():
            place = name, owner.number
            looked = self._looked.get(place, LookedThrough())
            self._looked[place] = looked = await look_through(self._log, place, now_ms - ms, latest_ms, looked)
            offset = looked.old
            if name is LogName.MESSAGES:
                offset = min(offset, owner.snapshot_offset)
            elif name is LogName.INBOX:
                offset = min(offset, owner.inbox_snapshot_offset)
            await self._drop(name, owner.number, offset)
        await self._drop(LogName.OWNERSHIP, owner.number, owner.epoch & ((1 << EPOCH_OFFSET_BITS) - 1))

    async def _drop(self, name: LogName, shard: int, offset: int) -> None:
        bounds = await self._log.bounds(name, shard)
        if offset > bounds.first:
            await self._log.truncate_before(name, shard, offset)


async def look_through(
    log: Log, place: tuple[LogName, int], ms: int, latest_ms: int, looked: LookedThrough
) -> LookedThrough:
    """Goes on to look through a part of a log for records older than `ms` (Unix milliseconds), up to the first younger.

    Reads record by record: where the clock was wrong for a while append times do not rise, and a binary search would
    miss young records. One later than `latest_ms` is of a clock that was ahead. It says nothing of its age, so it is
    old once an older record follows; those that are waiting for that are not read again each time. Raises LogError.
    """
    first, last = await log.bounds(*place)
    if not first <= looked.end <= last or looked.until <= latest_ms:
        looked = LookedThrough(first, first)
    reader = await log.reader(*place, looked.end, background=True)
    try:
        while looked.end < last:
            batch = await reader.read(READ_RECORDS, READ_S)
            before, looked = looked.end, _behind(looked, batch, ms, latest_ms)
            if looked.end < batch.next_offset or batch.next_offset <= before:
                break
            await asyncio.sleep(0)
    finally:
        await reader.close()
    return looked


def _behind(looked: LookedThrough, batch: Batch, ms: int, latest_ms: int) -> LookedThrough:
    """Returns how far it is behind a batch, or at the first young record in it."""
    _, old, until = looked
    for record in batch.records:
        if ms <= record.ts <= latest_ms:
            return LookedThrough(record.offset, old, until)
        if record.ts < ms:
            old, until = record.offset + 1, NEVER
        else:
            until = min(until, record.ts)
    return LookedThrough(batch.next_offset, old, until)
