"""Reads the state of all shards from the logs and gives it as the lines of a backup, one shard after the other.

It joins no group and writes nothing, so it may run beside the owners of the shards. A shard is its newest snapshot and
the rest of the log behind it, up to the end that the logs had when its turn came. Where shards are small, some are read
ahead: each reader of Kafka waits a tenth of a second for its first records, and the others may wait meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Final

from dispatcher.backup_lines import (
    FORMAT,
    LEFT_OUT,
    BackupWriter,
    ChangedLine,
    CursorLine,
    HeadLine,
    Manifest,
    MarkLine,
    MemberLine,
    RevocationLine,
    ShardLine,
    StateLine,
    TopicLine,
)
from dispatcher.recovery import RecoveredShard, recover
from headgate.core.inbox import cursors, read_marks, topic_heads
from headgate.core.inbox.packed_rows import SLICE_ROWS, user_topic_of
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.apply import NotConfigured, apply_many
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.records import LogName, Record
from headgate.core.wire.revoked_tokens import read_record
from headgate.runtime.logs.shard_config import find_config
from headgate.runtime.ports import Clock, Log, LogUnavailable, OffsetGone

READ_RECORDS: Final = 1_000
READ_WAIT_S: Final = 5.0
EMPTY_READS: Final = 3
TRIES: Final = 3  # of a shard whose log is truncated while it is read
LINES_A_TURN: Final = 1_000
AHEAD: Final = 8  # shards that are read at once, where the one before had at most
SMALL_ROWS: Final = 20_000  # topics, memberships and cursors: shards are about equal, and large ones fill the memory

Told = Callable[[str, int, int], None]  # what is done, how much of it, and how much there is


def say_nothing(what: str, done: int, total: int) -> None:
    """Does nothing."""


async def backup(log: Log, writer: BackupWriter, clock: Clock, told: Told = say_nothing) -> Manifest:
    """Writes a backup of all shards; returns its manifest.

    Raises LogUnavailable, and what `recover` raises for a shard that cannot be read.
    """
    config = await find_config(log, 0)
    if config is None:
        raise NotConfigured(f"{log.address} has no config record in shard 0: there is nothing to back up")
    manifest = Manifest(FORMAT, config.cluster_id, config.generation, log.shards, clock.wall_ms(), list(LEFT_OUT))
    writer.add(manifest)
    for revocation in await _revocations(log):
        writer.add(revocation)
    async with aclosing(_all_shards(log)) as shards:
        async for found in shards:
            told("shards", found.number, log.shards)
            writer.add(ShardLine(found.number, found.shard.next_offset, found.users.next_offset))
            for count, line in enumerate(lines_of(found.shard, found.rows, found.users)):
                writer.add(line)
                if count % LINES_A_TURN == 0:
                    await asyncio.sleep(0)
            del found  # before the next one is read
    writer.finish()
    told("shards", log.shards, log.shards)
    return manifest


async def _all_shards(log: Log) -> AsyncGenerator[RecoveredShard, None]:
    """Yields the shards in order; use it with `aclosing`. Raises what `shard_at_end` raises."""
    reading: deque[asyncio.Task[RecoveredShard]] = deque()
    begun, most = 0, 1
    try:
        for _ in range(log.shards):
            while begun < log.shards and len(reading) < most:
                reading.append(asyncio.create_task(shard_at_end(log, begun)))
                begun += 1
            found = await reading[0]
            most = AHEAD if _rows_of(found) <= SMALL_ROWS else 1
            reading.popleft()
            yield found
            del found
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


def _rows_of(found: RecoveredShard) -> int:
    return len(found.rows) + len(found.users.memberships) + len(found.users.cursors)


async def shard_at_end(log: Log, number: int) -> RecoveredShard:
    """Returns the state of a shard at the end of its messages and inbox log.

    Raises what `recover` raises, UnknownVersion, and OffsetGone where the log is truncated faster than it is read.
    """
    for _ in range(TRIES - 1):
        try:
            return await _shard_at_end(log, number)
        except OffsetGone:
            continue
    return await _shard_at_end(log, number)


async def _shard_at_end(log: Log, number: int) -> RecoveredShard:
    found = await recover(log, number, lambda work, seconds: None)
    async for records in tail(log, LogName.MESSAGES, number, found.shard.next_offset):
        for _ in apply_many(found.shard, found.rows, records):
            pass
    async for records in tail(log, LogName.INBOX, number, found.users.next_offset):
        for record in records:
            _take(found.users, record)
    return found


async def tail(log: Log, name: LogName, shard: int, offset: int) -> AsyncIterator[list[Record]]:
    """Yields the records of a part from `offset` up to its present end. Raises LogUnavailable, OffsetGone."""
    end = (await log.bounds(name, shard)).end
    empty = 0
    reader = await log.reader(name, shard, offset)
    try:
        while offset < end:
            batch = await reader.read(READ_RECORDS, READ_WAIT_S)
            empty = empty + 1 if batch.next_offset <= offset else 0
            if empty >= EMPTY_READS:
                raise LogUnavailable(f"{log.address}: {name} {shard} cannot be read from offset {offset} on")
            offset = batch.next_offset
            yield [record for record in batch.records if record.offset < end]
            await asyncio.sleep(0)
    finally:
        await reader.close()


def lines_of(shard: Shard, rows: dict[bytes, Row], users: UserTopics) -> Iterator[StateLine]:
    """Yields the state of a shard as lines."""
    for key, row in rows.items():
        yield _topic(row)
        yield from _members(shard, key, row)
        for seq in shard.changed.seqs(key):
            found = shard.changed.get(key, row.epoch, seq)
            if found is not None:
                yield ChangedLine(row.topic_id, seq, found.version, found.redacted)
    yield from _cursors(users)
    yield from _marks(users)
    yield from _heads(users)


def _topic(row: Row) -> TopicLine:
    return TopicLine(
        row.topic_id,
        row.epoch,
        row.seq,
        row.others,
        row.name,
        row.permissions,
        row.owner_id,
        row.created_at,
        row.settings,
        row.version,
        row.fence,
        row.tally,
        row.heat,
    )


def _members(shard: Shard, key: bytes, row: Row) -> Iterator[MemberLine]:
    members = shard.members.get(key)
    for user_id, found in [(row.owner_id, Shard.creator_of(row))] if members is None else members:
        yield MemberLine(row.topic_id, user_id, *found)


def _cursors(users: UserTopics) -> Iterator[CursorLine]:
    for keys in users.cursors.keys(SLICE_ROWS):
        for key in keys:
            user_id, topic_id = user_topic_of(cursors.FAMILY, key)
            for found in users.cursors.row(key) or ():
                place = found.epoch, found.seq, found.heard_s, found.above, found.attempts
                yield CursorLine(user_id, found.device_id, topic_id, *place)


def _marks(users: UserTopics) -> Iterator[MarkLine]:
    for keys in users.marks.keys(SLICE_ROWS):
        for key in keys:
            user_id, topic_id = user_topic_of(read_marks.FAMILY, key)
            found = users.marks.row(key)
            if found is not None:
                yield MarkLine(user_id, topic_id, found.epoch, found.seq, found.n, found.heard_s)


def _heads(users: UserTopics) -> Iterator[HeadLine]:
    for keys in users.heads.keys(SLICE_ROWS):
        for key in keys:
            found = users.heads.row(key)
            if found is not None and found.ts and not found.gone:
                yield HeadLine(topic_heads.topic_of(key), found.epoch, found.ts)


def _take(users: UserTopics, record: Record) -> None:
    try:
        users.apply(record)
    except CorruptRecord:
        return  # as its owner does: it is skipped, and counted there


async def _revocations(log: Log) -> list[RevocationLine]:
    """Returns the record of each user and token with the latest time; at most `MAX_REVOCATIONS` are ever accepted."""
    found: dict[bytes, RevocationLine] = {}
    times: dict[bytes, int] = {}
    first = (await log.bounds(LogName.REVOCATIONS, 0)).first
    async for records in tail(log, LogName.REVOCATIONS, 0, first):
        for record in records:
            if record.key is None or record.value is None:
                continue
            not_before = _not_before(record.value)
            if not_before >= times.get(record.key, 0):
                times[record.key] = not_before
                found[record.key] = RevocationLine(record.key.decode(), record.value.decode())
    return list(found.values())


def _not_before(value: bytes) -> int:
    """Returns the time of a revocation, 0 for one that cannot be read: no process obeys it."""
    try:
        return read_record(value).not_before
    except CorruptRecord:
        return 0
