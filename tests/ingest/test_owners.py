"""ingest.owners: every question ends in time, and the questions of one loop turn are one."""

import asyncio
from typing import Any

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import AskCount, AskTopic, AskTopics, Counts, TopicAnswer, TopicsAnswer
from headgate.core.wire.link_users import EndSubscriptions
from headgate.runtime.links.port import Unanswered
from ingest.owners import ASK_S, ASKED_AT_ONCE, COUNT_S, OUTCOME_S, RETRY_S, OwnerQueries, Question, SubscriptionCounts
from tests.ingest.parts import SERVICE, Parts, play


def test_an_owner_that_does_not_answer_is_away_after_three_seconds() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = True
        started = parts.clock.now()
        with pytest.raises(Refusal, match="not_ready"):
            await parts.owners.ask(0, lambda req: AskTopic(req, "t", SERVICE))
        assert parts.clock.now() - started == pytest.approx(ASK_S)

    play(scene)


@pytest.mark.parametrize(
    ("how", "code", "after_s"),
    [("away", "not_ready", 0), ("silent", "outcome_unknown", OUTCOME_S - ASK_S), ("lost", "outcome_unknown", 0)],
)
def test_what_was_handed_to_an_owner_may_have_been_done(how: str, code: str, after_s: float) -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.up = how != "away"
        parts.directory.mute = how == "silent"
        parts.owner._EndSubscriptions = lambda ask: Unanswered(ask.req, "not_ready", "gone")  # type: ignore[method-assign]
        started = parts.clock.now()
        with pytest.raises(Refusal) as caught:
            await parts.owners.store(0, lambda req: EndSubscriptions(req, "ann", "t"))
        assert caught.value.code == code
        assert parts.clock.now() - started == pytest.approx(after_s)

    play(scene)


def test_all_shards_are_asked_at_once_and_answer_in_their_order() -> None:
    async def scene(parts: Parts) -> None:
        for at in range(20):
            await parts.topic(f"t{at}")
        answers = await parts.owners.ask_all(lambda req, shard: AskTopics(req, shard, SERVICE, "", "", 100))
        assert len(answers) == parts.owners.shards > 1
        for shard, answer in enumerate(answers):
            assert isinstance(answer, TopicsAnswer)
            assert {parts.owners.shard_of(info.topic_id) for info in answer.topics} <= {shard}
        assert sum(len(answer.topics) for answer in answers if isinstance(answer, TopicsAnswer)) == 20

    play(scene)


@pytest.mark.parametrize("how", ["mute", "away", "no dispatcher"])
def test_all_shards_or_none(how: str) -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = how == "mute"
        parts.directory.up = how != "away"
        parts.directory.shards *= how != "no dispatcher"
        with pytest.raises(Refusal, match="not_ready"):
            await parts.owners.ask_all(lambda req, shard: AskTopics(req, shard, SERVICE, "", "", 100))

    play(scene)


def test_many_questions_are_asked_a_hundred_at_a_time_and_answered_in_their_order() -> None:
    async def scene(parts: Parts) -> None:
        ids = [f"t{at}" if at % 3 else "missing" for at in range(250)]
        for topic_id in sorted(set(ids) - {"missing"}):
            await parts.topic(topic_id)
        asking: list[int] = []
        ask = parts.directory._ask

        def counted(request: Any, on_answer: Any) -> None:
            def answered(answer: Any) -> None:
                done.append(answer)
                on_answer(answer)

            asking.append(len(asking) - len(done))
            ask(request, answered)

        done: list[Any] = []
        parts.directory._ask = counted  # type: ignore[method-assign]
        answers = await parts.owners.ask_many([_about(parts, topic_id) for topic_id in ids])
        assert max(asking) == ASKED_AT_ONCE - 1
        assert [answer.info.topic_id if isinstance(answer, TopicAnswer) else "missing" for answer in answers] == ids
        assert await parts.owners.ask_many([]) == []

    play(scene)


def test_many_questions_to_a_silent_owner_end_after_three_seconds() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = True
        parts.directory.asked.clear()
        started = parts.clock.now()
        answers = await parts.owners.ask_many([_about(parts, "t")] * 250)
        assert parts.clock.now() - started == pytest.approx(ASK_S)
        assert [answer.code for answer in answers if isinstance(answer, Refusal)] == ["not_ready"] * 250
        assert len(parts.directory.asked) == ASKED_AT_ONCE, "the rest is not asked any more"

    play(scene)


def _about(parts: Parts, topic_id: str) -> Question:
    return Question(parts.owners.shard_of(topic_id), lambda req: AskTopic(req, topic_id, SERVICE))


def test_a_shard_without_an_owner_is_refused() -> None:
    async def scene(parts: Parts) -> None:
        parts.owners.require(0)
        parts.directory.up = False
        with pytest.raises(Refusal, match="not_ready"):
            parts.owners.require(0)

    play(scene)


def test_verdicts_are_asked_for_again_as_soon_as_an_owner_comes() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        shard = parts.owners.shard_of("t")
        offset = max(offset for at, offset in parts.owner.verdicts if at == shard)
        parts.directory.up = False
        started = parts.clock.now()
        asking = asyncio.ensure_future(parts.owners.verdicts(shard, offset, started + 7))
        await asyncio.sleep(2)
        assert not asking.done()
        parts.directory.up = True
        parts.owners.on_owner(shard, True)
        (verdict,) = await asking
        assert verdict.epoch == info.epoch
        assert parts.clock.now() - started < 2 + RETRY_S / 2

    play(scene)


@pytest.mark.parametrize("is_mute", [True, False])
def test_verdicts_end_at_their_deadline(is_mute: bool) -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = is_mute
        parts.directory.up = is_mute
        started = parts.clock.now()
        with pytest.raises(Refusal, match="outcome_unknown"):
            await parts.owners.verdicts(0, 1, started + 3)
        assert parts.clock.now() - started == pytest.approx(3)

    play(scene)


def test_counts_of_one_turn_and_shard_are_one_question_and_each_topic_is_in_it_once() -> None:
    async def scene(parts: Parts) -> None:
        parts.owner.counts = {"a": 1, "b": 2}
        asked = [parts.owners.subscriptions(0, topic_id) for topic_id in "abab"]
        other = parts.owners.subscriptions(1, "a")
        assert [await _count(counts, topic_id) for counts, topic_id in zip(asked, "abab", strict=True)] == [1, 2, 1, 2]
        assert await _count(other, "a") == 1
        assert [(ask.shard, ask.topic_ids) for ask in parts.asked(AskCount)] == [(0, ["a", "b"]), (1, ["a"])]

    play(scene)


def test_a_request_that_gives_up_takes_nobody_elses_count() -> None:
    async def scene(parts: Parts) -> None:
        parts.owner.counts = {"t": 3}
        counts = parts.owners.subscriptions(0, "t")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await counts.told()
        assert await _count(counts, "t") == 3

    play(scene)


def test_topics_that_the_owner_leaves_out_are_unknown() -> None:
    async def scene(parts: Parts) -> None:
        parts.owner._AskCount = lambda ask: Counts(ask.req, [7])  # type: ignore[method-assign]
        counts = [parts.owners.subscriptions(0, topic_id) for topic_id in "ab"]
        assert [await _count(each, topic_id) for each, topic_id in zip(counts, "ab", strict=True)] == [7, None]

    play(scene)


async def _count(counts: SubscriptionCounts, topic_id: str) -> int | None:
    await counts.told()
    return counts.of(topic_id)


def test_a_count_that_takes_too_long_is_unknown() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = True
        started = parts.clock.now()
        assert await _count(parts.owners.subscriptions(0, "t"), "t") is None
        assert parts.clock.now() - started == pytest.approx(COUNT_S)

    play(scene)


def test_an_owner_in_the_process_is_waited_for() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = True
        counts = OwnerQueries(parts.directory, parts.clock, None).subscriptions(0, "t")
        await asyncio.sleep(10)
        assert not counts.is_told

    play(scene)


def test_a_count_without_an_owner_is_unknown_at_once() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.up = False
        started = parts.clock.now()
        assert await _count(parts.owners.subscriptions(0, "t"), "t") is None
        assert parts.clock.now() == started

    play(scene)
