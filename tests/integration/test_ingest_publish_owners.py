"""Publishing with the owner late or away, rates, and topics that a publish makes."""

import asyncio
from typing import Any

import httpx
import pytest

from headgate.core.wire.envelope import KEYED, LOW, Kind, decode, is_metered
from headgate.core.wire.link import AskCount, AskTopic
from headgate.core.wire.records import LogName
from tests.integration.ingest_twin import World, play, problem


def test_delivered_to_is_unknown_when_the_owner_takes_longer_than_20_ms() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.publish("t", payload=1)
        world.directory.mute = True
        started = world.clock.now()
        answer = (await world.publish("t", payload=1)).json()
        assert world.clock.now() - started < 0.05
        assert (answer["delivered_to"], answer["delivered_to_basis"]) == (0, "unknown")

    play(scene)


def test_counts_of_one_turn_are_one_question() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.publish("t", payload=1)
        world.directory.asked.clear()
        await asyncio.gather(*[world.publish("t", payload=1) for _ in range(20)])
        asked = [ask for ask in world.directory.asked if isinstance(ask, AskCount)]
        assert len(asked) <= 2

    play(scene)


def test_with_the_owner_away_a_known_topic_is_taken_for_sixty_seconds() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.publish("t", payload=1)
        world.directory.up = False
        world.clock.virtual.now += 59
        answer = await world.publish("t", payload=2)
        assert (answer.status_code, answer.json()["delivered_to_basis"]) == (200, "unknown")
        problem(await world.publish("other", payload=2), 503, "not_ready")
        started = world.clock.now()
        problem(await world.publish("t", payload=3, query="?wait=sequenced"), 504, "outcome_unknown")
        assert 6.5 <= world.clock.now() - started <= 7.5
        problem(await world.publish("t", payload=2), 503, "not_ready")

    play(scene)


def test_before_the_first_dispatcher_has_answered_nothing_is_known() -> None:
    async def scene(world: World) -> None:
        world.directory.shards = 0
        problem(await world.publish("t", payload=2), 503, "not_ready")
        problem(await world.call("GET", "/api/v1/topics"), 503, "not_ready")
        batch = await world.call("POST", "/api/v1/publish/batch", json=[{"topic_id": "t", "payload": 1}])
        assert [result["code"] for result in batch.json()["results"]] == ["not_ready"]

    play(scene)


def test_a_topic_that_went_before_the_record_is_404_with_sequenced() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        service, log, _, _ = world.another()
        await log.open()
        async with world.client_of(service) as client:
            auth = {"Authorization": f"Bearer {world.token(service=True)}"}

            async def publish() -> httpx.Response:
                body = {"payload": 1, "client_msg_id": "k"}
                return await client.post("/api/v1/topics/t/publish?wait=sequenced", json=body, headers=auth)

            assert (await client.post("/api/v1/topics/t/publish", json={"payload": 0}, headers=auth)).status_code == 200
            await world.call("DELETE", "/api/v1/topics/t")
            problem(await publish(), 404, "topic_not_found")
            await world.create("t")
            assert (await publish()).json()["seq"] == 1

    play(scene)


def test_the_topics_own_rate_holds_for_all_users() -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings={"rate_limit": {"per_s": 1, "burst": 3}})
        codes = [(await world.publish("t", world.token(f"u{at}"), payload=1)).status_code for at in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert (await world.publish("t", payload=1)).status_code == 200, "service:true lifts it"
        world.clock.virtual.now += 1
        assert (await world.publish("t", world.token("u9"), payload=1)).status_code == 200

    play(scene)


def test_a_refused_publish_takes_no_token() -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings={"rate_limit": {"per_s": 1, "burst": 1}})
        await world.create("free")
        bo = world.token("bo")
        await world.publish("t", bo, payload=1)
        for _ in range(150):
            limited = await world.publish("t", bo, payload=1)
        assert limited.headers["retry-after"] == "1"
        codes = [(await world.publish("free", bo, payload=1)).status_code for _ in range(100)]
        assert codes.count(200) >= 99

    play(scene)


def test_auto_create_makes_a_public_durable_topic_of_the_caller() -> None:
    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        bo = world.token("bo")
        answers = await asyncio.gather(*[world.publish("new", bo, payload=at) for at in range(3)])
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        made = (await world.call("GET", "/api/v1/topics/new")).json()
        assert (made["owner_id"], made["permissions"], made["seq"], made["name"]) == ("bo", "PUBLIC", 3, "new")
        problem(await world.publish("hidden", bo, payload=1), 404, "topic_not_found")
        problem(await world.publish("dm:x", bo, payload=1), 404, "topic_not_found")
        only = world.token("bo", only=True, publish=("x*",))
        problem(await world.publish("y", only, payload=1), 404, "topic_not_found")
        assert (await world.publish("xy", only, payload=1)).status_code == 200
        problem(await world.call("GET", "/api/v1/topics/never"), 404, "topic_not_found")

    play(scene, auto_create=True)


def test_no_topic_is_made_for_a_publish_that_is_no_good() -> None:
    async def scene(world: World) -> None:
        batch = "/api/v1/topics/new/publish/batch"
        problem(await world.call("POST", "/api/v1/topics/new/publish", content=b"{"), 400, "bad_request")
        problem(await world.publish("new", payload=1, query="?wait=never"), 400, "bad_request")
        problem(await world.publish("new", payload=1, headers={"Idempotency-Key": "é".encode()}), 400, "bad_request")
        problem(await world.call("POST", batch, content=b"{"), 400, "bad_request")
        problem(await world.call("POST", batch, content=b"[{}]"), 404, "topic_not_found")
        answer = await world.call("POST", "/api/v1/publish/batch", json=[{"topic_id": "new"}])
        assert [result["code"] for result in answer.json()["results"]] == ["topic_not_found"]
        problem(await world.call("GET", "/api/v1/topics/new"), 404, "topic_not_found")

    play(scene, auto_create=True)


def test_open_mode_takes_who_one_says_and_knows_no_rates() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        for headers, query, user in (
            ({}, "", "anonymous"),
            ({"X-Headgate-User": "bo"}, "", "bo"),
            ({"X-Headgate-User": "bo", "Authorization": "Basic x"}, "?user=cy", "cy"),
        ):
            path = f"/api/v1/topics/t/publish{query}"
            answer = await world.client.post(path, json={"payload": 1}, headers=headers)
            assert answer.status_code == 200
            assert world.owner.messages("t")[-1]["publisher_id"] == user
        codes = {
            (await world.client.post("/api/v1/topics/t/publish", json={"payload": 1})).status_code for _ in range(300)
        }
        assert codes == {200}
        problem(await world.client.get("/api/v1/topics/t?user=" + "x" * 129), 400, "bad_request")

    play(scene, mode="open")


def test_a_new_owner_is_asked_at_once() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.publish("t", payload=1)
        world.directory.asked.clear()
        world.clock.virtual.now += 0.1
        world.ingest.on_owner(world.directory.shard_of("t"), True)
        world.clock.virtual.now += 0.1
        await world.publish("t", payload=1)
        assert [type(ask) for ask in world.directory.asked].count(AskTopic) == 1

    play(scene)


@pytest.mark.parametrize(
    ("given", "priority", "flags"), [(True, "NORMAL", KEYED), (False, "LOW", LOW), (True, "LOW", 3)]
)
def test_the_record_says_whether_the_client_may_repeat_it(given: bool, priority: str, flags: int) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.publish(
            "t", world.token("bo"), payload=1, priority=priority, **({"client_msg_id": "k"} if given else {})
        )
        part = world.store.parts[LogName.MESSAGES, world.directory.shard_of("t")]
        record = decode(part.slice(part.end - 1, 1).records[0].value or b"")
        assert (record.kind, record.flags) == (Kind.MESSAGE, flags)

    play(scene)


def test_the_records_of_a_service_say_that_they_count_against_no_rate() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        part = world.store.parts[LogName.MESSAGES, world.directory.shard_of("t")]
        for token, is_counted in ((world.token(service=True), False), (world.token("bo"), True)):
            await world.publish("t", token, payload=1)
            await world.call("POST", "/api/v1/topics/t/publish/batch", token, json=[{"payload": n} for n in range(3)])
            values = [record.value or b"" for record in part.slice(part.end - 2, 2).records]
            assert [decode(value).kind for value in values] == [Kind.MESSAGE, Kind.BUNDLE]
            assert [is_metered(value) for value in values] == [is_counted, is_counted]

    play(scene)


def test_answers_to_publishes_tell_what_is_left_of_the_rates() -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings={"rate_limit": {"per_s": 1, "burst": 4}})
        bo, page = world.token("bo"), {"Origin": "https://app.test"}
        one = await world.publish("t", bo, payload=1, headers=page)
        assert one.headers["ratelimit-policy"] == '"user";q=100;w=60, "topic";q=4;w=4'
        assert one.headers["ratelimit"] == '"user";r=99;t=1, "topic";r=3;t=1'
        assert "RateLimit, RateLimit-Policy" in one.headers["access-control-expose-headers"]
        batch = await world.call("POST", "/api/v1/topics/t/publish/batch", bo, json=[{"payload": n} for n in range(5)])
        assert [result["status"] for result in batch.json()["results"]] == [200] * 3 + [429] * 2
        assert batch.headers["ratelimit"] == '"user";r=96;t=3, "topic";r=0;t=1'
        limited = await world.publish("t", bo, payload=1)
        problem(limited, 429, "rate_limited")
        assert limited.headers["ratelimit"] == '"user";r=96;t=3, "topic";r=0;t=1'
        assert (limited.headers["retry-after"], "headers" in limited.json()) == ("1", False)
        anywhere = await world.call("POST", "/api/v1/publish/batch", bo, json=[{"topic_id": "t", "payload": 1}])
        assert anywhere.headers["ratelimit"] == '"user";r=96;t=3'
        assert "ratelimit" not in (await world.publish("t", payload=1)).headers, "a service has no rates"

    play(scene, origins=("https://app.test",))


def test_a_topic_in_steady_use_is_asked_for_every_two_seconds_only() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.directory.asked.clear()
        for _ in range(10):
            await world.publish("t", payload=1)
            world.clock.virtual.now += 0.3
        asked: list[Any] = [ask for ask in world.directory.asked if isinstance(ask, AskTopic)]
        assert len(asked) == 1

    play(scene)
