"""Dead letters at the owner: given up once, listed for admins of the topic, replayed, purged, and never lost."""

import asyncio
import json

import pytest

from dispatcher import answering, letter_requests
from headgate.core.delivery.dead_letter_record import DONE, PURGED, LetterAdded, LetterEnded, LetterReplayed
from headgate.core.wire import link
from headgate.core.wire.control import DeleteTopic
from headgate.core.wire.ids import id_text
from headgate.core.wire.link_dead_letters import (
    AskDeadLetters,
    DeadLetterChanged,
    DeadLettersAnswer,
    GivenUp,
    GiveUp,
    LetterDone,
    Receiver,
    WantReplays,
)
from headgate.core.wire.rights import Caller
from headgate.runtime.ports import AppendUnknown, LogUnavailable, RecordTooLarge
from headgate.runtime.testing.faulty_log import Reach
from tests.dispatcher.bed import until
from tests.dispatcher.letters_bed import PHONE, LettersBed, records_of, redelivered
from tests.dispatcher.members_bed import ADMIN, Far
from tests.dispatcher.messages_bed import ANN, BOB, EVE
from tests.dispatcher.test_recovery import a_log


def code(answer: object) -> str:
    assert isinstance(answer, link.Refused), answer
    return answer.code


async def test_a_delivery_that_was_given_up_is_listed_with_all_that_a_person_needs() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        assert await bed.give_up(2) == GivenUp(1)
        (shown,) = await bed.letters()
        assert (shown.topic_id, shown.epoch, shown.seq) == ("t", bed.row.epoch, 2)
        assert (shown.message_id, shown.receiver) == (id_text(bed.ids[2]), PHONE)
        assert (shown.attempts, shown.reason, shown.last_error) == (3, "max_attempts", "down")
        assert (shown.replaying, shown.message) == (False, b"")
        answer = await bed.answer(AskDeadLetters(1, 0, "", ANN, "", 1, shown.id))
        assert json.loads(answer.letters[0].message)["payload"] == {"n": 2}
    (record,) = await records_of(bed.log)
    assert isinstance(record, LetterAdded)
    assert record.letter.payload is None, "the payload stays in the history alone"


async def test_given_up_again_is_one_letter_and_no_second_record() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        await bed.give_up(2, error="first")
        assert await bed.give_up(2, error="second") == GivenUp(1)
        await bed.give_up(2, Receiver("bob", "laptop"))
        await bed.give_up(2, Receiver(group="workers"))
        await bed.give_up(3)
        letters = await bed.letters()
        found = [(one.seq, one.receiver.device_id, one.receiver.group, one.last_error) for one in letters]
        assert sorted(found) == [
            (2, "", "workers", "down"),
            (2, "laptop", "", "down"),
            (2, "phone", "", "first"),
            (3, "phone", "", "down"),
        ]
    assert len(await records_of(bed.log)) == 4
    assert bed.owner._shell.metrics._dead_letters.values["max_attempts",] == 4  # type: ignore[attr-defined]


async def test_given_up_is_answered_only_once_the_log_has_it_and_a_refused_one_may_come_again() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        bed.log.reach = Reach.REFUSED
        assert code(await bed.give_up(1)) == "not_ready"
        bed.log.reach = Reach.OK
        bed.log.latency = lambda log, shard: 0.2
        peer = Far()
        bed.api.handle(peer, GiveUp(1, "t", bed.row.epoch, 1, PHONE, 3, "max_attempts", ""))
        await asyncio.sleep(0.1)
        assert peer.sent == []
        await until(lambda: peer.sent)
        assert len(await bed.letters()) == 1


@pytest.mark.parametrize("purge", [True, False])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LogUnavailable("away"), "not_ready"),
        (RecordTooLarge("large"), "not_ready"),
        (AppendUnknown("late"), "outcome_unknown"),
        (None, "outcome_unknown"),
    ],
)
async def test_what_was_handed_to_the_log_may_have_been_done(
    error: Exception | None, expected: str, purge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        await bed.give_up(1)
        (shown,) = await bed.letters()
        future = asyncio.get_running_loop().create_future()
        if error is None:
            future.cancel()
        else:
            future.set_exception(error)
        monkeypatch.setattr(bed.log, "append", lambda *_: future)
        assert code(await bed.decide(shown.id, purge=purge)) == expected


@pytest.mark.parametrize("killed", ["before the answer", "before it was read back"])
async def test_a_letter_survives_its_owner_and_a_gateway_that_asks_again_makes_no_second_one(killed: str) -> None:
    log = await a_log()
    bed = LettersBed(log)
    if killed == "before the answer":
        async with bed.run():
            await bed.give_up(1)
    else:
        bed.api.handle(Far(), GiveUp(1, "t", bed.row.epoch, 1, PHONE, 3, "max_attempts", "down"))
    after = LettersBed(log)
    async with after.run():
        assert await after.give_up(1, error="again") == GivenUp(1)
        assert [shown.last_error for shown in await after.letters()] == ["down"]
    assert len(await records_of(log)) == 1


async def test_what_is_no_message_of_the_topic_is_refused() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        for seq in (0, 4):
            assert code(await bed.give_up(seq)) == "bad_request"
        for topic, epoch in (("t", bed.row.epoch + 1), ("other", 1)):
            ask = GiveUp(1, topic, epoch, 1, PHONE, 3, "max_attempts", "")
            assert code(await bed.answer(ask)) == "topic_not_found"
    assert await records_of(bed.log) == []


async def test_only_admins_of_a_topic_see_its_letters_and_a_private_topic_is_exactly_absent() -> None:
    bed = LettersBed(await a_log(), "PRIVATE")
    bed.feed(bed.join("bob"))
    async with bed.run():
        await bed.give_up(1)
        (shown,) = await bed.letters()
        assert (code(await bed.listed(caller=BOB)), code(await bed.listed(caller=EVE))) == (
            "forbidden",
            "topic_not_found",
        )
        hidden = await bed.listed(caller=EVE)
        assert hidden == (await bed.listed("t9", caller=EVE)).__class__(
            hidden.req, hidden.code, hidden.detail, hidden.extra
        )
        for caller, expected in ((ANN, [shown]), (ADMIN, [shown]), (BOB, []), (EVE, [])):
            assert (await bed.listed("", caller)).letters == expected
        unknown = id_text(bytes(16))
        for purge in (True, False):
            of_hidden = await bed.decide(shown.id, purge=purge, caller=EVE)
            of_none = await bed.decide(unknown, purge=purge, caller=EVE)
            assert of_hidden.detail.replace(shown.id, unknown) == of_none.detail
            assert code(of_hidden) == code(of_none) == "not_found"
            assert code(await bed.decide(shown.id, purge=purge, caller=BOB)) == "forbidden"
        assert code(await bed.answer(AskDeadLetters(1, 0, "", EVE, "", 1, shown.id))) == "not_found"
        assert code(await bed.answer(AskDeadLetters(1, 0, "", BOB, "", 1, shown.id))) == "forbidden"
        assert len(await bed.letters()) == 1


async def test_pages_ascend_by_id_and_have_each_letter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_requests, "SLICE_LETTERS", 3)
    bed = LettersBed(await a_log(), messages=20)
    async with bed.run():
        for seq in range(1, 21):
            await bed.give_up(seq)
        everything = [shown.id for shown in await bed.letters()]
        assert (len(everything), everything) == (20, sorted(everything))
        for topic in ("t", ""):
            found: list[str] = []
            while True:
                page = await bed.listed(topic, after=found[-1] if found else "", limit=7)
                assert len(page.letters) <= 7
                found += [shown.id for shown in page.letters]
                if not page.more:
                    break
            assert found == everything
        assert (await bed.listed("", EVE)).letters == []


async def test_a_list_of_many_letters_is_made_in_steps_and_given_up_where_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(letter_requests, "SLICE_LETTERS", 3)
    bed, far = LettersBed(await a_log(), messages=10), Far()
    async with bed.run():
        for seq in range(1, 11):
            await bed.give_up(seq)
        bed.api.handle(far, AskDeadLetters(1, 0, "t", ANN, "", 10))
        assert far.sent == []
        await until(lambda: far.sent)
        answer = far.sent.pop()
        assert isinstance(answer, DeadLettersAnswer) and len(answer.letters) == 10
        monkeypatch.setattr(answering, "ANSWER_S", -1.0)
        assert code(await bed.listed()) == "overloaded"


async def test_a_purged_letter_is_gone() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        await bed.give_up(1)
        (shown,) = await bed.letters()
        assert await bed.decide(shown.id, purge=True) == DeadLetterChanged(1, "t")
        assert await bed.letters() == []
        assert code(await bed.decide(shown.id, purge=True)) == "not_found"
    assert (await records_of(bed.log))[1:] == [LetterEnded(shown.id, "t", PURGED)]


async def test_a_replay_leaves_the_list_goes_to_the_hosts_and_ends_when_it_is_acknowledged() -> None:
    bed = LettersBed(await a_log())
    gateway, other = bed.subscriber(), bed.subscriber()
    async with bed.run():
        await bed.give_up(2)
        (shown,) = await bed.letters()
        assert await bed.decide(shown.id) == DeadLetterChanged(1, "t")
        for peer in (gateway, other):
            (again,) = redelivered(peer)
            assert (again.topic_id, again.epoch, again.seq, again.id) == ("t", bed.row.epoch, 2, shown.id)
            assert again.receiver == PHONE
            assert json.loads(again.frame)["payload"] == {"n": 2}
        assert await bed.letters() == []
        (showing,) = (await bed.answer(AskDeadLetters(1, 0, "", ANN, "", 1, shown.id))).letters
        assert showing.replaying
        bed.api.handle(gateway, LetterDone("t", bed.row.epoch, shown.id))
        bed.api.handle(other, LetterDone("t", bed.row.epoch, shown.id))
        await until(lambda: len(bed.owner.letters.store) == 0)
        assert code(await bed.decide(shown.id)) == "not_found"
    ends = [LetterReplayed(shown.id, "t"), LetterEnded(shown.id, "t", DONE)]
    assert (await records_of(bed.log))[1:] == ends


async def test_a_replay_that_fails_again_is_back_as_one_entry() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        await bed.give_up(2)
        (shown,) = await bed.letters()
        await bed.decide(shown.id)
        await bed.give_up(2, error="down again", attempts=5)
        (again,) = await bed.letters()
        assert (again.id, again.last_error, again.attempts, again.replaying) == (shown.id, "down again", 5, False)
        peer = bed.subscriber()
        bed.api.handle(peer, WantReplays("t", bed.row.epoch, PHONE))
        assert redelivered(peer) == [], "it is not replayed any more"


async def test_an_acknowledged_replay_ends_though_the_log_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_requests, "RETRY_S", 0.01)
    bed = LettersBed(await a_log())
    async with bed.run():
        await bed.give_up(2)
        (shown,) = await bed.letters()
        await bed.decide(shown.id)
        bed.log.reach = Reach.REFUSED
        bed.api.handle(Far(), LetterDone("t", bed.row.epoch, shown.id))
        bed.api.handle(Far(), LetterDone("t", bed.row.epoch + 1, shown.id))
        await asyncio.sleep(0.05)
        assert len(bed.owner.letters.store) == 1
        bed.log.reach = Reach.OK
        await until(lambda: len(bed.owner.letters.store) == 0)


async def test_a_redacted_message_has_no_payload_in_a_letter_and_nothing_that_its_receiver_said() -> None:
    bed = LettersBed(await a_log())
    gateway = bed.subscriber()
    async with bed.run():
        await bed.give_up(1, error="cannot read hunter2")
        await bed.give_up(2, error="kept")
        bed.redact(1)
        await bed.give_up(1, Receiver("eve"), error="cannot read hunter2")
        letters = await bed.letters()
        assert sorted((shown.seq, shown.last_error) for shown in letters) == [(1, ""), (1, ""), (2, "kept")]
        first = next(shown for shown in letters if shown.seq == 1)
        (showing,) = (await bed.answer(AskDeadLetters(1, 0, "", ANN, "", 1, first.id))).letters
        assert (json.loads(showing.message)["payload"], json.loads(showing.message)["redacted"]) == (None, True)
        gateway.taken()
        await bed.decide(first.id)
        (again,) = redelivered(gateway)
        assert (json.loads(again.frame)["payload"], json.loads(again.frame)["redacted"]) == (None, True)
        kept = [bed.owner.letters.letters.encoded(key) for key in next(bed.owner.letters.letters.keys(10))]
        assert not [value for value in kept if b"hunter2" in (value or b"")], "nor in a snapshot"


async def test_what_was_said_of_an_edit_goes_with_its_message() -> None:
    bed = LettersBed(await a_log(), messages=2)
    async with bed.run():
        bed.edit(1, "hunter2")
        bed.edit(2, "kept")
        for seq in (3, 4):
            await bed.give_up(seq, error="cannot read it")
        bed.redact(1)
        await bed.give_up(3, Receiver("eve"), error="cannot read it")
        assert sorted((one.seq, one.last_error) for one in bed.owner.letters.store) == [
            (3, ""),
            (3, ""),
            (4, "cannot read it"),
        ]
        late = LettersBed(bed.log, messages=2)
        late.edit(1, "hunter2")
        late.edit(2, "kept")
        late.redact(1)
    async with late.run():
        found = await late.letters()
        assert sorted((one.seq, one.last_error) for one in found) == [(3, ""), (3, ""), (4, "cannot read it")]


async def test_an_acknowledgement_that_comes_before_the_log_was_read_is_not_lost() -> None:
    log = await a_log()
    bed = LettersBed(log)
    async with bed.run():
        await bed.give_up(2)
        (shown,) = await bed.letters()
        await bed.decide(shown.id)
    after = LettersBed(log)
    after.api.handle(Far(), LetterDone("t", after.row.epoch, shown.id))
    async with after.run():
        await until(lambda: len(after.owner.letters.store) == 0)
    assert (await records_of(log))[-1] == LetterEnded(shown.id, "t", DONE)


async def test_the_letters_of_a_deleted_topic_go_and_none_comes_back_with_a_new_owner() -> None:
    log = await a_log()
    bed = LettersBed(log)
    async with bed.run():
        await bed.give_up(1)
        epoch, (shown,) = bed.row.epoch, await bed.letters()
        bed.feed(bed.control(DeleteTopic("t")))
        assert len(bed.owner.letters.store) == 0
        assert code(await bed.listed()) == "topic_not_found"
        assert code(await bed.decide(shown.id)) == "not_found"
    after = LettersBed(log)
    after.feed(after.control(DeleteTopic("t")))
    async with after.run():
        assert len(after.owner.letters.store) == 0
        late = GiveUp(1, "t", epoch, 2, PHONE, 3, "max_attempts", "")
        assert code(await after.answer(late)) == "topic_not_found"


async def test_a_message_that_is_gone_cannot_be_replayed_and_its_letter_stays() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        await bed.give_up(1)
        (shown,) = await bed.letters()
        bed.row.settings["retention_messages"] = 1
        answer = await bed.decide(shown.id)
        assert (code(answer), answer.extra) == ("gone", {"first_seq": 3})
        assert len(await bed.letters()) == 1
        (showing,) = (await bed.answer(AskDeadLetters(1, 0, "", ANN, "", 1, shown.id))).letters
        assert showing.message == b""
        assert await bed.give_up(2) == GivenUp(1), "the subscription goes on all the same"
        assert "" in [shown.message_id for shown in await bed.letters()]


async def test_questions_wait_until_the_log_has_been_read() -> None:
    log = await a_log()
    bed = LettersBed(log)
    async with bed.run():
        await bed.give_up(1)
        (shown,) = await bed.letters()
    after, peer = LettersBed(log), Far()
    after.api.handle(peer, AskDeadLetters(7, 0, "t", ANN, "", 10))
    assert peer.sent == []
    async with after.run():
        await until(lambda: peer.sent)
        assert peer.sent == [DeadLettersAnswer(7, [shown])]


async def test_a_caller_without_any_topic_gets_an_empty_list() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        assert await bed.listed("", Caller("nobody")) == DeadLettersAnswer(1, [])
