"""Brings a shard back: newest valid snapshot chain, then where to read on; knows neither routes nor links."""

from typing import NamedTuple

from headgate.core.control import Config, decode_body
from headgate.core.envelope import Kind, decode, is_ours
from headgate.core.errors import CorruptRecord, HeadgateError, UnknownVersion
from headgate.core.records import LogName, Record
from headgate.core.rows import Row, Shard
from headgate.core.snapshot import Placed, decode_chunk, newest_chain, restore
from headgate.runtime.ports import Log

READ_RECORDS = 500


class ShardLost(HeadgateError):
    """Log and snapshots do not belong together: data is gone, and an operator has to say so (DESIGN section 11)."""


class Recovered(NamedTuple):
    """A shard's state, the chain it came from (empty: from the log alone), and all chunks that were read."""

    shard: Shard
    rows: dict[bytes, Row]
    chain: list[Placed]
    chunks: list[Placed]


async def read_chunks(log: Log, number: int) -> list[Placed]:
    """Reads the shard's whole snapshots log. Raises LogUnavailable."""
    bounds = await log.bounds(LogName.SNAPSHOTS, number)
    chunks: list[Placed] = []
    offset = bounds.first
    reader = await log.reader(LogName.SNAPSHOTS, number, offset)
    try:
        while offset < bounds.end:
            batch = await reader.read(READ_RECORDS, 1.0)
            found = (decode_chunk(r.offset, r.value) for r in batch.records)
            chunks.extend(p for p in found if p is not None)
            offset = batch.next_offset
    finally:
        await reader.close()
    return chunks


async def recover(log: Log, number: int) -> Recovered:
    """Returns the newest state snapshots can give. Raises ShardLost, LogUnavailable, BrokenChain."""
    chunks = await read_chunks(log, number)
    bounds = await log.bounds(LogName.MESSAGES, number)
    first = await first_record(log, number)
    chain = newest_chain(chunks)
    if not chain:
        shard = Shard()
        shard.next_offset = bounds.first
        return Recovered(shard, {}, [], chunks)
    shard, rows = restore(chain)
    config = config_of(first)
    if config is not None and config != shard.config:
        raise ShardLost(f"shard {number}: the log begins with {config}, its snapshot is of {shard.config}")
    if not bounds.first <= shard.next_offset <= bounds.end:
        raise ShardLost(
            f"shard {number}: its snapshot ends at offset {shard.next_offset}, the log holds {bounds.first} "
            f"to {bounds.end - 1}"
        )
    return Recovered(shard, rows, chain, chunks)


async def first_record(log: Log, number: int) -> Record | None:
    """Returns the oldest record of a shard's message log, None where it is empty."""
    bounds = await log.bounds(LogName.MESSAGES, number)
    if bounds.first == bounds.end:
        return None
    reader = await log.reader(LogName.MESSAGES, number, bounds.first)
    try:
        batch = await reader.read(1, 5.0)
    finally:
        await reader.close()
    return batch.records[0] if batch.records else None


def config_of(record: Record | None) -> Config | None:
    """Returns the config a record carries, None where it is another record."""
    if record is None or record.value is None or not is_ours(record.value):
        return None
    try:
        envelope = decode(record.value)
        control = decode_body(envelope.body) if envelope.kind is Kind.CONTROL else None
    except (CorruptRecord, UnknownVersion):
        return None
    return control if isinstance(control, Config) else None
