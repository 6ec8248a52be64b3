"""ingest.topics: the shape of a topic, page tokens, a page over all shards, remembered deletes."""

import asyncio
from typing import Any

import pytest

from headgate.core.wire.control import DeleteTopic
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link import AskTopics
from headgate.core.wire.rights import Caller
from headgate.core.wire.topic_settings import DEFAULTS
from ingest import keyed_operations
from ingest.audit import AuditLog
from ingest.catalog import INGEST, Known
from ingest.rates import RateLimits
from ingest.shapes import topic_created, topic_shown
from ingest.topic_ids import TopicIds
from ingest.topics import TopicHandlers
from ingest.user_turns import UserTurns
from tests.ingest.parts import ANA, Parts, call, play, read


def handlers_of(parts: Parts) -> TopicHandlers:
    return TopicHandlers(
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


def test_a_creation_shows_less_than_the_topic() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        assert set(topic_shown(info)) - set(topic_created(info)) == {"subscriber_count", "member_count", "seq", "mode"}
        assert topic_created(info).items() <= topic_shown(info).items()

    play(scene)


def test_pages_go_through_all_shards_in_order_and_end() -> None:
    async def scene(parts: Parts) -> None:
        names = sorted(f"t{at:02}" for at in range(25))
        for name in names:
            await parts.topic(name)
        handlers, seen, query = handlers_of(parts), [], {"limit": "4", "prefix": "t"}
        while True:
            page = read(await handlers.listed(call()._replace(query=query)))
            assert len(page["topics"]) <= 4
            seen += [topic["topic_id"] for topic in page["topics"]]
            if page["next_page"] is None:
                break
            query["page"] = page["next_page"]
        assert seen == names

    play(scene)


def test_the_lists_of_one_user_are_made_one_at_a_time_and_those_of_others_meanwhile() -> None:
    async def scene(parts: Parts) -> None:
        handlers = handlers_of(parts)
        parts.directory.mute = True
        callers = [ANA, ANA, Caller("bo"), ANA]
        lists = [asyncio.ensure_future(handlers.listed(call(caller=caller))) for caller in callers]
        await asyncio.sleep(1)
        asked = [ask.caller.user_id for ask in parts.asked(AskTopics)]
        assert {user_id: asked.count(user_id) // parts.owners.shards for user_id in set(asked)} == {"ana": 1, "bo": 1}
        await asyncio.gather(*lists, return_exceptions=True)

    play(scene)


@pytest.mark.parametrize("page", ["!", "é", "LQ", "="])
def test_a_page_that_is_none_of_ours_is_refused(page: str) -> None:
    async def scene(parts: Parts) -> None:
        with pytest.raises(Refusal, match="next_page"):
            await handlers_of(parts).listed(call(page=page))

    play(scene)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "bad_request"),
        ({"name": ""}, "bad_request"),
        ({"name": "x" * 257}, "bad_request"),
        ({"name": "n", "topic_id": 7}, "bad_request"),
        ({"name": "n", "topic_id": "dm:x"}, "invalid_topic_id"),
        ({"name": "n", "permissions": "X"}, "bad_request"),
        ({"name": "n", "settings": {"x": 1}}, "bad_request"),
    ],
)
def test_a_creation_that_is_refused_is_not_in_the_log(body: Any, code: str) -> None:
    async def scene(parts: Parts) -> None:
        with pytest.raises(Refusal, match=code):
            await handlers_of(parts).create(call(body))
        assert parts.metrics.records == 0

    play(scene)


def test_a_repeated_creation_is_the_first_and_another_one_is_a_conflict_for_those_who_may_see_it() -> None:
    async def scene(parts: Parts) -> None:
        handlers = handlers_of(parts)
        body = {"topic_id": "t", "name": "T", "permissions": "PRIVATE"}
        first = read(await handlers.create(call(body, "k")))
        assert read(await handlers.create(call(body, "k"))) == first
        with pytest.raises(Refusal, match="idempotency_conflict"):
            await handlers.create(call({**body, "name": "other"}, "k"))
        with pytest.raises(Refusal, match="topic_exists") as caught:
            await handlers.create(call(body, "l"))
        assert caught.value.extra == {"owner_id": "ana", "epoch": first["epoch"]}
        with pytest.raises(Refusal, match="topic_exists") as caught:
            await handlers.create(call(body, caller=Caller("bo")))
        assert caught.value.extra == {}

    play(scene)


def test_a_repeated_delete_is_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_operations, "MAX_KEYS", 2)

    async def scene(parts: Parts) -> None:
        handlers = handlers_of(parts)
        for at in range(3):
            await parts.topic(f"t{at}")
            assert (await handlers.remove(call(key="k", topic_id=f"t{at}"))).status == 204
        records = parts.metrics.records
        for at in (2, 1):
            assert (await handlers.remove(call(key="k", topic_id=f"t{at}"))).status == 204
        assert parts.metrics.records == records
        with pytest.raises(Refusal, match="topic_not_found"):
            await handlers.remove(call(key="k", topic_id="t0"))

    play(scene)


def test_a_delete_is_a_read_of_the_users_rate_once_he_may() -> None:
    async def scene(parts: Parts) -> None:
        handlers = handlers_of(parts)
        for topic_id in ("a", "b"):
            await parts.topic(topic_id)
        await handlers.remove(call(topic_id="a", key="k"))
        await handlers.remove(call(topic_id="a", key="k"))  # the repeat of one that was made costs nothing
        with pytest.raises(Refusal, match="rate_limited"):
            await handlers.remove(call(topic_id="b"))
        with pytest.raises(Refusal, match="topic_not_found"):
            await handlers.remove(call(topic_id="a"))
        await parts.catalog.fetch("b")

    play(scene, RateLimits(reads_per_user_per_min=1))


def test_a_delete_that_came_too_late_is_not_found_the_next_time_either() -> None:
    async def scene(parts: Parts) -> None:
        info, handlers = await parts.topic("t"), handlers_of(parts)
        fetch = parts.catalog.fetch

        async def then_another_deletes(topic_id: str, caller: Caller = INGEST) -> Known:
            known = await fetch(topic_id, caller)
            parts.catalog.fetch = fetch  # type: ignore[method-assign]
            record_id = parts.controls.id_of("delete", "t", Caller("bo"), None)
            await parts.controls.change("t", DeleteTopic("t"), info.epoch, record_id)
            return known

        parts.catalog.fetch = then_another_deletes  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(Refusal, match="topic_not_found"):
                await handlers.remove(call(key="k"))

    play(scene)


def test_a_topic_that_is_deleted_by_another_is_not_found() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        record_id = parts.controls.id_of("delete", "t", ANA, None)
        await parts.controls.change("t", DeleteTopic("t"), info.epoch, record_id)
        with pytest.raises(Refusal, match="topic_not_found"):
            await handlers_of(parts).remove(call())
        assert parts.peek("t") is None

    play(scene)
