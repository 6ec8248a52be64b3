"""ingest.ephemeral: relayed to the owner once, answered from memory when repeated, never told as certain when lost."""

import asyncio

import pytest

from headgate.core.publish.recent_publishes import PublishState
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_ephemeral import Relay
from headgate.runtime.links.port import Unanswered
from tests.ingest.parts import ACCEPTED, Parts, play, publish

EPHEMERAL = {"profile": "ephemeral"}


def test_publishes_are_relayed_in_order_and_none_is_in_the_log() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("e", **EPHEMERAL)
        parts.owner.counts["e"] = 2
        records = parts.metrics.records
        publishes = [publish(info, b"%d" % at) for at in range(3)]
        pending = parts.ephemeral.hand_over(publishes)
        answers = [await parts.ephemeral.answer(one, ACCEPTED) for one in pending]
        assert [relay.tail for relay in parts.asked(Relay)] == [one.item.tail for one in publishes]
        assert {(answer["delivered_to"], answer["dropped"]) for answer in answers} == {(2, False)}
        assert parts.metrics.records == records

    play(scene)


@pytest.mark.parametrize(("count", "dropped"), [(0, True), (1, False)])
def test_without_subscriptions_it_is_dropped(count: int, dropped: bool) -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("e", **EPHEMERAL)
        parts.owner.counts["e"] = count
        (pending,) = parts.ephemeral.hand_over([publish(info)])
        answer = await parts.ephemeral.answer(pending, parts.sequenced())
        assert (answer["dropped"], answer["duplicate"], "seq" in answer) == (dropped, False, False)
        assert answer["epoch"] == info.epoch

    play(scene)


def test_a_repeat_is_not_relayed_and_gets_the_first_one_s_count() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("e", **EPHEMERAL)
        parts.owner.counts["e"] = 5
        (first,) = parts.ephemeral.hand_over([publish(info, msg_id="k")])
        joined = parts.ephemeral.admit(publish(info, msg_id="k"))
        assert joined is not None and joined.relay is first.relay
        await parts.ephemeral.answer(first, ACCEPTED)
        parts.owner.counts["e"] = 0
        known = parts.ephemeral.admit(publish(info, msg_id="k"))
        assert known is not None and known.relay is None
        for pending in (joined, known):
            answer = await parts.ephemeral.answer(pending, ACCEPTED)
            assert (answer["duplicate"], answer["delivered_to"]) == (True, 5)
        assert len(parts.asked(Relay)) == 1

    play(scene)


def test_without_an_owner_nothing_is_handed_over() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("e", **EPHEMERAL)
        parts.directory.up = False
        with pytest.raises(Refusal, match="not_ready"):
            parts.ephemeral.admit(publish(info, msg_id="k"))
        assert len(parts.admission.recent) == 0

    play(scene)


def test_an_owner_that_does_not_answer_leaves_it_unknown() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("e", **EPHEMERAL)
        parts.directory.mute = True
        (pending,) = parts.ephemeral.hand_over([publish(info, msg_id="k")])
        started = parts.clock.now()
        with pytest.raises(Refusal, match="outcome_unknown"):
            await parts.ephemeral.answer(pending, ACCEPTED)
        assert parts.clock.now() - started == pytest.approx(7)

    play(scene)


def test_a_link_that_is_lost_leaves_it_unresolved_and_a_later_refusal_does_not_deny_it() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("e", **EPHEMERAL)
        relayed = parts.owner._Relay
        parts.owner._Relay = lambda ask: Unanswered(ask.req, "not_ready", "gone")  # type: ignore[method-assign]
        one = publish(info, msg_id="k")
        (pending,) = parts.ephemeral.hand_over([one])
        with pytest.raises(Refusal, match="outcome_unknown"):
            await parts.ephemeral.answer(pending, ACCEPTED)
        parts.owner._Relay, parts.directory.up = relayed, False  # type: ignore[method-assign]
        assert one.entry is not None and one.entry.state is PublishState.UNRESOLVED
        with pytest.raises(Refusal, match="an earlier attempt is open"):
            parts.ephemeral.admit(publish(info, msg_id="k"))
        parts.directory.up = True
        again = publish(info, msg_id="k")
        assert parts.ephemeral.admit(again) is None
        (pending,) = parts.ephemeral.hand_over([again])
        await parts.ephemeral.answer(pending, ACCEPTED)
        assert again.entry is one.entry and again.entry.place is not None

    play(scene)


def test_a_topic_that_is_gone_is_404_leaves_the_catalog_and_frees_the_id() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("e", **EPHEMERAL)
        info.epoch += 1
        one = publish(info, msg_id="k")
        (pending,) = parts.ephemeral.hand_over([one])
        with pytest.raises(Refusal, match="topic_not_found"):
            await parts.ephemeral.answer(pending, ACCEPTED)
        assert parts.peek("e") is None
        await asyncio.sleep(0)
        assert one.entry is not None and one.entry.state is PublishState.FORGOTTEN

    play(scene)
