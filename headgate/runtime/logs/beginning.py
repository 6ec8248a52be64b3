"""What a shard begins with: its config record, else the newest snapshot; knows the log port, and no adapter."""

from typing import Final

from headgate.core.control import CONFIG_KEY, Config, decode_body
from headgate.core.envelope import Kind, decode, is_ours
from headgate.core.errors import CorruptRecord, UnknownVersion
from headgate.core.records import LogName, Record
from headgate.core.snapshot import Placed, decode_chunk, newest_chain
from headgate.runtime.ports import Log, LogUnavailable, OffsetGone

READ_WAIT_S: Final = 5.0  # for records that are there
RECORDS_A_READ: Final = 500
TRIES: Final = 5


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
    records = await _from_the_first(log, LogName.MESSAGES, shard, most=1)
    return records[0] if records else None


async def first_config(log: Log, shard: int) -> Config | None:
    """Returns the config that a shard's message log begins with; None when it begins with something else."""
    return read_config(await first_record(log, shard))


async def read_chunks(log: Log, shard: int) -> list[Placed]:
    """Reads a shard's whole snapshots log. Raises LogUnavailable."""
    found = [decode_chunk(r.offset, r.value) for r in await _from_the_first(log, LogName.SNAPSHOTS, shard)]
    return [placed for placed in found if placed is not None]


async def _from_the_first(log: Log, name: LogName, shard: int, most: int | None = None) -> list[Record]:
    """Reads a part from its beginning to the end it has now, again when its beginning is truncated meanwhile."""
    for _ in range(TRIES):
        try:
            return await _read_all(log, name, shard, most)
        except OffsetGone:
            continue
    raise LogUnavailable(f"{log.address}: the beginning of {name} {shard} went away {TRIES} times while it was read")


async def _read_all(log: Log, name: LogName, shard: int, most: int | None) -> list[Record]:
    bounds = await log.bounds(name, shard)
    records: list[Record] = []
    offset = bounds.first
    reader = await log.reader(name, shard, offset)
    try:
        while offset < bounds.end and (most is None or len(records) < most):
            batch = await reader.read(most or RECORDS_A_READ, READ_WAIT_S)
            records.extend(batch.records)
            offset = batch.next_offset
            if most is not None and not batch.records:
                break
    finally:
        await reader.close()
    return records


async def snapshot_config(log: Log, shard: int) -> Config | None:
    """Returns the config of a shard's newest snapshot: retention may have taken the record itself."""
    chain = newest_chain(await read_chunks(log, shard))
    return chain[-1].chunk.rest.config if chain and chain[-1].chunk.rest else None


async def config_of(log: Log, shard: int) -> Config | None:
    """Returns a shard's config from wherever it still stands; None before `headgate init`."""
    return await first_config(log, shard) or await snapshot_config(log, shard)
