"""Deletes old records of the served shards where the log does not do so itself."""

import asyncio
from typing import Final

import structlog

from dispatcher.dispatcher import Dispatcher
from dispatcher.shard import ShardOwner
from headgate.core.wire.ids import EPOCH_OFFSET_BITS
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Log, LogError, OffsetGone

logger = structlog.get_logger("dispatcher")

INTERVAL_S: Final = 60.0
READ_RECORDS: Final = 500
READ_S: Final = 5.0  # for records that are there


class Retention:
    """Keeps records for `log.keep_ms`, messages and memberships as far back as the newest snapshot whatever their age.

    Claims before that of the present owner are deleted too, because nobody reads them again. `run` is its task; it ends
    at once where the log deletes records itself (Kafka).
    """

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher

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
        now_ms = owner.time.ms()
        for name, ms in self._log.keep_ms.items():
            offset = await first_since(self._log, name, owner.number, now_ms - ms)
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


async def first_since(log: Log, name: LogName, shard: int, ms: int) -> int:
    """Returns the offset of the first record not older than `ms` (Unix milliseconds), the end where there is none.

    Reads record by record: where the clock was wrong for a while append times do not rise, and a binary search would
    miss young records. Raises LogError.
    """
    offset, end = await log.bounds(name, shard)
    reader = await log.reader(name, shard, offset, background=True)
    try:
        while offset < end:
            batch = await reader.read(READ_RECORDS, READ_S)
            young = next((record.offset for record in batch.records if record.ts >= ms), None)
            if young is not None:
                return young
            if batch.next_offset <= offset:
                break
            offset = batch.next_offset
            await asyncio.sleep(0)
    finally:
        await reader.close()
    return offset
