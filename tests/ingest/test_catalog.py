"""ingest.catalog: an entry is used for a minute, refreshed after two seconds, and never outlives a missed change."""

import asyncio

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import AskTopic
from ingest import catalog as module
from ingest.catalog import FRESH_S, STALE_S
from tests.ingest.parts import Parts, play


def test_a_fresh_entry_costs_no_question_and_an_older_one_is_refreshed_behind_its_use() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        asked = len(parts.asked(AskTopic))
        parts.clock.virtual.now += FRESH_S
        assert parts.catalog.peek("t") is not None
        assert len(parts.asked(AskTopic)) == asked
        parts.clock.virtual.now += 0.1
        for _ in range(3):
            assert parts.catalog.peek("t") is not None
        assert len(parts.asked(AskTopic)) == asked + 1
        await asyncio.sleep(0.1)
        assert parts.catalog.peek("t") is not None
        assert len(parts.asked(AskTopic)) == asked + 1

    play(scene)


def test_an_entry_is_used_for_a_minute_without_its_owner() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        parts.directory.up = False
        parts.clock.virtual.now += STALE_S
        assert parts.catalog.peek("t") is not None
        parts.clock.virtual.now += 0.1
        assert parts.catalog.peek("t") is None
        (found,) = (await parts.catalog.get_many(["t"], lambda info: True)).values()
        assert isinstance(found, Refusal) and found.code == "not_ready"

    play(scene)


def test_an_entry_from_before_the_present_link_is_not_used_unasked() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        shard = parts.owners.shard_of("t")
        parts.clock.virtual.now += 0.1
        parts.catalog.on_owner(shard, False)
        assert parts.catalog.peek("t") is not None
        parts.catalog.on_owner(shard, True)
        assert parts.catalog.peek("t") is None
        parts.directory.mute = True
        started = parts.clock.now()
        found = (await parts.catalog.get_many(["t"], lambda info: True))["t"]
        assert not isinstance(found, Refusal), "the owner is slow: the entry will do"
        assert parts.clock.now() - started == pytest.approx(0.02)

    play(scene)


def test_an_entry_that_does_not_suffice_is_never_returned() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        parts.directory.mute = True
        started = parts.clock.now()
        found = (await parts.catalog.get_many(["t"], lambda info: False))["t"]
        assert isinstance(found, Refusal) and found.code == "not_ready"
        assert parts.clock.now() - started == pytest.approx(3)

    play(scene)


def test_missing_topics_are_not_remembered() -> None:
    async def scene(parts: Parts) -> None:
        found = await parts.catalog.get_many(["a", "b"], lambda info: True)
        assert [one.code for one in found.values() if isinstance(one, Refusal)] == ["topic_not_found"] * 2
        await parts.topic("a")
        parts.catalog.drop("a")
        found = await parts.catalog.get_many(["a", "b"], lambda info: True)
        assert [isinstance(one, Refusal) for one in found.values()] == [False, True]

    play(scene)


def test_a_dropped_entry_is_asked_for_and_a_deleted_topic_ends_its_entry() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        parts.catalog.drop("t")
        assert parts.catalog.peek("t") is None
        await parts.catalog.fetch("t")
        parts.owner.rows[parts.owners.shard_of("t")].clear()
        with pytest.raises(Refusal, match="topic_not_found"):
            await parts.catalog.fetch("t")
        assert parts.catalog.peek("t") is None

    play(scene)


def test_questions_about_one_topic_are_one() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        asked = len(parts.asked(AskTopic))
        infos = await asyncio.gather(*(parts.catalog.fetch("t") for _ in range(10)))
        assert {info.topic_id for info in infos} == {"t"}
        assert len(parts.asked(AskTopic)) == asked + 1

    play(scene)


def test_the_cache_is_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOPICS", 3)

    async def scene(parts: Parts) -> None:
        for at in range(4):
            await parts.topic(f"t{at}")
        assert [parts.catalog.peek(f"t{at}") is not None for at in range(4)] == [False, True, True, True]
        await parts.catalog.fetch("t1")
        await parts.topic("t5")
        assert [parts.catalog.peek(f"t{at}") is not None for at in (1, 2, 5)] == [True, False, True]

    play(scene)


def test_topics_with_the_default_settings_share_them() -> None:
    async def scene(parts: Parts) -> None:
        one, two = await parts.topic("a"), await parts.topic("b")
        other = await parts.topic("c", rate_limit={"per_s": 1, "burst": 1})
        assert one.settings is two.settings
        assert other.settings["rate_limit"] == {"per_s": 1, "burst": 1}

    play(scene)
