"""Rebuilds a shard's history index from the log in the background; knows neither routes nor links."""

import asyncio
from collections.abc import Sequence
from typing import Final

from dispatcher.index import BATCH, HistoryIndex
from dispatcher.recovery import restore_gently
from headgate.core.apply import Deliver, Gone, apply_many
from headgate.core.records import LogName, Record
from headgate.core.rows import Row, Shard
from headgate.runtime.logs.beginning import first_record, read_config
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.ports import Log, LogUnavailable

READ_RECORDS: Final = 1_000
SLICE_RECORDS: Final = 200
RETRY_S: Final = 0.5


async def rebuild(log: Log, number: int, index: HistoryIndex, have: int, until: int) -> None:
    """Fills the index with what stands in the log from `have` up to the offset `until`.

    Numbers come from applying the log again from a state that is known: the newest snapshot at or before `have`, the
    log's beginning where it still has its config record, else the oldest snapshot kept (history then begins there).
    """
    shard, rows = await _start(log, number, index, have, until)
    reader = await log.reader(LogName.MESSAGES, number, shard.next_offset, background=True)
    try:
        while shard.next_offset < until:
            try:
                batch = await reader.read(READ_RECORDS, 1.0)
            except LogUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            for at in range(0, len(batch.records), SLICE_RECORDS):
                _apply_slice(shard, rows, index, batch.records[at : at + SLICE_RECORDS], until)
                await asyncio.sleep(0)
            shard.next_offset = max(shard.next_offset, batch.next_offset)
    finally:
        await reader.close()
    index.flush()


def _apply_slice(
    shard: Shard, rows: dict[bytes, Row], index: HistoryIndex, records: Sequence[Record], until: int
) -> None:
    for record, applied in apply_many(shard, rows, (r for r in records if r.offset < until)):
        for effect in applied.effects:
            if isinstance(effect, Deliver):
                index.add(record.offset, effect, old=True)
            elif isinstance(effect, Gone):
                index.forget(effect.epoch)
    if index.backlog >= BATCH:
        index.flush()


async def _start(log: Log, number: int, index: HistoryIndex, have: int, until: int) -> tuple[Shard, dict[bytes, Row]]:
    bounds = await log.bounds(LogName.MESSAGES, number)  # a snapshot from before the log's beginning leads nowhere
    chain = await newest_chain(log, number, at_most=have, background=True)
    if chain and chain[-1].offset >= bounds.first:
        return await restore_gently(chain)
    first = await first_record(log, number)
    if first is not None and read_config(first) is not None:
        shard = Shard()
        shard.next_offset = first.offset
        return shard, {}
    more = True
    while more:  # what is older does not join what comes next; live messages stay
        more = index.trim(until)
        await asyncio.sleep(0)
    chain = await newest_chain(log, number, background=True)
    while chain:
        older = await newest_chain(log, number, at_most=chain[-1].offset - 1, background=True)
        if not older or older[-1].offset < bounds.first:
            return await restore_gently(chain)
        chain = older
    raise LogUnavailable(f"shard {number}: no snapshot and no beginning of the log to rebuild history from")
