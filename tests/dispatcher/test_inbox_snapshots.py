"""Heads and read marks in the snapshots of a shard: all of them, and none longer than it means something."""

from dispatcher.shard import ShardOwner
from dispatcher.shard_runner import ShardRunner
from headgate.core.inbox.users import UserTopics
from headgate.core.wire.inbox_record import (
    HeadEntry,
    encode_head,
    encode_mark_entry,
    records_of_heads,
    records_of_marks,
)
from headgate.core.wire.link_inbox import ReadMark
from headgate.core.wire.records import LogName
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.core.inbox.inbox_log import inbox
from tests.dispatcher.bed import owner_in, owning, until
from tests.dispatcher.test_cursor_snapshots import Later
from tests.dispatcher.test_recovery import a_log
from tests.dispatcher.test_user_inbox import OFTEN, has_read, membership, wrote


async def written(log: FaultyLog, heads: list[HeadEntry], marks: list[ReadMark]) -> int:
    for value, _ in records_of_heads(0, [encode_head(head) for head in heads]):
        at = await log.append(LogName.INBOX, 0, None, value)
    for value, _ in records_of_marks([encode_mark_entry(mark) for mark in marks]):
        at = await log.append(LogName.INBOX, 0, None, value)
    return at.offset + 1


def users_in(runner: ShardRunner) -> UserTopics:
    return owner_in(runner).inbox.users


async def base(owner: ShardOwner) -> None:
    """Has a base written, once no other snapshot is being written."""
    await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0, 20)
    owner.writer.forget()


async def test_a_new_owner_has_what_the_snapshot_and_the_log_after_it_have() -> None:
    log = await a_log()
    async with owning(log, final=True) as runner:
        topics = [f"t{n}" for n in range(1_500)]
        await wrote(log, "bob", *[membership(topic) for topic in topics])
        heads = [HeadEntry(topic, 7, 5, 4, 9, n % 2 == 0) for n, topic in enumerate(topics)]
        end = await written(log, heads, [ReadMark("bob", topic, 7, 3, 2) for topic in topics])
        await has_read(runner, end)
        before = inbox(users_in(runner), "bob", limit=2_000)
    await log.truncate_before(LogName.INBOX, 0, end)
    end = await written(log, [HeadEntry("t0", 7, 9, 8, 10)], [ReadMark("bob", "t1", 7, 4, 3)])
    async with owning(log) as runner:
        await has_read(runner, end)
        after = inbox(users_in(runner), "bob", limit=2_000)
    assert len(before) == 1_500 and [topic for topic in after if topic.topic_id not in ("t0", "t1")] == before[2:]
    assert [(topic.mode, topic.head_seq, topic.read_seq, topic.unread) for topic in after[:2]] == [
        ("direct", 9, 3, 6), ("direct", 5, 4, 1)
    ]  # fmt: skip


async def test_a_base_forgets_what_ended_and_a_record_that_comes_late_brings_nothing_back() -> None:
    log = await a_log()
    async with owning(log, OFTEN) as runner:
        owner, users = owner_in(runner), users_in(runner)
        await wrote(log, "bob", membership("gone"), membership("kept"))
        heads = [HeadEntry("gone", 7, 5, 5, gone=True), HeadEntry("kept", 7, 5, 5), HeadEntry("empty", 7, 5, 5)]
        end = await written(log, heads, [ReadMark("bob", topic, 7, 3, 3) for topic in ("gone", "kept")])
        await has_read(runner, end)
        await base(owner)
        await until(lambda: owner.writer.has_chain and len(users.memberships) == 1, 20)
        assert (len(users.heads), len(users.marks)) == (3, 2), "they are new"
        end = await wrote(log, "bob", membership("gone"))
        await has_read(runner, end)
        assert [topic.topic_id for topic in inbox(users, "bob")] == ["kept"]
        owner.time._clock = Later()
        await base(owner)
        await until(lambda: (len(users.heads), len(users.marks), len(users.memberships)) == (1, 1, 1), 20)
        await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0, 20)
    await log.truncate_before(LogName.INBOX, 0, end)
    async with owning(log) as runner:
        users = users_in(runner)
        assert [topic.topic_id for topic in inbox(users, "bob")] == ["kept"]
        assert (len(users.heads), len(users.marks), len(users.memberships)) == (1, 1, 1)
