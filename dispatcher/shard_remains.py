"""Reads what is left of a shard that no dispatcher can recover: its newest snapshot, and the log behind the loss."""

from typing import Final, NamedTuple

import msgspec

from dispatcher.backup import tail
from dispatcher.recovery import LogDiverged, RestoredChain, ShardLost, newest_restorable, recover
from headgate.core.delivery.open_letters import OpenLetters
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.apply import NotConfigured, apply_many, event_in, items_of
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import Config
from headgate.core.wire.envelope import MAX_ITEMS, Kind, decode, is_ours
from headgate.core.wire.errors import CorruptRecord, HeadgateError
from headgate.core.wire.message_changes import RedactMessage
from headgate.core.wire.records import Bounds, LogName, Record
from headgate.runtime.logs.shard_config import first_config
from headgate.runtime.ports import Log

_WENT_BACK: Final = (
    "A log whose offsets have gone back could give an epoch or a number a second time: restore the last backup into "
    "new logs (docs/how-to/disaster.md)"
)


class NothingLost(HeadgateError):
    """The shard can be recovered without a loss. Nothing was changed."""


class CannotRecover(HeadgateError):
    """The loss is one that this cannot declare: the backup has to be restored. Nothing was changed."""


class Remains(NamedTuple):
    """What is left of a shard at the end of its logs. `why` is the loss, as the parked shard says it.

    `shard` and `rows` are those of the newest snapshot with the log applied behind it, from the offset `start` on.
    `snapshot_end` is where that snapshot ended, -1 without one. `continues`: the messages log continues the
    snapshot, only the inbox log has lost records; else every number given from `start` on is a guess. `unnumbered` are
    the messages from `start` on, `redacted` the offsets of records of which one was redacted. `inbox_lost` are the
    offsets of the inbox log that nobody has applied.
    """

    why: str
    shard: Shard
    rows: dict[bytes, Row]
    users: UserTopics
    letters: OpenLetters
    snapshot_end: int
    start: int
    continues: bool
    unnumbered: int
    redacted: frozenset[int]
    inbox_lost: tuple[int, int]


async def read_remains(log: Log, number: int) -> Remains:
    """Returns what is left. Writes nothing.

    Raises NothingLost, CannotRecover, NotConfigured for a log that was never used, NewerSnapshot, UnknownVersion,
    LogError.
    """
    why = await _loss(log, number)
    found, _ = await newest_restorable(log, number, 0, _unmeasured)
    bounds = await log.bounds(LogName.MESSAGES, number)
    await _check(log, number, found, bounds, why)
    shard, end = found.shard, found.shard.next_offset if found.chain else -1
    if shard.config is None:
        await _configure_as_others(log, number, shard)
    shard.next_offset = max(end, bounds.first)
    start = shard.next_offset
    unnumbered, redacted = await _apply_rest(log, number, found)
    inbox_lost = await _read_inbox(log, number, found)
    continues = bool(found.chain) and end >= bounds.first
    left = found.shard, found.rows, found.users, found.letters
    return Remains(why, *left, end, start, continues, unnumbered, redacted, inbox_lost)


def _unmeasured(work: str, seconds: float) -> None:
    """Takes no notice of how long it took."""


async def _loss(log: Log, number: int) -> str:
    try:
        await recover(log, number, _unmeasured)
    except LogDiverged as error:
        raise CannotRecover(f"{error}. {_WENT_BACK}") from None
    except (ShardLost, NotConfigured) as error:
        return str(error)
    raise NothingLost(f"shard {number} can be recovered without a loss: nothing was changed")


async def _check(log: Log, number: int, found: RestoredChain, bounds: Bounds, why: str) -> None:
    """Raises NotConfigured, CannotRecover for what is no loss of a shard whose offsets have only risen."""
    if not found.chain and not bounds.end:
        raise NotConfigured(why)
    written = await first_config(log, number)
    is_other = found.chain and written not in (None, found.shard.config)
    if is_other or found.shard.next_offset > bounds.end:
        raise CannotRecover(f"{why}. {_WENT_BACK}")


async def _configure_as_others(log: Log, number: int, shard: Shard) -> None:
    """Gives a shard without any snapshot the config it must have had. Raises NotConfigured."""
    for other in range(log.shards):
        found, _ = await newest_restorable(log, other, 0, _unmeasured)
        config = found.shard.config or await first_config(log, other)
        if config is not None:
            shard.config = msgspec.structs.replace(config, shard=number)
            shard.logic = max(shard.logic, found.shard.logic, config.logic)
            return
    raise NotConfigured(f"{log.address} has no config record in any shard; run headgate init")


async def _apply_rest(log: Log, number: int, found: RestoredChain) -> tuple[int, frozenset[int]]:
    """Applies the log up to its end; returns how many messages it holds, and which records have a redacted one."""
    shard, count, redacted = found.shard, 0, set[int]()
    assert shard.config is not None
    end = (await log.bounds(LogName.MESSAGES, number)).end
    async for records in tail(log, LogName.MESSAGES, number, shard.next_offset):
        for record, _ in apply_many(shard, found.rows, records):
            count += messages_in(record, shard.config)
            event = event_in(record)
            if event is not None and isinstance(event.change, RedactMessage):
                redacted.add(event.change.target_pos // MAX_ITEMS)
    shard.next_offset = max(shard.next_offset, end)  # a transaction's marker is no record
    return count, frozenset(redacted)


def messages_in(record: Record, config: Config) -> int:
    """Returns how many messages or changes of messages a record stands for; 0 for a control record."""
    value = record.value or b""
    try:
        if is_ours(value) and decode(value).kind is Kind.CONTROL:
            return 0
    except CorruptRecord:
        return 1
    return max(1, len(items_of(record, config)))


async def _read_inbox(log: Log, number: int, found: RestoredChain) -> tuple[int, int]:
    """Reads the inbox log as far as there is one; returns the offsets that are lost."""
    users, bounds = found.users, await log.bounds(LogName.INBOX, number)
    saved = users.next_offset if found.chain else 0
    lost = (saved, bounds.first) if saved < bounds.first else (bounds.end, saved) if saved > bounds.end else (0, 0)
    users.next_offset = bounds.first if lost != (0, 0) else saved
    async for records in tail(log, LogName.INBOX, number, users.next_offset):
        for record in records:
            try:
                users.apply(record)
            except CorruptRecord:
                continue  # as its owner does
    return lost
