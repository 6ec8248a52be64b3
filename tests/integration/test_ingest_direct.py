"""Direct topics over HTTP: one for each pair, the same from both sides; nobody else sees it or comes in."""

import asyncio
from typing import Any

import pytest

from headgate.core.wire.control import MESSAGES_LOGIC
from headgate.core.wire.direct_topics import direct_topic_id
from headgate.runtime.testing.faulty_log import Reach
from tests.integration.ingest_twin import World, play, problem

TOPICS = "/api/v1/topics"


async def direct(world: World, user_id: Any, token: str = "", **request: Any) -> Any:
    return await world.call("POST", "/api/v1/direct", token, json={"user_id": user_id}, **request)


def test_it_is_made_once_and_found_from_both_sides() -> None:
    async def scene(world: World) -> None:
        made = await direct(world, "bo")
        topic_id = direct_topic_id("ana", "bo")
        body = made.json()
        assert made.status_code == 201
        assert (body["topic_id"], body["name"], body["permissions"], body["owner_id"]) == (
            topic_id,
            topic_id,
            "PRIVATE",
            "ana",
        )
        assert set(body) == {"topic_id", "name", "permissions", "owner_id", "created_at", "settings", "epoch"}
        for token, other in (("", "bo"), (world.token("bo"), "ana")):
            again = await direct(world, other, token)
            assert (again.status_code, again.json()) == (200, body)
        assert (await world.publish(topic_id, world.token("bo"), payload=1)).status_code == 200
        assert (await world.publish(topic_id, payload=2)).status_code == 200
        assert [message["payload"] for message in world.owner.messages(topic_id)] == [1, 2]

    play(scene)


def test_two_at_once_from_both_sides_make_one_topic() -> None:
    async def scene(world: World) -> None:
        answers = await asyncio.gather(direct(world, "bo"), direct(world, "ana", world.token("bo")))
        assert sorted(answer.status_code for answer in answers) == [200, 201]
        assert answers[0].json() == answers[1].json()

    play(scene)


def test_a_talk_with_oneself() -> None:
    async def scene(world: World) -> None:
        made = await direct(world, "ana")
        assert made.status_code == 201
        topic_id = made.json()["topic_id"]
        assert (await world.call("GET", f"{TOPICS}/{topic_id}")).json()["member_count"] == 1
        assert (await world.publish(topic_id, payload=1)).status_code == 200

    play(scene)


def test_a_third_does_not_see_it_and_neither_of_the_two_changes_who_is_in_it() -> None:
    async def scene(world: World) -> None:
        topic_id = (await direct(world, "bo")).json()["topic_id"]
        path = f"{TOPICS}/{topic_id}"
        eve, bo = world.token("eve"), world.token("bo")
        problem(await world.publish(topic_id, eve, payload=1), 404, "topic_not_found")
        problem(await world.call("PUT", f"{path}/members/eve", eve), 404, "topic_not_found")
        listed = (await world.call("GET", TOPICS, eve, params={"prefix": "dm:"})).json()["topics"]
        assert listed == []
        for token in ("", bo):
            listed = (await world.call("GET", TOPICS, token, params={"prefix": "dm:"})).json()["topics"]
            assert [topic["topic_id"] for topic in listed] == [topic_id]
            for user in ("eve", "ana", "bo"):
                problem(await world.call("PUT", f"{path}/members/{user}", token), 403, "forbidden")
                problem(await world.call("DELETE", f"{path}/members/{user}", token), 403, "forbidden")
            problem(await world.call("PATCH", path, token, json={"permissions": "PUBLIC"}), 403, "forbidden")
            problem(await world.call("DELETE", path, token), 403, "forbidden")
        assert (await world.call("GET", path, bo)).json()["member_count"] == 2

    play(scene)


def test_an_operator_deletes_it_and_lets_nobody_in() -> None:
    async def scene(world: World) -> None:
        topic_id = (await direct(world, "bo")).json()["topic_id"]
        path, root = f"{TOPICS}/{topic_id}", world.token("root", admin=True)
        problem(await world.call("PUT", f"{path}/members/root", root), 403, "forbidden")
        problem(await world.call("DELETE", f"{path}/members/bo", root), 403, "forbidden")
        problem(await world.call("PATCH", path, root, json={"permissions": "PUBLIC"}), 403, "forbidden")
        assert (await world.call("PATCH", path, root, json={"name": "n"})).status_code == 200
        members = (await world.call("GET", f"{path}/members", root)).json()["members"]
        assert [(member["user_id"], member["role"]) for member in members] == [("ana", "member"), ("bo", "member")]
        assert (await world.call("DELETE", path, root)).status_code == 204
        assert (await direct(world, "ana", world.token("bo"))).status_code == 201

    play(scene)


@pytest.mark.parametrize("user_id", [None, 7, "", "a" * 129, "é" * 65, "a\nb", "kafka", ["bo"]])
def test_what_is_no_user_is_refused(user_id: Any) -> None:
    async def scene(world: World) -> None:
        problem(await direct(world, user_id), 400, "bad_request")
        assert world.metrics.records == 0

    play(scene)


def test_a_user_may_have_any_printable_name() -> None:
    async def scene(world: World) -> None:
        for user_id in ("a" * 128, "é" * 64, "x/y z", "dm:1"):
            assert (await direct(world, user_id)).status_code == 201

    play(scene)


def test_an_id_of_ours_is_still_not_created_by_name() -> None:
    async def scene(world: World) -> None:
        topic_id = direct_topic_id("ana", "bo")
        answer = await world.call("POST", TOPICS, json={"topic_id": topic_id, "name": "n"})
        problem(answer, 400, "invalid_topic_id")

    play(scene)


def test_a_token_that_is_limited_needs_a_pattern_for_it() -> None:
    async def scene(world: World) -> None:
        problem(await direct(world, "bo", world.token(only=True, publish=("t*",))), 403, "forbidden")
        assert (await direct(world, "bo", world.token(only=True, publish=("dm:*",)))).status_code == 201

    play(scene)


def test_the_repeat_of_a_keyed_creation_is_answered_like_the_first() -> None:
    async def scene(world: World) -> None:
        key = {"Idempotency-Key": "k"}
        first = await direct(world, "bo", headers=key)
        again = await direct(world, "bo", headers=key)
        assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
        other = await direct(world, "ana", world.token("bo"), headers=key)
        assert (other.status_code, other.json()) == (200, first.json())
        problem(await direct(world, "bo", headers={"Idempotency-Key": ""}), 400, "bad_request")

    play(scene)


def test_a_creation_costs_the_rate_of_creations_and_finding_it_a_read() -> None:
    async def scene(world: World) -> None:
        token = world.token("cy")
        for n in range(60):
            assert (await direct(world, f"u{n}", token)).status_code == 201
        problem(await direct(world, "one-more", token), 429, "rate_limited")
        assert (await direct(world, "u0", token)).status_code == 200, "it is there: nothing is created"

    play(scene)


def test_nothing_is_written_while_an_older_dispatcher_may_have_to_read_it() -> None:
    async def scene(world: World) -> None:
        world.owner.logic = MESSAGES_LOGIC - 1
        await world.create("t")  # each shard's state takes the logic behind its next record
        for state in world.owner.states:
            state.logic = MESSAGES_LOGIC - 1
        before = world.metrics.records
        problem(await direct(world, "bo"), 503, "not_ready")
        assert (world.metrics.records, world.owner.dead_letters) == (before, [])

    play(scene)


def test_the_log_away_and_the_owner_away() -> None:
    async def scene(world: World) -> None:
        world.log.reach = Reach.REFUSED
        problem(await direct(world, "bo"), 503, "log_unavailable")
        world.log.reach = Reach.OK
        assert (await direct(world, "bo")).status_code == 201
        world.log.reach = Reach.REFUSED
        assert (await direct(world, "bo")).status_code == 200, "it is there: the log is not asked"
        world.directory.lose_owners()
        problem(await direct(world, "bo"), 503, "not_ready")

    play(scene)
