"""Reads the log of revocations: all of it before this node accepts a link, then what is appended."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.link_users import Revocation
from headgate.core.wire.records import LogName, Record
from headgate.core.wire.revoked_tokens import read_record
from headgate.runtime.logging import Reminder
from headgate.runtime.ports import Clock, Log, LogError, OffsetGone, Reader

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 1.0
READ_S: Final = 1.0
READ_RECORDS: Final = 1_000


class RevocationReader:
    """A position in the log of revocations; `tell` gets what was read."""

    def __init__(self, log: Log, tell: Callable[[list[Revocation]], None], clock: Clock) -> None:
        self._log = log
        self._tell = tell
        self._reader: Reader | None = None
        self._reminder = Reminder(clock.now)
        self._next = 0  # the offset behind what was read

    async def catch_up(self) -> None:
        """Reads up to the present end of the log. Raises LogError."""
        bounds = await self._log.bounds(LogName.REVOCATIONS, 0)
        while max(self._next, bounds.first) < bounds.end:
            await self._read()

    async def run(self) -> None:
        """Reads on until it is cancelled. While the log is away it tries again and again."""
        tries = 0
        while True:
            try:
                await self._read()
                tries = 0
            except LogError as error:
                tries += 1  # a log that is closed when the process stops fails once, and nobody needs to know
                if tries > 1 and self._reminder.is_due("revocations"):
                    logger.warning("the log of revocations cannot be read", why=str(error))
                await asyncio.sleep(RETRY_S)

    async def _read(self) -> None:
        """Waits for the next records and tells of them. Raises LogError."""
        if self._reader is None:
            first = (await self._log.bounds(LogName.REVOCATIONS, 0)).first
            self._reader = await self._log.reader(LogName.REVOCATIONS, 0, first)
        try:
            batch = await self._reader.read(READ_RECORDS, READ_S)
        except OffsetGone:
            reader, self._reader = self._reader, None  # from the beginning again: what is known is no news
            await reader.close()
            raise
        self._next = batch.next_offset
        found = _revocations(batch.records)
        if found:
            self._tell(found)


def _revocations(records: Sequence[Record]) -> list[Revocation]:
    found = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append(read_record(record.value))
        except CorruptRecord as error:
            logger.error("a revocation is left out", offset=record.offset, why=str(error))
    return found
