"""ingest.publish_topics: the topics of a batch are asked for at once, and made one by one while there is time."""

import asyncio
from typing import Any

import pytest

from headgate.core.publish.body import PublishBody
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link import AskTopic, AskVerdict
from headgate.core.wire.rights import Caller
from headgate.core.wire.topic_settings import DEFAULTS
from ingest.audit import AuditLog
from ingest.publish_topics import PublishTopics
from ingest.rates import RateLimits
from ingest.topic_ids import TopicIds
from ingest.topics import TopicHandlers
from ingest.user_turns import UserTurns
from tests.ingest.parts import Parts, call, play

BO = Caller("bo")
GOOD = PublishBody(b"1", None, False, b"")


def targets_of(parts: Parts) -> PublishTopics:
    topics = TopicHandlers(
        access=parts.access,
        catalog=parts.catalog,
        controls=parts.controls,
        owners=parts.owners,
        rates=parts.rates,
        turns=UserTurns(),
        ids=TopicIds(parts.shell.rng, b"k"),
        audit=AuditLog(parts.clock),
        profile="durable",
        usual=DEFAULTS,
        kept_ms=MAX_INTEGER,
    )
    return PublishTopics(parts.access, topics, parts.clock)


def codes(found: dict[str, object]) -> dict[str, str]:
    return {topic_id: one.code if isinstance(one, Refusal) else "found" for topic_id, one in found.items()}


def test_each_topic_is_found_made_or_refused() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        firsts = {"t": GOOD, "new": GOOD, "no-good-body": None, "hg:x": GOOD}
        topics = await targets_of(parts).find_or_make(call(caller=BO), firsts)
        assert codes(dict(topics.found)) == {
            "t": "found",
            "new": "found",
            "no-good-body": "topic_not_found",
            "hg:x": "topic_not_found",
        }
        assert topics.made == {"new"}
        assert (await parts.catalog.fetch("new")).info.owner_id == "bo"

    play(scene)


def test_all_are_asked_for_at_once() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = True
        started = parts.clock.now()
        topics = await targets_of(parts).find_or_make(call(caller=BO), dict.fromkeys(map(str, range(50)), GOOD))
        assert set(codes(dict(topics.found)).values()) == {"not_ready"}
        assert len(parts.asked(AskTopic)) == 50
        assert parts.clock.now() - started == pytest.approx(3)

    play(scene)


def test_making_ends_after_seven_seconds() -> None:
    async def scene(parts: Parts) -> None:
        parts.log.latency = lambda log, shard: 1.0
        topics = await targets_of(parts).find_or_make(call(caller=BO), dict.fromkeys(map(str, range(10)), GOOD))
        outcomes = list(codes(dict(topics.found)).values())
        made = outcomes.count("found")
        assert 6 <= made <= 8
        assert outcomes == ["found"] * made + ["not_ready"] * (10 - made)

    play(scene)


def test_a_creation_that_is_refused_ends_none_of_the_others() -> None:
    async def scene(parts: Parts) -> None:
        topics = await targets_of(parts).find_or_make(call(caller=BO), dict.fromkeys("abc", GOOD))
        assert codes(dict(topics.found)) == {"a": "found", "b": "found", "c": "rate_limited"}

    play(scene, RateLimits(creations_per_user_per_min=2))


def test_a_publish_whose_topic_is_not_made_in_time_was_not_handed_over() -> None:
    async def scene(parts: Parts) -> None:
        targets, ask = targets_of(parts), parts.directory.ask

        def silent(shard: int, build: Any) -> Any:
            is_verdict = isinstance(build(0), AskVerdict)
            return asyncio.get_running_loop().create_future() if is_verdict else ask(shard, build)

        parts.directory.ask = silent  # type: ignore[method-assign]
        with pytest.raises(Refusal, match="not_ready: topic t is not made yet; nothing was published"):
            await targets.make(call(caller=BO), "t")
        topics = await targets.find_or_make(call(caller=BO), {"u": GOOD})
        assert codes(dict(topics.found)) == {"u": "not_ready"}

    play(scene)


def test_one_topic_is_found_or_made() -> None:
    async def scene(parts: Parts) -> None:
        targets = targets_of(parts)
        assert await targets.find("t", BO) is None
        made = await targets.make(call(caller=BO), "t")
        assert await targets.find("t", BO) == made

    play(scene)
