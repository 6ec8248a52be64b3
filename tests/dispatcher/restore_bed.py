"""Logs in memory that hold what a backup is made of, backups of them, and restores into others."""

import io
from pathlib import Path

from dispatcher.backup import backup
from dispatcher.backup_lines import (
    BackupReader,
    BackupWriter,
    ChangedLine,
    CursorLine,
    HeadLine,
    Line,
    MarkLine,
    MemberLine,
    TopicLine,
)
from dispatcher.restore import RestoreReport, restore
from headgate.core.wire.control import Actor, Control, CreateTopic, RemoveMember, SetMember, encode_body
from headgate.core.wire.envelope import KEYED, MAX_ITEMS, Item, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, make_epoch, random_id, shard_of, topic_key, user_shard
from headgate.core.wire.inbox_record import (
    HeadEntry,
    encode_cursor,
    encode_head,
    encode_mark_entry,
    records_of_cursors,
    records_of_heads,
    records_of_marks,
)
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_groups import GROUP_DEVICE, group_user
from headgate.core.wire.link_inbox import ReadMark
from headgate.core.wire.member_roles import Right
from headgate.core.wire.message_changes import EditMessage, MessageChange, RedactMessage, encode_event, event_tail
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng

CLOCK = SystemClock()
RNG = SystemRng()
ROOT = Actor("root", given=Right.ALL)
TAIL = b'"message_id":"x","publisher_id":"ann","payload":1}'
WITHOUT_EPOCH = (TopicLine, CursorLine, MarkLine, HeadLine)


async def a_log(shards: int) -> MemoryLog:
    log = MemoryLog(MemoryStore(CLOCK, RNG, shards))
    await log.open()
    return log


class Filling:
    """Appends what owners would apply; `epochs` are by topic, `places` of messages by topic and seq."""

    def __init__(self, log: Log, generation: int = 1) -> None:
        self.log = log
        self.epochs: dict[str, int] = {}
        self.places: dict[tuple[str, int], int] = {}
        self._generation = generation
        self._seqs: dict[str, int] = {}

    async def topic(self, topic: str, messages: int = 0, owner: str = "ann") -> None:
        create = CreateTopic(topic_id=topic, name=f"name of {topic}", permissions="PRIVATE", owner_id=owner)
        offset = await self._control(topic, create, 0)
        self.epochs[topic] = make_epoch(self._generation, offset)
        self._seqs[topic] = 0
        for n in range(messages):
            await self.message(topic, str(n))

    async def message(self, topic: str, name: str) -> None:
        item = Item(keyed_id(topic_key(topic), "ann", name), KEYED, TAIL)
        offset = await self._append(topic, encode_message(item, self.epochs[topic]))
        self._seqs[topic] += 1
        self.places[topic, self._seqs[topic]] = offset * MAX_ITEMS

    async def join(self, topic: str, user: str, role: str = "member") -> None:
        await self._control(topic, SetMember(topic, user, role, ROOT), self.epochs[topic])

    async def leave(self, topic: str, user: str) -> None:
        await self._control(topic, RemoveMember(topic, user, ROOT), self.epochs[topic])

    async def edit(self, topic: str, seq: int, version: int = 1) -> None:
        await self._change(topic, EditMessage(seq, self.places[topic, seq], version, ROOT), b"2")

    async def redact(self, topic: str, seq: int) -> None:
        await self._change(topic, RedactMessage(seq, self.places[topic, seq], True, ROOT), b"null")

    async def cursor(self, user: str, topic: str, seq: int, epoch: int | None = None, device: str = "phone") -> None:
        found = self.epochs[topic] if epoch is None else epoch
        entry = encode_cursor(Cursor(user, device, topic, found, seq, [seq + 2], [(seq + 2, 1)]))
        is_group = device == GROUP_DEVICE
        shard = shard_of(topic_key(topic), self.log.shards) if is_group else user_shard(user, self.log.shards)
        for value, _ in records_of_cursors([entry]):
            await self.log.append(LogName.INBOX, shard, None, value)

    async def group_cursor(self, group: str, topic: str, seq: int) -> None:
        await self.cursor(group_user(group), topic, seq, device=GROUP_DEVICE)

    async def mark(self, user: str, topic: str, seq: int, n: int) -> None:
        entry = encode_mark_entry(ReadMark(user, topic, self.epochs[topic], seq, n))
        for value, _ in records_of_marks([entry]):
            await self.log.append(LogName.INBOX, user_shard(user, self.log.shards), None, value)

    async def head(self, user: str, topic: str, seq: int, n: int, ts: int) -> None:
        """Tells the shard of a user how far a topic is."""
        entry = encode_head(HeadEntry(topic, self.epochs[topic], seq, n, ts))
        for value, _ in records_of_heads(0, [entry]):
            await self.log.append(LogName.INBOX, user_shard(user, self.log.shards), None, value)

    async def _change(self, topic: str, change: MessageChange, payload: bytes) -> None:
        record_id = random_id(topic_key(topic), RNG.entropy(12))
        tail = event_tail(record_id, change, payload)
        await self._append(topic, encode_event(change, tail, self.epochs[topic], record_id))
        self._seqs[topic] += 1

    async def _control(self, topic: str, control: Control, epoch: int) -> int:
        record_id = random_id(topic_key(topic), RNG.entropy(12))
        return await self._append(topic, encode_control(encode_body(control), epoch, record_id))

    async def _append(self, topic: str, value: bytes) -> int:
        key = topic_key(topic)
        return (await self.log.append(LogName.MESSAGES, shard_of(key, self.log.shards), key, value)).offset


async def filled(shards: int = 4) -> Filling:
    """A log in memory with topics a to e of ann, and all that a backup has."""
    return await fill_log(await a_log(shards))


async def fill_log(log: Log) -> Filling:
    """Fills an empty log with topics a to e of ann, and all that a backup has."""
    fill = Filling(log)
    for topic in "abcde":
        await fill.topic(topic, messages=5)
        for user in ("bob", "cy", "dan"):
            await fill.join(topic, user)
            await fill.head(user, topic, 5, 5, 1_700_000_000_000)
        await fill.leave(topic, "dan")
        await fill.join(topic, "cy", "admin")
    await fill.topic("alone")
    await fill.edit("a", 2)
    await fill.edit("a", 2, version=2)
    await fill.redact("b", 3)
    await fill.cursor("bob", "a", 3)
    await fill.cursor("bob", "a", 4, device="desk")
    await fill.cursor("eve", "b", 1)
    await fill.group_cursor("workers", "c", 2)
    await fill.mark("bob", "a", 4, 4)
    await fill.mark("cy", "b", 2, 2)
    return fill


async def backup_of(log: Log) -> bytes:
    file = io.BytesIO()
    await backup(log, BackupWriter(file.write), CLOCK)
    return file.getvalue()


async def restored(log: Log, file: bytes, folder: Path, generation: int | None = None) -> RestoreReport:
    return await restore(log, BackupReader(io.BytesIO(file)), folder, CLOCK, generation)


def lines_in(file: bytes) -> list[Line]:
    return list(BackupReader(io.BytesIO(file)).lines())


def state_in(file: bytes) -> list[str]:
    """The lines of state in an order of their own, without their epochs; a head is in each shard that has members."""
    found = set()
    for line in lines_in(file):
        if isinstance(line, WITHOUT_EPOCH):
            line.epoch = 0
        if isinstance(line, (*WITHOUT_EPOCH, MemberLine, ChangedLine)):
            found.add(str(line))
    return sorted(found)
