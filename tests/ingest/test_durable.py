"""ingest.durable: a record is handed over once, its outcome is remembered before anybody waits, repeats share it."""

import asyncio

import pytest

from headgate.core.publish.recent_publishes import LogPlace, PublishState
from headgate.core.wire.envelope import decode
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import AskCount, AskVerdict
from headgate.core.wire.records import LogName
from headgate.runtime.appender import TICK_S
from headgate.runtime.logs.embedded import APPEND_WAIT_S
from headgate.runtime.testing.faulty_log import Reach
from tests.ingest.parts import ACCEPTED, Parts, play, publish


def test_publishes_of_one_topic_are_one_record_in_order() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        publishes = [publish(info, b"%d" % at, f"k{at}") for at in range(3)]
        pending = parts.durable.hand_over(publishes)
        wait = parts.sequenced()
        answers = [await parts.durable.answer(one, wait) for one in pending]
        assert [(answer["seq"], answer["duplicate"]) for answer in answers] == [(1, False), (2, False), (3, False)]
        assert len(parts.asked(AskVerdict)) == 2, "one for the creation, one for the record"
        part = parts.store.parts[LogName.MESSAGES, parts.owners.shard_of("t")]
        assert decode(part.slice(part.end - 1, 1).records[0].value or b"").items == [one.item for one in publishes]
        assert [one.entry and one.entry.place and one.entry.place.item for one in publishes] == [0, 1, 2]
        assert parts.metrics.records == 2

    play(scene)


def test_a_repeat_while_the_first_is_under_way_shares_its_outcome() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        parts.log.latency = lambda log, shard: 0.5
        (first,) = parts.durable.hand_over([publish(info, msg_id="k")])
        repeat = parts.durable.admit(publish(info, msg_id="k"))
        assert repeat is not None and repeat.append is first.append
        answers = await asyncio.gather(*(parts.durable.answer(one, ACCEPTED) for one in (first, repeat)))
        assert [answer.get("duplicate") for answer in answers] == [None, True]
        assert parts.metrics.records == 2

    play(scene)


def test_a_known_repeat_is_answered_from_memory() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        (first,) = parts.durable.hand_over([publish(info, msg_id="k")])
        await parts.durable.answer(first, parts.sequenced())
        parts.log.reach = Reach.REFUSED
        asked = len(parts.asked(AskVerdict))
        for wait in (ACCEPTED, parts.sequenced()):
            repeat = parts.durable.admit(publish(info, msg_id="k"))
            assert repeat is not None and repeat.append is None
            answer = await parts.durable.answer(repeat, wait)
            assert (answer["duplicate"], answer["seq"], answer["epoch"]) == (True, 1, info.epoch)
        assert len(parts.asked(AskVerdict)) == asked

    play(scene)


def test_a_refused_append_is_forgotten_before_anybody_asks() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        parts.log.reach = Reach.REFUSED
        one = publish(info, msg_id="k")
        (pending,) = parts.durable.hand_over([one])
        assert one.entry is not None
        with pytest.raises(Refusal, match="log_unavailable"):
            await parts.durable.answer(pending, ACCEPTED)
        assert one.entry.state is PublishState.FORGOTTEN
        assert parts.durable.admit(publish(info, b"another body", "k")) is None

    play(scene)


@pytest.mark.parametrize("msg_id", ["k", None])
def test_an_unknown_outcome_stays_unresolved_also_with_an_id_that_ingest_made(msg_id: str | None) -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        parts.log.reach = Reach.SILENT
        one = publish(info, msg_id=msg_id)
        (pending,) = parts.durable.hand_over([one])
        with pytest.raises(Refusal, match="outcome_unknown"):
            await parts.durable.answer(pending, ACCEPTED)
        assert one.entry is not None and one.entry.state is PublishState.UNRESOLVED
        assert parts.metrics.waited_in_vain == [pytest.approx(APPEND_WAIT_S, abs=TICK_S)], "it is a slow append"
        again = publish(info, msg_id=one.client_msg_id)
        assert parts.durable.admit(again) is None and again.entry is one.entry
        parts.log.reach = Reach.REFUSED
        (pending,) = parts.durable.hand_over([again])
        with pytest.raises(Refusal, match="an earlier attempt may be in the log"):
            await parts.durable.answer(pending, ACCEPTED)
        assert len(parts.metrics.waited_in_vain) == 1, "one that was refused took no time"

    play(scene)


def test_a_cancelled_request_leaves_the_append_to_the_others() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        parts.log.latency = lambda log, shard: 0.5
        one = publish(info, msg_id="k")
        (pending,) = parts.durable.hand_over([one])
        request = asyncio.ensure_future(parts.durable.answer(pending, ACCEPTED))
        await asyncio.sleep(0.1)
        request.cancel()
        await asyncio.sleep(1)
        assert request.cancelled()
        assert one.entry is not None and one.entry.state is PublishState.KNOWN

    play(scene)


def test_a_record_whose_topic_was_deleted_is_404_and_leaves_the_catalog() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        stale = publish(info, msg_id="k")
        stale.info.epoch += 1
        (pending,) = parts.durable.hand_over([stale])
        with pytest.raises(Refusal, match="topic_not_found"):
            await parts.durable.answer(pending, parts.sequenced())
        assert parts.peek("t") is None

    play(scene)


def test_a_verdict_that_is_missing_is_an_unknown_outcome() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        one = publish(info, msg_id="k")
        (pending,) = parts.durable.hand_over([one])
        await parts.durable.answer(pending, ACCEPTED)
        assert one.entry is not None and one.entry.place is not None
        one.entry.place = LogPlace(one.entry.place.shard, one.entry.place.offset, 7)
        repeat = parts.durable.admit(publish(info, msg_id="k"))
        assert repeat is not None
        with pytest.raises(Refusal, match="outcome_unknown"):
            await parts.durable.answer(repeat, parts.sequenced())

    play(scene)


def test_the_subscriptions_of_one_turn_are_one_question() -> None:
    async def scene(parts: Parts) -> None:
        parts.owner.counts["t"] = 4
        info = await parts.topic("t")
        pending = [parts.durable.hand_over([publish(info, b"%d" % at)])[0] for at in range(5)]
        answers = [await parts.durable.answer(one, ACCEPTED) for one in pending]
        assert {answer["delivered_to"] for answer in answers} == {4}
        assert len(parts.asked(AskCount)) == 1

    play(scene)
