"""ingest.access: a remembered topic lets in, never out; a missing one is made only for callers who may create it."""

import pytest

from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import AskTopic
from headgate.core.wire.rights import Caller
from ingest.access import Access
from tests.ingest.parts import ANA, Parts, play

BO = Caller("bo")


def test_a_remembered_right_costs_no_question() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        asked = len(parts.asked(AskTopic))
        info = await parts.access.to_publish("t", BO)
        assert info is not None and info.topic_id == "t"
        assert (await parts.access.require("t", BO, rights.may_subscribe, "read")).info.topic_id == "t"
        assert len(parts.asked(AskTopic)) == asked

    play(scene)


def test_before_a_refusal_the_owner_is_asked() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        info.permissions = "SUBSCRIBE_ONLY"  # what is remembered is wrong by now
        asked = len(parts.asked(AskTopic))
        assert await parts.access.to_publish("t", BO) is not None
        assert len(parts.asked(AskTopic)) == asked + 1

    play(scene)


def test_of_many_topics_the_owner_is_asked_for_the_unsure_ones_only() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("sure")
        (await parts.topic("shut")).permissions = "SUBSCRIBE_ONLY"  # what is remembered is wrong by now
        asked = len(parts.asked(AskTopic))
        found = await parts.access.all_to_publish(("shut", "sure", "none"), BO)
        assert {request.topic_id for request in parts.asked(AskTopic)[asked:]} == {"shut", "none"}
        assert found == {topic_id: await parts.access.to_publish(topic_id, BO) for topic_id in found}
        assert set(found) == {"sure", "shut", "none"}

    play(scene)


def test_a_right_that_is_missing_is_forbidden_by_name() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        with pytest.raises(Refusal, match="may not delete"):
            await parts.access.require("t", BO, rights.may_administer, "delete")
        assert (await parts.access.require("t", ANA, rights.may_administer, "delete")).info.owner_id == "ana"

    play(scene)


@pytest.mark.parametrize(
    ("auto_create", "topic_id", "is_made"), [(True, "new", True), (False, "new", False), (True, "hg:new", False)]
)
def test_a_missing_topic_is_for_its_publish_to_make(auto_create: bool, topic_id: str, is_made: bool) -> None:
    async def scene(parts: Parts) -> None:
        access = Access(parts.catalog, auto_create=auto_create)
        found = (await access.all_to_publish([topic_id], BO))[topic_id]
        assert (found is None) == is_made
        if is_made:
            assert await access.to_publish(topic_id, BO) is None
        else:
            with pytest.raises(Refusal, match="topic_not_found"):
                await access.to_publish(topic_id, BO)

    play(scene)


def test_an_owner_that_is_away_is_no_missing_topic() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.up = False
        with pytest.raises(Refusal, match="not_ready"):
            await parts.access.to_publish("new", BO)

    play(scene)
