"""Reads a shard's snapshots log, newest chunk first, in bounded memory."""

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

from headgate.core.sequencer.snapshot import MAX_OFFSET, ChainSearch, Chunk, read_chunk
from headgate.core.wire.records import Batch, LogName, Record
from headgate.runtime.ports import Log, LogUnavailable, OffsetGone

READ_WAIT_S: Final = 5.0  # for records that exist
WINDOW_BYTES: Final = 8 * 1024 * 1024  # held at once, and one read of RECORDS_A_READ chunks of 512 KiB
RECORDS_A_READ: Final = 8
OFFSETS_MIN: Final = 16
OFFSETS_MAX: Final = 4_096
EMPTY_READS: Final = 3  # of READ_WAIT_S each


async def newest_chain(
    log: Log,
    shard: int,
    skip: Iterable[bytes] = (),
    at_most: int = MAX_OFFSET,
    at_least: int = 0,
    *,
    background: bool = False,
) -> list[Chunk]:
    """Returns a shard's newest valid chain, its base first; empty where there is none.

    `skip` are the names of ends that must not be used, `at_least` and `at_most` are the message-log offsets between
    which it has to end. Holds one chain at a time. Raises LogUnavailable, and NewerSnapshot where the newest was
    written by newer code.
    """
    wrong = set(skip)
    while True:
        search = ChainSearch(wrong, at_most, at_least)
        async with aclosing(chunks_back(log, shard, background=background)) as chunks:
            async for chunk in chunks:
                if search.take(chunk):
                    break
        if search.chain or not search.ends:
            return search.chain
        wrong.update(search.ends)


async def chunks_back(
    log: Log, shard: int, before: int | None = None, *, background: bool = False
) -> AsyncGenerator[Chunk, None]:
    """Yields the chunks of a shard's snapshots log from the newest (or the last one before the offset `before`) back.

    Damaged chunks are skipped. Use it with `aclosing`. `background`: the reads are counted apart.
    Raises LogUnavailable, NewerSnapshot.
    """
    bounds = await log.bounds(LogName.SNAPSHOTS, shard)
    end = bounds.end if before is None else min(before, bounds.end)
    width = OFFSETS_MIN
    while end > bounds.first:
        start = max(end - width, bounds.first)
        try:
            records, cut = await _window(log, shard, start, end, background)
        except OffsetGone:  # truncated meanwhile
            bounds = await log.bounds(LogName.SNAPSHOTS, shard)
            continue
        size = 0
        while records:
            record = records.pop()
            size += len(record.value or b"")
            chunk = read_chunk(record.offset, record.value)
            if chunk is not None:
                yield chunk
        end = cut
        width = max(width // 2, OFFSETS_MIN) if size > WINDOW_BYTES // 2 else min(width * 2, OFFSETS_MAX)


async def _window(log: Log, shard: int, start: int, end: int, background: bool) -> tuple[deque[Record], int]:
    """Reads [start, end) and keeps the newest records of it, at most WINDOW_BYTES and a read; from `cut` on."""
    records: deque[Record] = deque()
    size, offset, cut, empty = 0, start, start, 0
    reader = await log.reader(LogName.SNAPSHOTS, shard, start, background=background)
    try:
        while offset < end:
            batch: Batch = await reader.read(RECORDS_A_READ, READ_WAIT_S)
            empty = empty + 1 if batch.next_offset <= offset else 0
            if empty >= EMPTY_READS:
                raise LogUnavailable(f"{log.address}: snapshots {shard} cannot be read from offset {offset} on")
            records.extend(record for record in batch.records if record.offset < end)
            size += sum(len(record.value or b"") for record in batch.records)
            offset = batch.next_offset
            while size > WINDOW_BYTES and len(records) > 1:
                dropped = records.popleft()
                size -= len(dropped.value or b"")
                cut = dropped.offset + 1
    finally:
        await reader.close()
    return records, cut
