"""Recovers a shard's state from the newest valid snapshot chain, and finds out from where to read the log."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog

from dispatcher.known_record import still_holds
from dispatcher.topic_list import TopicList
from headgate.core.delivery.open_letters import PREFIX, OpenLetters
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.apply import NotConfigured
from headgate.core.sequencer.pairs import JoinedPairs, NoPairs, Pairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import Chunk, restoring
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from headgate.core.wire.control import MEMBERS_LOGIC, Config
from headgate.core.wire.errors import BrokenChain, HeadgateError
from headgate.core.wire.records import NO_RECORD, Bounds, LastRecord, LogName
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.logs.shard_config import first_config
from headgate.runtime.ports import Log

SLICE_TOPICS: Final = 5_000

logger = structlog.get_logger("dispatcher")


class ShardLost(HeadgateError):
    """Log and snapshots do not belong together. Data is lost, and an operator has to decide how to go on."""


class LogDiverged(ShardLost):
    """The log lost records that were applied, and may have taken others in their places."""


class RecoveredShard(NamedTuple):
    """All that a ShardOwner begins with.

    The message log had the offsets [`first`, `end`) at the recovery. `users` are those of this shard, as the inbox log
    has them below `users.next_offset`, `letters` the same of the dead-letter log. `writer` continues the snapshot
    chain, where there is one.
    """

    number: int
    config: Config
    shard: Shard
    rows: dict[bytes, Row]
    topics: TopicList
    users: UserTopics
    writer: SnapshotWriter
    first: int
    end: int
    letters: OpenLetters


class RestoredChain(NamedTuple):
    """The state that a chain of snapshots gives; without a chain all is empty."""

    chain: list[Chunk]
    shard: Shard
    rows: dict[bytes, Row]
    users: UserTopics
    letters: OpenLetters


Worked = Callable[[str, float], None]


async def restore_in_slices(
    chain: Sequence[Chunk], worked: Worked = lambda work, seconds: None, pairs: Pairs | None = None
) -> tuple[Shard, dict[bytes, Row]]:
    """Restores a chain in slices, so that other shards are served meanwhile; fills `pairs`. Raises BrokenChain.

    Calls `worked` with the seconds that each slice took.
    """
    steps, now = restoring(chain, NoPairs() if pairs is None else pairs), asyncio.get_running_loop().time
    while True:
        started = now()
        try:
            next(steps)
        except StopIteration as done:
            restored: tuple[Shard, dict[bytes, Row]] = done.value
            return restored
        finally:
            worked("restore", now() - started)
        await asyncio.sleep(0)


async def recover(log: Log, number: int, worked: Worked, taken: LastRecord = NO_RECORD) -> RecoveredShard:
    """Returns the newest state that snapshots give; `taken` is the newest record that this process has applied.

    Raises ShardLost, NotConfigured, NewerSnapshot, LogUnavailable.
    """
    chain, shard, rows, users, letters = await _newest_state(log, number, worked)
    bounds = await log.bounds(LogName.MESSAGES, number)
    written = await first_config(log, number)
    config = shard.config or written
    if config is None:
        raise NotConfigured(f"shard {number} has no config record; {_mend(bounds)}")
    inbox = await log.bounds(LogName.INBOX, number)
    users.next_offset = inbox_start(number, shard, users.next_offset if chain else None, inbox)
    writer = SnapshotWriter(pairs_of(users, letters))
    await _check_log(log, number, shard.last, taken, bounds)
    if chain:
        _check(number, shard, written, bounds.end)
        writer.resume(chain, shard.window)
    else:
        shard.next_offset = bounds.first
    topics = await _topics_of(rows)
    return RecoveredShard(number, config, shard, rows, topics, users, writer, bounds.first, bounds.end, letters)


def inbox_start(number: int, shard: Shard, saved: int | None, inbox: Bounds) -> int:
    """Returns from where to read the inbox log; `saved` is up to where the snapshot has it, None without a snapshot.

    Raises ShardLost where records between were removed. A snapshot of a node that did not know members says 0.
    """
    if saved is None or (saved == 0 and shard.logic < MEMBERS_LOGIC):
        return inbox.first
    if inbox.first <= saved <= inbox.end:
        return saved
    raise ShardLost(
        f"shard {number}: its newest snapshot has the inbox log up to offset {saved} and the log holds {inbox.first} "
        f"to {inbox.end}: memberships were removed before anybody read them, or the log was made anew; see 'A shard is "
        "parked' in docs/operations.md"
    )


def _mend(bounds: Bounds) -> str:
    if not bounds.end:
        return "run `headgate init`"
    return "its beginning and its snapshots are gone; see 'A shard is parked' in docs/operations.md"


def pairs_of(users: UserTopics, letters: OpenLetters) -> Pairs:
    """Returns all that other wings keep in the snapshots of a shard."""
    return JoinedPairs(users, {PREFIX: letters})


def _check(number: int, shard: Shard, written: Config | None, end: int) -> None:
    """Raises ShardLost where a restored shard does not belong to a log that begins with the config `written`."""
    if written is not None and written != shard.config:
        raise ShardLost(f"shard {number}: the log begins with {written}, its snapshot is of {shard.config}")
    if shard.next_offset > end:
        raise ShardLost(
            f"shard {number}: its newest snapshot ends at offset {shard.next_offset} and the log at {end}: the "
            "log lost its newest records or was made anew; see 'A shard is parked' in docs/operations.md"
        )


async def _check_log(log: Log, number: int, saved: LastRecord, taken: LastRecord, bounds: Bounds) -> None:
    """Raises LogDiverged where the log lost records that were applied: their numbers would be given to others.

    `saved` is the newest record that the snapshot was made from, `taken` what this process has applied. Nothing else
    shows such a loss behind the snapshot, and none at all once others took the places.
    """
    if taken.offset >= bounds.end:
        raise LogDiverged(
            f"shard {number}: the log ends at offset {bounds.end} and was applied up to {taken.offset + 1}: it lost "
            "its newest records; see 'A shard is parked' in docs/operations.md"
        )
    for last in (saved, taken):
        if last.offset < bounds.end and not await still_holds(log, number, last, bounds.first):
            raise LogDiverged(
                f"shard {number}: the log has another record at offset {last.offset} than the one that was applied: "
                "it lost its newest records and grew again; see 'A shard is parked' in docs/operations.md"
            )


async def _topics_of(rows: dict[bytes, Row]) -> TopicList:
    topics = TopicList()
    for at, row in enumerate(rows.values()):
        topics.add(row.topic_id, row.epoch)
        if at % SLICE_TOPICS == 0:
            await asyncio.sleep(0)
    return topics


async def _newest_state(log: Log, number: int, worked: Worked) -> RestoredChain:
    """Restores the newest chain that can be restored and that the log continues. Raises ShardLost."""
    first = (await log.bounds(LogName.MESSAGES, number)).first
    found, highest = await newest_restorable(log, number, first, worked)
    if not found.chain and highest >= 0:
        raise ShardLost(
            f"shard {number}: its newest snapshot ends at offset {highest} and the log begins at {first}: what stood "
            "between was removed before anybody applied it; see 'A shard is parked' in docs/operations.md"
        )
    return found


async def newest_restorable(log: Log, number: int, first: int, worked: Worked) -> tuple[RestoredChain, int]:
    """Restores the newest chain that can be restored and ends at `first` or above.

    Where there is none it returns also where the newest chain below `first` ends, else -1. A snapshot ends behind
    transaction markers and whatever else takes an offset without being a record for us, so an offset that the log no
    longer has was a record.
    """
    skip: list[bytes] = []
    while chain := await newest_chain(log, number, skip, at_least=first):
        users, letters = UserTopics(), OpenLetters()
        try:
            shard, rows = await restore_in_slices(chain, worked, pairs_of(users, letters))
        except BrokenChain as error:
            logger.error("a snapshot cannot be restored, an older one is used", shard=number, why=str(error))
            skip += _beyond(chain, error.at)
        else:
            return RestoredChain(chain, shard, rows, users, letters), -1
    older = await newest_chain(log, number, at_most=first - 1)
    return RestoredChain([], Shard(), {}, UserTopics(), OpenLetters()), older[-1].offset if older else -1


def _beyond(chain: Sequence[Chunk], at: int) -> list[bytes]:
    """Returns the names of the ends from the broken chunk `at` on; where it is not known, those of the newer half."""
    ends = [chunk for chunk in chain if chunk.is_end]
    if at < 0:
        return [end.name for end in ends[len(ends) // 2 :]]
    return [end.name for end in ends if end.at >= at]
