"""Inboxes at the owner of a user's shard: asked for once they are whole; read marks are stored before an answer."""

import asyncio
from typing import Any

import pytest

from dispatcher import inbox_requests, inbox_writer, log_follower, sliced_work, user_inbox
from headgate.core.inbox.inbox_pages import SLICE_TOPICS
from headgate.core.wire.inbox_record import HeadEntry, MarksRecord, MembershipRecord, decode_inbox
from headgate.core.wire.link import Refused
from headgate.core.wire.link_inbox import (
    MAX_MARKS,
    PAGE_TOPICS,
    AskInbox,
    InboxAnswer,
    InboxTopic,
    MarksMoved,
    MissedTopic,
    MissedTopics,
)
from headgate.core.wire.records import LogName, Record
from headgate.core.wire.rights import Caller
from headgate.runtime.testing.faulty_log import Reach
from ingest.owners import ASK_S
from tests.contract.log_suite import read_from
from tests.dispatcher.bed import until
from tests.dispatcher.user_inbox_bed import InboxBed, inbox_bed, mark


def refused(message: Any, code: str) -> int:
    assert isinstance(message, Refused) and message.code == code, message
    return message.req


async def test_an_inbox_is_the_join_of_all_that_the_log_says() -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", "t", "u", seq=2, n=2)
        await bed.heads(HeadEntry("t", 7, 12, 9, 120, hot=True), HeadEntry("u", 7, 2, 2, 20))
        await bed.marked(mark(6, n=5))
        req = bed.inbox()
        topics = [InboxTopic("t", 7, "inbox", 12, 2, 6, 4), InboxTopic("u", 7, "direct", 2, 2, 2, 0)]
        assert await bed.answer() == InboxAnswer(req, topics)
        req = bed.inbox(after="t", limit=1)
        assert await bed.answer() == InboxAnswer(req, topics[1:])
        req = bed.missed()
        assert await bed.answer() == MissedTopics(req, [MissedTopic("t", 7, 2, 120)], False)
        req = bed.missed(after_ts=120, after_id="t")
        assert await bed.answer() == MissedTopics(req, [], False)


async def test_a_caller_with_only_is_answered_with_what_his_token_names() -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", "a", "b", "c")
        little = Caller("ann", subscribe=("c",), only=True)
        bed.ask(AskInbox(7, "ann", "phone", "", 1, little))
        answer = await bed.answer()
        assert isinstance(answer, InboxAnswer) and [topic.topic_id for topic in answer.topics] == ["c"]


async def test_a_deleted_topic_is_gone_for_its_members_at_once() -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", "t")
        await bed.heads(HeadEntry("t", 7, 9, 9, gone=True))
        assert await bed.topics() == []
        await bed.wrote("ann", MembershipRecord("t", 8, 20, "member"))
        assert [topic.epoch for topic in await bed.topics()] == [8]


async def test_questions_wait_until_the_inbox_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "WAITING", 2)
    async with inbox_bed(whole=False) as bed:
        await bed.joined("ann", "t")
        first, second = bed.inbox(), bed.missed()
        third = bed.inbox()
        assert refused(bed.ingest.sent.pop(), "not_ready") == third and bed.ingest.sent == []
        bed.owner.caught_up.set()
        await until(lambda: len(bed.ingest.sent) == 2)
        one, two = bed.ingest.taken()
        assert isinstance(one, InboxAnswer) and one.req == first and len(one.topics) == 1
        assert two == MissedTopics(second, [], False)


@pytest.mark.parametrize("limit", [-1, 0, PAGE_TOPICS + 1])
async def test_the_limit_of_a_page_is_bounded(limit: int) -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", *[f"t{n:04}" for n in range(PAGE_TOPICS + 1)])
        bed.inbox(limit=limit)
        assert len((await bed.answer()).topics) == (PAGE_TOPICS if limit > 0 else 0)


async def test_a_user_of_very_many_topics_holds_nobody_up() -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", *[f"t{n:04}" for n in range(3 * SLICE_TOPICS)])
        await bed.joined("bob", "t")
        long, short = bed.inbox(limit=PAGE_TOPICS), bed.inbox("bob")
        assert [message.req for message in bed.ingest.taken()] == [short]  # type: ignore[union-attr]
        answer = await bed.answer()
        assert answer.req == long and len(answer.topics) == 3 * SLICE_TOPICS
        bed.missed()
        assert await bed.answer() == MissedTopics(bed.reqs, [], False)


async def test_long_answers_are_bounded_and_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced_work, "MAX_WAITING", 2)
    async with inbox_bed() as bed:
        await bed.joined("ann", *[f"t{n:04}" for n in range(2 * SLICE_TOPICS)])
        reqs = [bed.inbox() for _ in range(3)]
        assert refused(bed.ingest.sent.pop(), "overloaded") == reqs[2]
        await until(lambda: len(bed.ingest.sent) == 2)
        assert [message.req for message in bed.ingest.taken()] == reqs[:2]  # type: ignore[union-attr]
        waits = bed.inbox()
        bed.owner.close()
        bed.side.close()
        assert refused(bed.ingest.sent.pop(), "not_ready") == waits
        assert refused((bed.inbox(), bed.ingest.sent.pop())[1], "not_ready") == bed.reqs


async def test_a_long_answer_that_nobody_waits_for_any_longer_is_given_up() -> None:
    assert sliced_work.ANSWER_S == ASK_S
    async with inbox_bed() as bed:
        await bed.joined("ann", *[f"t{n:04}" for n in range(40 * SLICE_TOPICS)])
        loop = asyncio.get_running_loop()
        late, steps, made = bed.missed(), 0, bed.owner.inbox.users.membership

        def counted(user_id: str, topic_id: str) -> Any:
            nonlocal steps
            steps += 1
            return made(user_id, topic_id)

        for n in range(40 * SLICE_TOPICS):
            bed.owner.inbox.users.heads.merge(HeadEntry(f"t{n:04}", 7, 1, 1, 1), Record(1, 1, None, b""))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bed.owner.inbox.users, "membership", counted)
            patch.setattr(loop, "time", lambda before=loop.time: before() + ASK_S + 0.1)
            assert refused(await bed.answer(), "overloaded") == late
        assert steps < 3 * SLICE_TOPICS, "the rest of its work is not done"
        bed.inbox()
        assert len((await bed.answer()).topics) == 100


async def test_a_fault_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", *[f"t{n:04}" for n in range(2 * SLICE_TOPICS)])
        monkeypatch.setattr(bed.owner.inbox.users.memberships, "topics", lambda *args: 1 / 0)
        for user in ("ann", "bob"):
            bed.inbox(user)
            assert refused(await bed.answer(), "internal") == bed.reqs


async def test_who_has_gone_is_not_answered() -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", *[f"t{n:04}" for n in range(2 * SLICE_TOPICS)])
        bed.inbox()
        bed.mark(mark(1))
        bed.ingest.open = False
        bed.inbox()
        await until(lambda: bed.owner.inbox.users.marks.find("ann", "t"))
        await asyncio.sleep(0.01)
        assert bed.ingest.sent == []


# -- read marks


async def records(bed: InboxBed) -> list[MarksRecord]:
    bounds = await bed.log.bounds(LogName.INBOX, 0)
    kept = await read_from(bed.log, LogName.INBOX, 0, bounds.first, bounds.end - bounds.first)
    found = [decode_inbox(record.value) for record in kept if record.key is None]
    return [record for record in found if isinstance(record, MarksRecord)]


async def test_a_mark_is_in_the_log_and_counted_before_it_is_answered() -> None:
    async with inbox_bed() as bed:
        await bed.joined("ann", "t")
        await bed.moved("t", 9)
        req = bed.mark(mark(5), mark(3, "bob"))
        assert bed.ingest.sent == []
        assert await bed.answer() == MarksMoved(req)
        (record,) = await records(bed)
        assert [(entry.user_id, entry.seq) for entry in record.marks] == [("ann", 5), ("bob", 3)]
        assert [(topic.read_seq, topic.unread) for topic in await bed.topics()] == [(5, 4)]
        await bed.marked(mark(2))
        await bed.marked(mark(99, epoch=6))
        assert [(topic.read_seq, topic.unread) for topic in await bed.topics()] == [(5, 4)], "it never goes back"


@pytest.mark.parametrize("reach", [Reach.REFUSED, Reach.SILENT])
async def test_what_the_log_does_not_take_is_refused_and_may_come_again(
    reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.runtime.testing.faulty_log.APPEND_WAIT_S", 0.05)
    monkeypatch.setattr(user_inbox, "RETRY_S", 0.01)
    async with inbox_bed() as bed:
        bed.log.reach = reach
        req = bed.mark(mark(5))
        assert refused(await bed.answer(), "not_ready") == req
        bed.log.reach = Reach.OK
        await bed.marked(mark(5))


async def test_what_waits_for_the_log_is_bounded_and_apart_from_cursors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_writer, "WAITING", 2)
    async with inbox_bed() as bed:
        bed.log.latency = lambda name, shard: 0.02
        reqs = [bed.mark(mark(5, f"u{n}")) for n in range(3)]
        assert refused(bed.ingest.sent.pop(), "overloaded") == reqs[2]
        await until(lambda: len(bed.ingest.sent) == 2)


@pytest.mark.parametrize("count", [MAX_MARKS, MAX_MARKS + 1, 0])
async def test_a_request_has_at_most_so_many_marks(count: int) -> None:
    async with inbox_bed() as bed:
        req = bed.mark(*(mark(n, "\U0001f600" * 32 + f"{n}") for n in range(count)))
        answer = await bed.answer()
        if count > MAX_MARKS:
            assert refused(answer, "bad_request") == req
        else:
            assert answer == MarksMoved(req)
        assert sum(len(record.marks) for record in await records(bed)) == (count if count <= MAX_MARKS else 0)


async def test_a_mark_that_nobody_could_read_back_is_refused() -> None:
    async with inbox_bed() as bed:
        req = bed.mark(mark(1, "a\0b"))
        assert refused(await bed.answer(), "bad_request") == req


async def test_a_full_shard_moves_the_marks_it_has_and_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_requests, "MAX_ROWS", 2)
    async with inbox_bed() as bed:
        await bed.marked(mark(1, "u0"), mark(1, "u1"))
        req = bed.mark(mark(2, "u0"), mark(2, "u2"), mark(2, "u1"))
        assert refused(await bed.answer(), "overloaded") == req
        await bed.marked(mark(1, "u0"))
        marks = bed.owner.inbox.users.marks
        assert [found and found.seq for found in (marks.find(f"u{n}", "t") for n in range(3))] == [2, 2, None]


async def test_a_shard_that_is_given_up_refuses_what_waits() -> None:
    async with inbox_bed() as bed:
        bed.log.latency = lambda name, shard: 0.05
        req = bed.mark(mark(5))
        await asyncio.sleep(0.005)
        bed.owner.close()
        assert refused(await bed.answer(), "not_ready") == req
