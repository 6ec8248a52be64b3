"""Cursors at the owner of a user's shard: answered once the log has them, held by one session of each device."""

import asyncio
from typing import Any

import pytest

from dispatcher import inbox_writer, log_follower, user_inbox, user_questions
from headgate.core.wire.inbox_record import RECORD_BYTES, MembershipRecord, encode_inbox
from headgate.core.wire.link import Refused
from headgate.core.wire.link_acks import (
    MAX_CURSORS,
    WINDOW,
    AttachCursors,
    CursorAnswer,
    CursorsMoved,
    OpenCursor,
    ReleaseCursor,
    ReplaceSubscription,
)
from headgate.core.wire.records import LogName
from headgate.runtime.testing.faulty_log import Reach
from tests.dispatcher.bed import until
from tests.dispatcher.cursors_bed import cursor, cursors_bed, lease


def refused(message: Any, code: str) -> int:
    assert isinstance(message, Refused) and message.code == code
    return message.req


# -- stored


async def test_a_cursor_is_in_the_log_and_known_before_it_is_answered() -> None:
    async with cursors_bed() as bed:
        req = bed.move(0, cursor(5, above=[7], attempts=[(6, 2)]))
        assert bed.gateways[0].sent == []
        await until(lambda: bed.gateways[0].sent)
        assert bed.found(0) == CursorsMoved(req)
        (record,) = await bed.records()
        assert [(entry.user_id, entry.seq) for entry in record.cursors] == [("ann", 5)]
        assert bed.stored() == cursor(5, above=[7], attempts=[(6, 2)])


async def test_the_requests_of_a_turn_are_one_record() -> None:
    async with cursors_bed() as bed:
        reqs = [bed.move(n % 2, cursor(n, f"u{n}"), cursor(n, "ann")) for n in range(20)]
        await until(lambda: sum(len(gateway.sent) for gateway in bed.gateways) == 20)
        assert [message.req for at in (0, 1) for message in bed.gateways[at].taken()] == reqs[::2] + reqs[1::2]  # type: ignore[union-attr]
        (record,) = await bed.records()
        assert len(record.cursors) == 40
        assert bed.stored() == cursor(19)


async def test_a_request_of_several_records_is_answered_with_the_last() -> None:
    async with cursors_bed() as bed:
        failed = [(seq, 2) for seq in range(10, 10 + WINDOW)]
        req = bed.move(0, *(cursor(9, f"u{n}", attempts=failed) for n in range(MAX_CURSORS)))
        await until(lambda: bed.gateways[0].sent)
        assert bed.found(0) == CursorsMoved(req)
        assert len(await bed.records()) > MAX_CURSORS * WINDOW * 8 // RECORD_BYTES
        assert bed.stored(f"u{MAX_CURSORS - 1}") is not None


async def test_late_and_repeated_cursors_never_move_one_back() -> None:
    async with cursors_bed() as bed:
        await bed.moved(cursor(9), cursor(4, epoch=8, topic="u"))
        await bed.moved(cursor(5, above=[11]), cursor(99, epoch=7, topic="u"))
        await bed.moved(cursor(5, above=[11]))
        assert bed.stored() == cursor(9, above=[11])
        assert bed.stored(topic="u") == cursor(4, epoch=8, topic="u")


@pytest.mark.parametrize("reach", [Reach.REFUSED, Reach.SILENT])
async def test_what_the_log_does_not_take_is_refused_and_may_come_again(
    reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.runtime.testing.faulty_log.APPEND_WAIT_S", 0.05)
    monkeypatch.setattr(user_inbox, "RETRY_S", 0.01)
    async with cursors_bed() as bed:
        bed.log.reach = reach
        req = bed.move(0, cursor(5))
        await until(lambda: bed.gateways[0].sent)
        assert refused(bed.found(0), "not_ready") == req
        bed.log.reach = Reach.OK
        await bed.moved(cursor(5))
        assert bed.stored() == cursor(5)


@pytest.mark.parametrize("bound", ["WAITING", "WAITING_BYTES"])
async def test_what_waits_for_the_log_is_bounded(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_writer, bound, 2 if bound == "WAITING" else 150)
    async with cursors_bed() as bed:
        bed.log.latency = lambda name, shard: 0.05
        reqs = [bed.move(0, cursor(5, f"u{n}")) for n in range(3)]
        assert refused(bed.found(0), "overloaded") == reqs[2]
        await until(lambda: len(bed.gateways[0].sent) == 2)
        bed.gateways[0].sent.clear()
        await bed.moved(cursor(6))
        assert bed.stored("u0") is not None and bed.stored("u2") is None


@pytest.mark.parametrize("count", [MAX_CURSORS + 1, 0])
async def test_a_request_has_at_most_so_many_cursors(count: int) -> None:
    async with cursors_bed() as bed:
        req = bed.move(0, *(cursor(n) for n in range(count)))
        if count:
            assert refused(bed.found(0), "bad_request") == req
        else:
            assert bed.found(0) == CursorsMoved(req)
        assert await bed.records() == []


async def test_a_cursor_that_nobody_could_read_back_is_refused_and_harms_no_other() -> None:
    async with cursors_bed() as bed:
        good, bad = bed.move(0, cursor(1, "bob")), bed.move(0, cursor(1, "a\0b"))
        await until(lambda: len(bed.gateways[0].sent) == 2)
        assert refused(bed.gateways[0].sent[0], "bad_request") == bad
        assert bed.gateways[0].sent.pop() == CursorsMoved(good)
        assert bed.stored("bob") is not None


async def test_a_shard_that_is_given_up_refuses_what_waits() -> None:
    async with cursors_bed() as bed:
        bed.log.latency = lambda name, shard: 0.02
        waits, opened = bed.move(0, cursor(5)), bed.move(1, cursor(6))
        await asyncio.sleep(0.005)
        bed.owner.close()
        assert refused(bed.found(0), "not_ready") == waits and refused(bed.found(1), "not_ready") == opened
        asked = bed.open(0)
        assert refused(bed.found(0), "not_ready") == asked
        await asyncio.sleep(0.05)
        assert bed.gateways[0].sent == bed.gateways[1].sent == []


# -- opened


async def test_a_device_without_a_cursor_is_told_since_when_its_user_is_a_member() -> None:
    async with cursors_bed() as bed:
        joined = MembershipRecord("t", 7, 5, "member", 41, 40, 1)
        await bed.log.append(LogName.INBOX, 0, b"ann", encode_inbox(joined))
        left = MembershipRecord("u", 7, 6, "", 0, 0, 1)
        at = await bed.log.append(LogName.INBOX, 0, b"ann", encode_inbox(left))
        await until(lambda: bed.owner.inbox.users.next_offset > at.offset)
        bed.open(0)
        assert bed.found(0) == CursorAnswer(1, None, 7, 41)
        bed.open(0, None, "ann", "u")
        assert bed.found(0) == CursorAnswer(2, None, 0, 0)
        bed.open(0, None, "bob")
        assert bed.found(0) == CursorAnswer(3, None, 0, 0)


async def test_questions_wait_until_the_inbox_log_is_read() -> None:
    async with cursors_bed(whole=False) as bed:
        bed.open(0)
        bed.open(1, lease("a", 1))
        gone = bed.gateways[1]
        gone.open = False
        await asyncio.sleep(0.02)
        assert bed.gateways[0].sent == []
        bed.owner.caught_up.set()
        await until(lambda: bed.gateways[0].sent)
        assert bed.found(0) == CursorAnswer(1, None) and gone.sent == []
        assert not bed.owner.leases.is_held("ann", "phone", "t")


async def test_a_lease_waits_for_the_gateways_and_a_question_without_one_does_not() -> None:
    async with cursors_bed(announced=[0]) as bed:
        bed.open(0, lease("new", 9))
        bed.open(0)
        assert bed.found(0) == CursorAnswer(2, None)
        bed.api.handle(bed.gateways[1], AttachCursors(0, True, True, [lease("old", 1)]))
        bed.announcements.heard(bed.gateways[1])
        question = bed.asked_to_end(1)
        assert bed.gateways[0].sent == [] and question.lease == lease("old", 1)
        bed.ended(1, question, cursor(3))
        assert bed.found(0) == CursorAnswer(1, cursor(3))


async def test_too_many_that_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "WAITING", 1)
    monkeypatch.setattr("dispatcher.announcements.HELD", 0)
    async with cursors_bed(announced=[], whole=False) as bed:
        bed.open(0)
        bed.open(0)
        assert refused(bed.found(0), "not_ready") == 2
        bed.owner.caught_up.set()
        await until(lambda: bed.gateways[0].sent)
        bed.gateways[0].sent.clear()
        bed.open(0, lease("a", 1))
        assert refused(bed.found(0), "not_ready") == 3


# -- taken over


async def test_a_second_session_gets_the_cursor_of_the_first_which_has_ended_before() -> None:
    async with cursors_bed() as bed:
        await bed.moved(cursor(5, attempts=[(6, 1), (9, 4)]))
        bed.open(0, lease("a", 1))
        assert bed.found(0) == CursorAnswer(2, cursor(5, attempts=[(6, 1), (9, 4)]))
        req = bed.open(1, lease("b", 2))
        assert bed.gateways[1].sent == []
        question = bed.asked_to_end(0)
        assert question.lease == lease("a", 1)
        bed.ended(0, question, cursor(8, attempts=[(9, 3)]))
        assert bed.found(1) == CursorAnswer(req, cursor(8, attempts=[(9, 4)]))
        await until(lambda: not bed.api._arriving)
        assert bed.stored() == cursor(8, attempts=[(9, 4)])
        assert len(await bed.records()) == 2, "it is in the log: the second session may be gone before it acknowledges"


@pytest.mark.parametrize("full", [True, False])
async def test_a_last_cursor_that_is_not_in_the_log_yet_is_known_to_the_next(
    full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_writer, "WAITING", 0 if full else 9)
    async with cursors_bed() as bed:
        bed.log.latency = lambda name, shard: 0.02
        bed.open(0, lease("a", 1))
        bed.open(1, lease("b", 2))
        bed.ended(0, next(m for m in bed.gateways[0].taken() if isinstance(m, ReplaceSubscription)), cursor(8))
        assert isinstance(bed.found(1), CursorAnswer)
        assert bed.stored() == (None if full else cursor(8))
        bed.open(0, lease("c", 3))
        bed.ended(1, bed.asked_to_end(1), cursor(7))
        answer = bed.found(0)
        assert answer.cursor == (cursor(7) if full else cursor(8))
        await asyncio.sleep(0.05)
        assert bed.api._arriving == {}
        assert bed.stored() == (None if full else cursor(8))


async def test_the_takeover_is_between_sessions_of_one_gateway_too() -> None:
    async with cursors_bed() as bed:
        bed.open(0, lease("a", 1))
        bed.gateways[0].sent.clear()
        req = bed.open(0, lease("b", 2))
        bed.ended(0, bed.asked_to_end(0), None)
        assert bed.found(0) == CursorAnswer(req, None)


async def test_a_gateway_that_does_not_answer_is_waited_for_two_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert user_questions.ANSWER_S == 2.0
    monkeypatch.setattr(user_questions, "ANSWER_S", 0.05)
    async with cursors_bed() as bed:
        await bed.moved(cursor(5))
        bed.open(0, lease("a", 1))
        req = bed.open(1, lease("b", 2))
        await until(lambda: bed.gateways[1].sent)
        assert bed.found(1) == CursorAnswer(req, cursor(5))


async def test_a_gateway_that_leaves_has_no_leases_and_nobody_waits_for_it() -> None:
    async with cursors_bed() as bed:
        one, _ = bed.gateways
        bed.open(0, lease("a", 1))
        req = bed.open(1, lease("b", 2))
        one.open = False
        bed.api.left(one)
        bed.questions.left(one)
        assert bed.found(1) == CursorAnswer(req, None)
        bed.api.left(bed.gateways[1])
        assert not bed.owner.leases.is_held("ann", "phone", "t")


async def test_an_older_session_that_asks_late_is_refused_and_the_newer_goes_on() -> None:
    async with cursors_bed() as bed:
        bed.open(0, lease("b", 2))
        bed.gateways[0].sent.clear()
        req = bed.open(1, lease("a", 1))
        assert refused(bed.found(1), "already_subscribed") == req
        assert bed.gateways[0].sent == [] and bed.owner.leases.has(bed.gateways[0], lease("b", 2))


@pytest.mark.parametrize("third_at", [0, 1])
async def test_a_third_session_takes_the_place_of_a_second_that_still_waits(third_at: int) -> None:
    """It waits for the first one's cursor as well: the second never had it."""
    async with cursors_bed() as bed:
        bed.open(0, lease("a", 1))
        second = bed.open(1, lease("b", 2))
        question = next(message for message in bed.gateways[0].taken() if isinstance(message, ReplaceSubscription))
        third = bed.open(third_at, lease("c", 3))
        assert refused(bed.gateways[1].sent.pop(0), "already_subscribed") == second
        assert bed.gateways[third_at].sent == []
        bed.ended(0, question, cursor(8))
        assert bed.found(third_at) == CursorAnswer(third, cursor(8))


async def test_a_session_that_ends_while_it_waits_holds_nothing() -> None:
    async with cursors_bed() as bed:
        bed.open(0, lease("a", 1))
        bed.open(1, lease("b", 2))
        bed.api.handle(bed.gateways[1], ReleaseCursor("ann", "phone", "t", "b"))
        bed.ended(0, next(m for m in bed.gateways[0].taken() if isinstance(m, ReplaceSubscription)), cursor(8))
        refused(bed.found(1), "already_subscribed")
        assert not bed.owner.leases.is_held("ann", "phone", "t")
        await until(lambda: bed.stored() == cursor(8))


async def test_an_answer_about_another_cursor_counts_for_nothing() -> None:
    async with cursors_bed() as bed:
        bed.open(0, lease("a", 1))
        bed.gateways[0].sent.clear()
        req = bed.open(1, lease("b", 2))
        bed.ended(0, bed.asked_to_end(0), cursor(8, user="eve"))
        assert bed.found(1) == CursorAnswer(req, None)
        req = bed.open(0, lease("c", 3))
        bed.ended(1, bed.asked_to_end(1), cursor(-8))
        assert bed.found(0) == CursorAnswer(req, None)
        assert await bed.records() == []


async def test_a_takeover_that_cannot_be_asked_for_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_questions, "MAX_OPEN", 0)
    async with cursors_bed() as bed:
        bed.open(0, lease("a", 1))
        bed.gateways[0].sent.clear()
        req = bed.open(1, lease("b", 2))
        assert refused(bed.found(1), "not_ready") == req
        assert bed.owner.leases.has(bed.gateways[0], lease("a", 1)) and bed.gateways[0].sent == []


async def test_a_lease_of_another_cursor_than_the_question_is_refused() -> None:
    async with cursors_bed() as bed:
        bed.api.handle(bed.gateways[0], OpenCursor(1, "ann", "phone", "t", lease("a", 1, topic="u")))
        assert refused(bed.found(0), "bad_request") == 1
