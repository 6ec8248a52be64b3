"""Restores a backup into logs that nobody has used: for each shard a snapshot, behind which its log begins anew.

The file is sorted into one file a shard first, because topics and users may have other shards here. Every topic gets
the offset of a probe as the place where it began, in the order in which the topics were made, so its epoch is above all
that clients know and it goes on with the seq behind its newest. Until the last step the logs begin with the config
record of `headgate init`, which does not agree with the snapshots: a dispatcher parks such a shard and serves nothing.
The last step deletes what stands before the snapshots.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dispatcher.backup import LINES_A_TURN, Told, say_nothing
from dispatcher.backup_lines import (
    BackupReader,
    ChangedLine,
    CursorLine,
    HeadLine,
    Line,
    MarkLine,
    MemberLine,
    RevocationLine,
    ShardLine,
    TopicLine,
)
from dispatcher.backup_spill import BackupSpill
from dispatcher.recovery import RecoveredShard, recover
from dispatcher.restore_target import check_unclaimed, check_unused, places_for, write_base
from dispatcher.restored_shard import ShardCounts, counts_of, restored_shard, restored_users
from headgate.core.wire.control import Config
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, MAX_INTEGER, make_epoch, shard_of, topic_key, user_shard
from headgate.core.wire.link_groups import GROUP_DEVICE
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Clock, Log

MAX_GENERATION: Final = MAX_INTEGER >> EPOCH_OFFSET_BITS  # 511: an epoch is exact in JavaScript


class WrongGeneration(HeadgateError):
    """The generation is not above the backup's, or above what an epoch can hold."""


class RestoreFailed(HeadgateError):
    """What was read back is not what was written. The logs must not be served: make new ones."""


class RestoreReport(NamedTuple):
    """What a restore has written. `dropped` are cursors and marks of topics that the backup does not have."""

    generation: int
    shards: int
    topics: int
    members: int
    changed: int
    cursors: int
    marks: int
    revocations: int
    dropped: int


async def restore(
    log: Log,
    reader: BackupReader,
    folder: Path,
    clock: Clock,
    generation: int | None = None,
    told: Told = say_nothing,
) -> RestoreReport:
    """Restores a backup; `folder` takes as many bytes as the file has twice, for the time it takes.

    Raises BadBackup before anything was written, TargetUsed, WrongGeneration, NotConfigured, LogError, OSError,
    RestoreFailed.
    """
    configs = await check_unused(log)
    found = _generation(reader.manifest.generation, generation, configs)
    work = _Restore(log, BackupSpill(folder), [msgspec.structs.replace(config, generation=found) for config in configs])
    await work.sort(reader, told)
    for shard in range(log.shards):
        told("topics", shard, log.shards)
        await work.begin_topics(shard)
    for shard in range(log.shards):
        told("snapshots", shard, log.shards)
        await work.write(shard, clock.wall_ms())
    await work.revoke()
    await check_unclaimed(log)
    for shard in range(log.shards):
        told("check", shard, log.shards)
        await work.finish(shard)
    told("check", log.shards, log.shards)
    total = ShardCounts(*(sum(each) for each in zip(*work.written, strict=True)))
    return RestoreReport(found, log.shards, *total, len(work.revocations), work.dropped)


def _generation(before: int, wanted: int | None, configs: list[Config]) -> int:
    found = before + 1 if wanted is None else wanted
    least = max(before + 1, *(config.generation for config in configs))
    if not least <= found <= MAX_GENERATION:
        raise WrongGeneration(f"generation {found}: the backup's is {before}, so {least} to {MAX_GENERATION} can be")
    return found


class _Restore:
    """A restore under way. `written` are the counts of the shards whose snapshots are written."""

    def __init__(self, log: Log, spill: BackupSpill, configs: list[Config]) -> None:
        self.written: list[ShardCounts] = []
        self.revocations: list[RevocationLine] = []
        self.dropped = 0
        self._log = log
        self._spill = spill
        self._configs = configs
        self._ends: list[int] = []  # of the message logs, where the snapshots end

    # -- by shard

    async def sort(self, reader: BackupReader, told: Told) -> None:
        """Sorts the lines by shard of their topics. Raises BadBackup."""
        for count, line in enumerate(reader.lines()):
            if count % LINES_A_TURN == 0:
                told("lines", count, 0)
                await asyncio.sleep(0)
            if isinstance(line, RevocationLine):
                self.revocations.append(line)
            elif not isinstance(line, ShardLine):
                assert isinstance(line, TopicLine | MemberLine | ChangedLine | CursorLine | MarkLine | HeadLine)
                kind = str(line.__struct_config__.tag)
                self._spill.add(kind, shard_of(topic_key(line.topic_id), self._log.shards), line)

    async def begin_topics(self, shard: int) -> None:
        """Gives the topics of a shard their epochs, and sorts what is of users by their shards. Raises LogError."""
        topics = [line for line in self._spill.lines("topic", shard) if isinstance(line, TopicLine)]
        self._spill.drop("topic", shard)
        topics.sort(key=lambda line: line.epoch)
        places = await places_for(self._log, shard, len(topics))
        self._ends.append((await self._log.bounds(LogName.MESSAGES, shard)).end)
        translation = _Translation(topics, self._spill.lines("head", shard))
        for topic, place in zip(topics, places, strict=True):
            topic.epoch = make_epoch(self._configs[shard].generation, place)
            self._spill.add("numbered", shard, topic)
        self._members_by_user(shard, translation)
        for kind in ("cursor", "mark"):
            for line in self._spill.lines(kind, shard):
                assert isinstance(line, CursorLine | MarkLine)
                self._place_by_user(shard, translation, line)
            self._spill.drop(kind, shard)
        self._spill.drop("head", shard)

    def _members_by_user(self, shard: int, translation: "_Translation") -> None:
        told: tuple[str, set[int]] = ("", set())  # the shards of users that have the topic; its members are together
        for line in self._spill.lines("member", shard):
            assert isinstance(line, MemberLine)
            to = user_shard(line.user_id, self._log.shards)
            if told[0] != line.topic_id:
                told = line.topic_id, set()
            if to not in told[1]:
                told[1].add(to)
                topic, ts = translation.topic(line.topic_id)
                self._spill.add("user", to, topic)
                self._spill.add("user", to, HeadLine(line.topic_id, topic.epoch, ts))
            self._spill.add("user", to, line)

    def _place_by_user(self, shard: int, translation: "_Translation", line: CursorLine | MarkLine) -> None:
        if not translation.translate(line):
            self.dropped += 1
            return
        is_group = isinstance(line, CursorLine) and line.device_id == GROUP_DEVICE  # kept beside its topic
        self._spill.add("user", shard if is_group else user_shard(line.user_id, self._log.shards), line)

    # -- into the logs

    async def write(self, shard: int, now_ms: int) -> None:
        """Writes the snapshot of a shard and checks it. Raises LogError, BadSnapshot."""
        state, rows = restored_shard(
            self._configs[shard],
            self._spill.lines("numbered", shard),
            self._spill.lines("member", shard),
            self._spill.lines("changed", shard),
        )
        users = restored_users(self._spill.lines("user", shard), now_ms)
        state.next_offset = self._ends[shard]
        users.next_offset = (await self._log.bounds(LogName.INBOX, shard)).end
        floor = await write_base(self._log, shard, state, rows, users)
        await self._log.truncate_before(LogName.SNAPSHOTS, shard, floor)  # of a restore that was interrupted
        self.written.append(counts_of(state, rows, users))
        for kind in ("numbered", "member", "changed", "user"):
            self._spill.drop(kind, shard)

    async def revoke(self) -> None:
        """Writes the revocations. Raises LogError."""
        for line in self.revocations:
            await self._log.append(LogName.REVOCATIONS, 0, line.key.encode(), line.value.encode())

    async def finish(self, shard: int) -> None:
        """Lets a shard begin with its snapshot, and reads it as a dispatcher will. Raises LogError, RestoreFailed."""
        await self._log.truncate_before(LogName.MESSAGES, shard, self._ends[shard])
        found: RecoveredShard = await recover(self._log, shard, lambda work, seconds: None)
        read = counts_of(found.shard, found.rows, found.users)
        if read != self.written[shard] or found.config != self._configs[shard]:
            raise RestoreFailed(f"shard {shard} has {read} of {found.config}, {self.written[shard]} was written")


class _Translation:
    """The topics of a shard by id, with what becomes of positions in their old epochs."""

    def __init__(self, topics: list[TopicLine], heads: Iterator[Line]) -> None:
        self._topics = {topic.topic_id: topic for topic in topics}
        self._before = {topic.topic_id: topic.epoch for topic in topics}
        self._times: Counter[str] = Counter()
        for line in heads:
            assert isinstance(line, HeadLine)
            if self._before.get(line.topic_id) == line.epoch:
                self._times[line.topic_id] = max(self._times[line.topic_id], line.ts)

    def topic(self, topic_id: str) -> tuple[TopicLine, int]:
        """Returns a topic, and when its newest message was appended: Unix milliseconds, 0 where that is not known."""
        return self._topics[topic_id], self._times[topic_id]

    def translate(self, line: CursorLine | MarkLine) -> bool:
        """Changes a position to the topic's new epoch; returns False for one of no topic, or of another epoch of it.

        The topic's shard was read before or after the user's, so the position may be above the newest message.
        """
        topic = self._topics.get(line.topic_id)
        if topic is None or self._before[line.topic_id] != line.epoch:
            return False
        line.epoch = topic.epoch
        if isinstance(line, MarkLine):
            n = topic.seq - topic.others
            line.n = n if line.seq >= topic.seq else min(line.n, n)
        else:
            line.above = [seq for seq in line.above if seq <= topic.seq]
            line.attempts = [entry for entry in line.attempts if entry[0] <= topic.seq]
        line.seq = min(line.seq, topic.seq)
        return True
