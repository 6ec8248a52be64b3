"""Finds the config of a shard: its first record, else the newest snapshot."""

from typing import Final

from headgate.core.wire.control import CONFIG_KEY, Config, decode_body
from headgate.core.wire.envelope import Kind, decode, is_ours
from headgate.core.wire.errors import BrokenChain, CorruptRecord, UnknownVersion
from headgate.core.wire.records import LogName, Record
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.ports import Log, LogUnavailable, OffsetGone

READ_WAIT_S: Final = 5.0  # for records that exist
READ_TRIES: Final = 5  # while retention truncates the beginning


def parse_config(record: Record | None) -> Config | None:
    """Returns the config in a record; None when it is no config record."""
    if record is None or record.key != CONFIG_KEY or record.value is None or not is_ours(record.value):
        return None
    try:
        envelope = decode(record.value)
        body = decode_body(envelope.body) if envelope.kind is Kind.CONTROL else None
    except (CorruptRecord, UnknownVersion):
        return None
    return body if isinstance(body, Config) else None


async def first_record(log: Log, shard: int) -> Record | None:
    """Returns the oldest record of a shard's message log, None when it is empty. Raises LogUnavailable."""
    records = await _from_the_first(log, LogName.MESSAGES, shard, most=1)
    return records[0] if records else None


async def first_config(log: Log, shard: int) -> Config | None:
    """Returns the config in the oldest record of a shard's message log; None when it holds something else."""
    return parse_config(await first_record(log, shard))


async def _from_the_first(log: Log, name: LogName, shard: int, most: int) -> list[Record]:
    """Reads the oldest `most` records of a part; tries again when the part is truncated meanwhile."""
    for _ in range(READ_TRIES):
        try:
            return await _read_first(log, name, shard, most)
        except OffsetGone:
            continue
    raise LogUnavailable(
        f"{log.address}: the beginning of {name} {shard} was truncated {READ_TRIES} times while it was read"
    )


async def _read_first(log: Log, name: LogName, shard: int, most: int) -> list[Record]:
    bounds = await log.bounds(name, shard)
    records: list[Record] = []
    offset = bounds.first
    reader = await log.reader(name, shard, offset)
    try:
        while offset < bounds.end and len(records) < most:
            batch = await reader.read(most, READ_WAIT_S)
            if not batch.records:
                break
            records.extend(batch.records)
            offset = batch.next_offset
    finally:
        await reader.close()
    return records


async def snapshot_config(log: Log, shard: int) -> Config | None:
    """Returns the config in a shard's newest snapshot; None without one."""
    skip: list[bytes] = []
    while chain := await newest_chain(log, shard, skip):
        try:
            rest = chain[-1].body().rest
        except BrokenChain:
            rest = None
        if rest is not None:
            return rest.config
        skip.append(chain[-1].name)
    return None


async def find_config(log: Log, shard: int) -> Config | None:
    """Returns a shard's config; None before `headgate init`. Retention may have removed the first record."""
    return await first_config(log, shard) or await snapshot_config(log, shard)
