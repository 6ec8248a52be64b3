"""Knows a messages log again by a record that was taken from it."""

from typing import Final

from headgate.core.wire.records import LastRecord, LogName, Record, last_record_of
from headgate.runtime.ports import Log, LogUnavailable, OffsetGone

READ_S: Final = 5.0


async def still_holds(log: Log, number: int, last: LastRecord, first: int) -> bool:
    """Returns whether a shard's log has this record at its place; True where it begins, at `first`, behind it.

    `last` is at or below the log's end, or NO_RECORD. Raises LogUnavailable where the log gives nothing in READ_S
    seconds.
    """
    if last.offset < first:
        return True
    record = await _record_at(log, number, last.offset)
    return record is not None and last_record_of(record) == last


async def _record_at(log: Log, number: int, offset: int) -> Record | None:
    try:
        reader = await log.reader(LogName.MESSAGES, number, offset, background=True)
        try:
            batch = await reader.read(1, READ_S)
        finally:
            await reader.close()
    except OffsetGone as gone:
        raise LogUnavailable(f"{log.address}: messages {number} moved to {gone.first} meanwhile") from None
    if batch.next_offset <= offset:
        raise LogUnavailable(f"{log.address}: messages {number} give nothing at {offset}")
    return batch.records[0] if batch.records and batch.records[0].offset == offset else None
