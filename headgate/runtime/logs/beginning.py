"""What a shard begins with: its config record, else the newest snapshot; knows the log port, and no adapter."""

from typing import Final

from headgate.core.control import CONFIG_KEY, Config, decode_body
from headgate.core.envelope import Kind, decode, is_ours
from headgate.core.errors import CorruptRecord, UnknownVersion
from headgate.core.records import LogName, Record
from headgate.core.snapshot import Placed, decode_chunk, newest_chain
from headgate.runtime.ports import Log

FIRST_RECORD_S: Final = 5.0  # for the first record of a shard that has records
CHUNKS_A_READ: Final = 500


def read_config(record: Record | None) -> Config | None:
    """Returns the config a record holds; None when it is no config record."""
    if record is None or record.key != CONFIG_KEY or record.value is None or not is_ours(record.value):
        return None
    try:
        envelope = decode(record.value)
        body = decode_body(envelope.body) if envelope.kind is Kind.CONTROL else None
    except (CorruptRecord, UnknownVersion):
        return None
    return body if isinstance(body, Config) else None


async def first_record(log: Log, shard: int) -> Record | None:
    """Returns the oldest record of a shard's message log, None where it is empty. Raises LogUnavailable."""
    first, end = await log.bounds(LogName.MESSAGES, shard)
    if first == end:
        return None
    reader = await log.reader(LogName.MESSAGES, shard, first)
    try:
        batch = await reader.read(1, FIRST_RECORD_S)
    finally:
        await reader.close()
    return batch.records[0] if batch.records else None


async def first_config(log: Log, shard: int) -> Config | None:
    """Returns the config that a shard's message log begins with; None when it begins with something else."""
    return read_config(await first_record(log, shard))


async def read_chunks(log: Log, shard: int) -> list[Placed]:
    """Reads a shard's whole snapshots log. Raises LogUnavailable."""
    bounds = await log.bounds(LogName.SNAPSHOTS, shard)
    chunks: list[Placed] = []
    offset = bounds.first
    reader = await log.reader(LogName.SNAPSHOTS, shard, offset)
    try:
        while offset < bounds.end:
            batch = await reader.read(CHUNKS_A_READ, 1.0)
            found = (decode_chunk(r.offset, r.value) for r in batch.records)
            chunks.extend(p for p in found if p is not None)
            offset = batch.next_offset
    finally:
        await reader.close()
    return chunks


async def snapshot_config(log: Log, shard: int) -> Config | None:
    """Returns the config of a shard's newest snapshot: retention may have taken the record itself."""
    chain = newest_chain(await read_chunks(log, shard))
    return chain[-1].chunk.rest.config if chain and chain[-1].chunk.rest else None


async def config_of(log: Log, shard: int) -> Config | None:
    """Returns a shard's config from wherever it still stands; None before `headgate init`."""
    return await first_config(log, shard) or await snapshot_config(log, shard)
