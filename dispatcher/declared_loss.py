"""Serves again what is left of one shard, once an operator has declared that the rest is lost.

The topics of a shard whose messages log has a hole get new epochs, at places of their own behind everything that the
log holds: clients may know numbers that nobody else knows any more. Messages that nobody can number become dead
letters, and the shards of users are told of the epochs. All of that may be written twice. The snapshot is written last:
until it is whole the shard stays parked, and all of this can be done again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from dispatcher.backup import Told, lines_of, say_nothing, shard_at_end, tail
from dispatcher.backup_lines import ChangedLine, MemberLine, StateLine, TopicLine
from dispatcher.dead_letters import DeadLetters
from dispatcher.inbox_repair import KeyValue, Topics, memberships_of, positions_of
from dispatcher.recovery import ShardLost, newest_restorable, pairs_of, recover
from dispatcher.restore_target import PLACES_AT_ONCE, places_for, write_base
from dispatcher.restored_shard import restored_shard
from dispatcher.shard_remains import Remains, messages_in, read_remains
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.apply import NotConfigured
from headgate.core.sequencer.effects import Unusable
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.ids import make_epoch
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Clock, Log

REASON: Final = "shard_loss"  # of the dead letters


class LossReport(NamedTuple):
    """What a shard has lost and what it has left.

    Nobody has the records of the messages log from `lost_from` to `lost_to` - 1, nor those of the inbox log from
    `inbox_lost_from` to `inbox_lost_to` - 1; from -1: no snapshot says from where. `messages` in the log cannot be
    numbered any more: they become dead letters, except those in records of which a message was redacted.
    `new_epochs`: topics that begin again, all of them or none. `inbox_records` were written for users. `other_lost`
    are shards that are lost too: they have to be recovered as well.
    """

    shard: int
    why: str
    lost_from: int
    lost_to: int
    inbox_lost_from: int
    inbox_lost_to: int
    topics: int
    members: int
    new_epochs: int
    messages: int
    inbox_records: int = 0
    other_lost: tuple[int, ...] = ()


Check = Callable[[], Awaitable[None]]


async def report_loss(log: Log, number: int) -> LossReport:
    """Returns what a recovery would give up. Writes nothing; raises what `read_remains` raises."""
    return _report(number, await read_remains(log, number))


async def recover_with_loss(log: Log, number: int, clock: Clock, check: Check, told: Told = say_nothing) -> LossReport:
    """Gives up what a shard has lost, and lets dispatchers serve the rest.

    `check` raises where somebody serves shards; it is called before the first record and before the snapshot. Raises
    what it raises, what `read_remains` raises before anything was written, and LogError: then it has to be run again.
    """
    await check()
    remains = await read_remains(log, number)
    work = _Recovery(log, number, remains)
    if not remains.continues:
        await work.begin_epochs()
        await work.bury()
    await work.tell_users(clock, told)
    await check()
    await work.write()
    return _report(number, remains)._replace(inbox_records=work.written, other_lost=tuple(work.other_lost))


def _report(number: int, remains: Remains) -> LossReport:
    again = 0 if remains.continues else len(remains.rows)
    members = sum(remains.shard.member_count(key) for key in remains.rows)
    lost = (0, 0) if remains.continues else (remains.snapshot_end, remains.start)
    messages = 0 if remains.continues else remains.unnumbered
    return LossReport(number, remains.why, *lost, *remains.inbox_lost, len(remains.rows), members, again, messages)


class _Recovery:
    """A shard with its loss, on its way to a snapshot. `written` are records for users."""

    def __init__(self, log: Log, number: int, remains: Remains) -> None:
        self.written = 0
        self.other_lost: list[int] = []
        self._log = log
        self._number = number
        self._remains = remains
        self._shard: Shard = remains.shard
        self._rows: dict[bytes, Row] = remains.rows
        self._before = {key: row.epoch for key, row in remains.rows.items()}

    async def begin_epochs(self) -> None:
        """Lets every topic begin again, in the order in which they were made. Raises LogError."""
        config, old = self._shard.config, self._shard
        assert config is not None
        topics = [line for line in self._lines() if isinstance(line, TopicLine)]
        topics.sort(key=lambda line: line.epoch)
        places = await places_for(self._log, self._number, len(topics))
        for topic, place in zip(topics, places, strict=True):
            topic.epoch = make_epoch(config.generation, place)
        members = (line for line in self._lines() if isinstance(line, MemberLine))
        changed = (line for line in self._lines() if isinstance(line, ChangedLine))
        self._shard, self._rows = restored_shard(config, topics, members, changed)
        self._shard.next_offset, self._shard.log_ms = old.next_offset, old.log_ms
        self._shard.logic = old.logic

    def _lines(self) -> Iterator[StateLine]:
        return lines_of(self._remains.shard, self._remains.rows, UserTopics())

    async def bury(self) -> None:
        """Writes dead letters of the messages that nobody has numbered and nobody can."""
        config, remains = self._shard.config, self._remains
        assert config is not None
        letters = DeadLetters(self._log, self._number)
        async for records in tail(self._log, LogName.MESSAGES, self._number, remains.start):
            for record in records:
                count = messages_in(record, config)
                if record.offset >= self._shard.next_offset:  # its owner will apply it
                    break
                if count and record.offset not in remains.redacted:
                    letters.add(record, Unusable(count, REASON, "records before it are lost; the loss was declared"))
                    await letters.room()
        await letters.safe()

    async def tell_users(self, clock: Clock, told: Told) -> None:
        """Tells the users of all shards of the topics of this one, and the users of this one of all topics.

        A shard that is lost itself is left out; its own recovery will do it for both. Raises LogError.
        """
        mine = Topics(self._number, self._log.shards, self._shard, self._rows)
        for other in range(self._log.shards):
            told("users", other, self._log.shards)
            if other == self._number:
                await self._tell(mine, other, self._remains.users, clock)
                continue
            try:
                found = await shard_at_end(self._log, other)
            except (ShardLost, NotConfigured):
                self.other_lost.append(other)
                continue
            theirs = Topics(other, self._log.shards, found.shard, found.rows)
            await self._tell(mine, other, found.users, clock)
            await self._append_all(
                self._number, memberships_of(theirs, self._number, self._remains.users, clock.wall_ms())
            )

    async def _tell(self, mine: Topics, to: int, users: UserTopics, clock: Clock) -> None:
        await self._append_all(to, memberships_of(mine, to, users, clock.wall_ms()))
        await self._append_all(to, positions_of(self._before, self._rows, users))

    async def _append_all(self, to: int, values: Iterable[KeyValue]) -> None:
        """Appends records to an inbox log, some of them at once. Raises LogError."""
        each = iter(values)
        while some := list(islice(each, PLACES_AT_ONCE)):
            await asyncio.gather(*(self._log.append(LogName.INBOX, to, key, value) for key, value in some))
            self.written += len(some)

    async def write(self) -> None:
        """Writes the snapshot from which the shard is served, and reads it as a dispatcher will. Raises LogError.

        Where the messages log continues the old snapshot, it is that one with the inbox as it is now: the next owner
        applies the messages behind it, and does what they ask for.
        """
        remains, shard, rows, letters = self._remains, self._shard, self._rows, self._remains.letters
        if remains.continues:
            found, _ = await newest_restorable(self._log, self._number, 0, lambda work, seconds: None)
            shard, rows, letters = found.shard, found.rows, found.letters
        await write_base(self._log, self._number, shard, rows, pairs_of(remains.users, letters))
        await recover(self._log, self._number, lambda work, seconds: None)
