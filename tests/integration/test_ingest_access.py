"""What ingest remembers of topics: it lets callers in at once, never waits for an owner, and hides what is hidden."""

import asyncio
import json
from typing import Any

import pytest

from headgate.core.wire.link import Answer, AskTopic
from tests.integration.ingest_twin import World, play, problem

OF_ANY = "/api/v1/publish/batch"


def test_a_hidden_topic_costs_the_same_question_as_a_missing_one() -> None:
    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        assert (await world.publish("hidden", payload=1)).status_code == 200  # remembered for its owner
        bo = world.token("bo")
        for topic_id in ("hidden", "missing"):
            for method, path, body in (
                ("POST", "publish", b'{"payload":1}'),
                ("POST", "publish/batch", b"[]"),
                ("GET", "messages", b""),
            ):
                for _ in range(2):
                    world.directory.asked.clear()
                    call = world.call(method, f"/api/v1/topics/{topic_id}/{path}", bo, content=body)
                    problem(await call, 404, "topic_not_found")
                    assert [type(ask) for ask in world.directory.asked] == [AskTopic]
            world.directory.asked.clear()
            body = json.dumps([{"topic_id": topic_id, "payload": 1}] * 3).encode()
            answer = await world.call("POST", OF_ANY, bo, content=body)
            assert {result["code"] for result in answer.json()["results"]} == {"topic_not_found"}
            assert [type(ask) for ask in world.directory.asked] == [AskTopic]
        world.directory.up = False
        for topic_id in ("hidden", "missing"):
            problem(await world.publish(topic_id, bo, payload=1), 503, "not_ready")

    play(scene)


# -- a durable publish never waits for an owner


def test_a_frozen_owner_makes_no_publish_wait() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        assert (await world.publish("t", payload=0)).status_code == 200
        world.directory.mute = True
        for after_s in (0, 2.5, 10, 40):
            world.clock.virtual.now += after_s
            started = world.clock.now()
            answer = await world.publish("t", payload=1)
            assert (answer.status_code, answer.json()["delivered_to_basis"]) == (200, "unknown")
            assert world.clock.now() - started == pytest.approx(0.02, abs=0.005)
        world.clock.virtual.now += 61
        problem(await world.publish("t", payload=1), 503, "not_ready")

    play(scene)


def test_a_topic_is_asked_for_again_behind_its_use() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for at in range(200):
            assert (await world.publish("t", payload=at)).status_code == 200
            world.clock.virtual.now += 0.5
        asks = sum(isinstance(ask, AskTopic) for ask in world.directory.asked)
        assert 40 <= asks <= 51, "once in 2 s, and never past its 60 s"

    play(scene)


def test_what_was_known_before_a_link_is_asked_for_first_and_used_after_20_ms() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        assert (await world.publish("t", payload=0)).status_code == 200
        world.clock.virtual.now += 1
        shard = world.directory.shard_of("t")
        world.ingest.on_owner(shard, False)
        world.ingest.on_owner(shard, True)
        world.directory.asked.clear()
        assert (await world.publish("t", payload=1)).status_code == 200
        assert isinstance(world.directory.asked[0], AskTopic)
        world.clock.virtual.now += 1
        world.ingest.on_owner(shard, True)
        world.directory.mute = True
        started = world.clock.now()
        assert (await world.publish("t", payload=2)).status_code == 200
        assert world.clock.now() - started == pytest.approx(0.04, abs=0.01)

    play(scene)


def test_a_publish_to_a_topic_that_ended_elsewhere_is_refused_at_once() -> None:
    async def scene(world: World) -> None:
        other, log, _, _ = world.another()
        await log.open()
        async with world.client_of(other) as client:
            auth = {"Authorization": f"Bearer {world.token(service=True)}"}
            await world.create("t")
            path = "/api/v1/topics/t/publish"
            assert (await client.post(path, json={"payload": 1}, headers=auth)).status_code == 200
            await world.call("DELETE", "/api/v1/topics/t")
            assert (await client.post(path, json={"payload": 1}, headers=auth)).status_code == 404

    play(scene)


def test_where_the_owner_is_in_the_process_every_count_is_exact() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.owner.counts["t"] = 2
        ask = world.directory.request

        def late(shard: int, build: Any, on_answer: Any) -> None:  # the loop is busy for 100 ms
            def later(answer: Answer) -> None:
                asyncio.get_running_loop().call_later(0.1, on_answer, answer)

            ask(shard, build, later)

        world.directory.request = late  # type: ignore[method-assign]
        answer = (await world.publish("t", payload=1)).json()
        assert (answer["delivered_to"], answer["delivered_to_basis"]) == (2, "registry")

    play(scene, owner_in_process=True)


def test_a_first_request_that_is_cancelled_does_not_end_the_append_of_its_repeats() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.latency = lambda log, shard: 1
        first = asyncio.ensure_future(world.publish("t", payload=1, client_msg_id="c"))
        await asyncio.sleep(0.5)
        repeat = asyncio.ensure_future(world.publish("t", payload=1, client_msg_id="c"))
        await asyncio.sleep(0.1)
        first.cancel()
        answer = await repeat
        assert (answer.status_code, answer.json()["duplicate"]) == (200, True)
        assert len(world.owner.messages("t")) == 1

    play(scene)


def test_who_is_no_admin_any_longer_deletes_nothing_by_a_remembered_role() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await world.call("PUT", "/api/v1/topics/t/members/bob", json={"role": "admin"})
        bob = world.token("bob")
        assert (await world.publish("t", token=bob, payload=1)).status_code == 200  # now his role is remembered
        world.ingest.on_push = lambda shard_epoch, message: None  # type: ignore[method-assign]  # the Changed is lost
        other, log, _, _ = world.another()
        await log.open()
        async with world.client_of(other) as client:
            auth = {"Authorization": f"Bearer {world.token(service=True)}"}
            assert (await client.delete("/api/v1/topics/t/members/bob", headers=auth)).status_code == 204
        problem(await world.call("DELETE", "/api/v1/topics/t", token=bob), 404, "topic_not_found")
        assert (await world.call("GET", "/api/v1/topics/t")).status_code == 200

    play(scene)
