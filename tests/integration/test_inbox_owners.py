"""Inboxes over links, on the embedded log and on Kafka: asked for, marked, told of, there after their owner stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dispatcher.service import DispatcherService
from headgate.core.wire import link
from headgate.core.wire.ids import user_shard
from headgate.core.wire.inbox_record import HeadEntry, MembershipRecord, encode_head, encode_inbox, records_of_heads
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_inbox import (
    AskInbox,
    AskMissedTopics,
    InboxAnswer,
    InboxTopic,
    MarksMoved,
    MissedTopic,
    MissedTopics,
    MoveMarks,
    ReadMark,
    UserHints,
    UserRead,
)
from headgate.core.wire.link_users import AttachUsers, UserRoute
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Log
from tests.dispatcher.bed import until
from tests.integration.test_cursors import SHARDS, USERS, GatewayTwin, log, serving

__all__ = ["log"]


class Connected(GatewayTwin):
    """A gateway where all users are connected; it keeps what it is told of their inboxes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.hints: dict[tuple[str, str], int] = {}
        self.read: dict[str, int] = {}

    def on_owner(self, shard: int, up: bool) -> None:
        if up:
            mine = [UserRoute(user, 1) for user in USERS if self.directory.shard_of_user(user) == shard]
            self.directory.send(shard, AttachUsers(shard, True, True, mine))

    def on_push(self, shard_epoch: int, message: link.Message) -> None:
        if isinstance(message, UserHints):
            for hint in message.users:
                self.hints |= {(hint.user_id, topic.topic_id): topic.unread for topic in hint.topics}
        elif isinstance(message, UserRead):
            self.read[message.user_id] = message.seq

    async def inbox(self, user: str) -> list[InboxTopic]:
        answer = await self.ask(user, lambda req: AskInbox(req, user, "phone", "", 100), InboxAnswer)
        found: list[InboxTopic] = answer.topics
        return found

    async def missed(self, user: str) -> list[MissedTopic]:
        answer = await self.ask(user, lambda req: AskMissedTopics(req, user, "phone"), MissedTopics)
        found: list[MissedTopic] = answer.topics
        return found

    async def mark(self, user: str, seq: int) -> None:
        shard = self.directory.shard_of_user(user)
        mark = ReadMark(user, "t", 7, seq, seq)
        await self.ask(user, lambda req: MoveMarks(req, shard, [mark]), MarksMoved)


async def moved(log: Log, *found: HeadEntry) -> None:
    for shard in range(SHARDS):
        for value, _ in records_of_heads(0, [encode_head(head) for head in found]):
            await log.append(LogName.INBOX, shard, None, value)


async def joined(log: Log, user: str) -> None:
    for topic in ("t", "u"):
        record = MembershipRecord(topic, 7, 1, "member", 2, 2, 1_000)
        await log.append(LogName.INBOX, user_shard(user, SHARDS), user.encode(), encode_inbox(record))


async def settled(twin: Connected, found: Callable[[list[InboxTopic]], bool]) -> None:
    """Waits until the inboxes of all users are so: records are read some time after they are appended."""
    for user in USERS:
        async for topics in _asked(twin, user):
            if found(topics):
                break


async def _asked(twin: Connected, user: str) -> AsyncIterator[list[InboxTopic]]:
    async with asyncio.timeout(30):
        while True:
            yield await twin.inbox(user)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("drain", [True, False])
async def test_inboxes_survive_their_owner(log: Log, drain: bool) -> None:
    twin = Connected("one")
    async with serving(log, twin, drain=drain) as service:
        await until(lambda: all(owner.inbox.is_complete for owner in _owners(service)))
        for user in USERS:
            await joined(log, user)
        await moved(log, HeadEntry("t", 7, 9, 8, 90), HeadEntry("u", 7, 4, 4, 40))
        await settled(twin, lambda topics: [topic.head_seq for topic in topics] == [9, 4])
        for at, user in enumerate(USERS):
            await twin.mark(user, 4 + at)
            await twin.move(user, 5, "u")
            await twin.mark(user, 3)  # late
        await until(lambda: all(owner.writer.has_chain for owner in _owners(service)), 20)
        assert twin.read == {user: 4 + at for at, user in enumerate(USERS)}
        await until(lambda: {("ann", "t"), ("bob", "u")} <= set(twin.hints), 20)
        await moved(log, HeadEntry("t", 7, 12, 11, 120, hot=True), HeadEntry("t", 7, 8, 7, 80))
        await twin.mark("ann", 6)
    for _ in range(2):
        async with serving(log, twin):
            await settled(twin, lambda topics: topics[0].head_seq == 12)
            for at, user in enumerate(USERS):
                read = 6 if user == "ann" else 4 + at
                assert await twin.inbox(user) == [
                    InboxTopic("t", 7, "inbox", 12, 2, read, 11 - read), InboxTopic("u", 7, "direct", 5, 5, 2, 2)
                ]  # fmt: skip
                assert await twin.missed(user) == [MissedTopic("t", 7, 2, 120)]
                assert await twin.move(user, 5, "u") == Cursor(user, "phone", "u", 7, 5)


async def test_a_deleted_topic_is_gone_for_all_and_comes_back_with_no_old_member(log: Log) -> None:
    twin = Connected("one")
    async with serving(log, twin) as service:
        for user in USERS:
            await joined(log, user)
        await moved(log, HeadEntry("t", 7, 9, 8, 90), HeadEntry("t", 7, 9, 8, gone=True))
        await settled(twin, lambda topics: [topic.topic_id for topic in topics] == ["u"])
        for owner in _owners(service):
            owner.writer.forget()
        await until(lambda: all(owner.writer.has_chain for owner in _owners(service)), 20)
    again = MembershipRecord("t", 8, 30, "member", 0, 0, 2_000)
    await log.append(LogName.INBOX, user_shard("ann", SHARDS), b"ann", encode_inbox(again))
    await joined(log, "bob")  # late
    async with serving(log, twin):
        await moved(log, HeadEntry("t", 8, 1, 1, 99))
        assert [topic.topic_id for topic in await twin.inbox("bob")] == ["u"]
        async for topics in _asked(twin, "ann"):
            if [(topic.topic_id, topic.epoch, topic.unread) for topic in topics] == [("t", 8, 1), ("u", 7, 0)]:
                break


def _owners(service: DispatcherService) -> list[Any]:
    return list(service.dispatcher.owners.values())
