"""Connections of a user, and the end of his subscriptions: asked of the owner of the user's shard."""

from typing import Any

import pytest

from headgate.core.wire.ids import user_shard
from headgate.core.wire.link_users import AskConnections, ConnectedTopic, Connection, EndSubscriptions
from tests.integration.ingest_twin import World, play, problem

CONNECTIONS = "/api/v1/connections"
SUBSCRIBE = "/api/v1/topics/t/subscribe"


def connection(user_id: str) -> Connection:
    topics = [ConnectedTopic("s1", "t", 1_700_000_000_123)]
    return Connection("c1", user_id, "default", 1_700_000_000_000, 1_700_000_001_000, "gw-1", "websocket", topics)


def shards_asked(world: World, kind: type[Any]) -> list[int]:
    """Notes the shards of questions of this kind from now on."""
    asked: list[int] = []
    request = world.directory.request

    def noted(shard: int, build: Any, on_answer: Any) -> None:
        if isinstance(build(0), kind):
            asked.append(shard)
        request(shard, build, on_answer)

    world.directory.request = noted  # type: ignore[method-assign]
    return asked


def test_a_user_sees_his_own_connections_and_an_admin_everybodys() -> None:
    async def scene(world: World) -> None:
        world.owner.connections = [connection("bo"), connection("é/x")]
        asked = shards_asked(world, AskConnections)
        bo = world.token("bo")
        answer = (await world.call("GET", CONNECTIONS, bo)).json()
        assert answer == {
            "connections": [
                {
                    "connection_id": "c1",
                    "user_id": "bo",
                    "device_id": "default",
                    "connected_at": "2023-11-14T22:13:20.000Z",
                    "last_heartbeat": "2023-11-14T22:13:21.000Z",
                    "gateway": "gw-1",
                    "transport": "websocket",
                    "subscriptions": [
                        {"subscription_id": "s1", "topic_id": "t", "subscribed_at": "2023-11-14T22:13:20.123Z"}
                    ],
                }
            ],
            "complete": True,
        }
        assert (await world.call("GET", f"{CONNECTIONS}?user_id=bo", bo)).json() == answer
        other = {"user_id": "é/x"}
        problem(await world.call("GET", CONNECTIONS, bo, params=other), 403, "forbidden")
        problem(
            await world.call("GET", CONNECTIONS, world.token("a", admin=True, only=True), params=other),
            403,
            "forbidden",
        )
        found = (await world.call("GET", CONNECTIONS, world.token("a", admin=True), params=other)).json()
        assert [each["user_id"] for each in found["connections"]] == ["é/x"]
        shards = world.directory.shards
        assert asked == [user_shard(user_id, shards) for user_id in ("bo", "bo", "é/x")]

    play(scene)


def test_a_token_with_only_is_told_of_subscriptions_to_the_topics_that_it_names() -> None:
    async def scene(world: World) -> None:
        for token, topics in (
            (world.token("bo"), ["t", "secret"]),
            (world.token("bo", only=True, subscribe=("t",)), ["t"]),
            (world.token("bo", only=True, publish=("sec*",)), ["secret"]),
            (world.token("bo", only=True), []),
        ):
            found = connection("bo")
            found.subscriptions.append(ConnectedTopic("s2", "secret", 1_700_000_000_123))
            world.owner.connections = [found]
            (shown,) = (await world.call("GET", CONNECTIONS, token)).json()["connections"]
            assert [each["topic_id"] for each in shown["subscriptions"]] == topics

    play(scene)


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\nb"])
def test_a_user_that_is_none_is_named(user_id: str) -> None:
    async def scene(world: World) -> None:
        answer = await world.call("GET", CONNECTIONS, world.token("a", admin=True), params={"user_id": user_id})
        problem(answer, 400, "bad_request")

    play(scene)


def test_subscriptions_end_on_the_gateways_that_have_the_user() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.owner.ended = 2
        bo = world.token("bo")
        asked = shards_asked(world, EndSubscriptions)
        answer = await world.call("DELETE", SUBSCRIBE, bo)
        assert (answer.status_code, answer.json()) == (200, {"success": True, "ended": 2})
        await world.call("DELETE", f"{SUBSCRIBE}?connection_id=c7", bo)
        await world.call("DELETE", SUBSCRIBE, bo, json={"connection_id": "c8"})
        ends = [ask for ask in world.directory.asked if isinstance(ask, EndSubscriptions)]
        assert [(end.user_id, end.topic_id, end.connection_id) for end in ends] == [
            ("bo", "t", None),
            ("bo", "t", "c7"),
            ("bo", "t", "c8"),
        ]
        assert asked == [user_shard("bo", world.directory.shards)] * 3
        problem(await world.call("DELETE", SUBSCRIBE, bo, json={"connection_id": 7}), 400, "bad_request")
        problem(await world.call("DELETE", "/api/v1/topics/missing/subscribe", bo), 404, "topic_not_found")

    play(scene)


def test_without_the_owner_of_the_users_shard_it_is_not_ready() -> None:
    async def scene(world: World) -> None:
        world.directory.up = False
        problem(await world.call("GET", CONNECTIONS), 503, "not_ready")
        world.directory.shards = 0
        problem(await world.call("GET", CONNECTIONS), 503, "not_ready")

    play(scene)


def test_reads_have_a_rate() -> None:
    async def scene(world: World) -> None:
        bo = world.token("bo")
        for _ in range(600):
            assert (await world.call("GET", CONNECTIONS, bo)).status_code == 200
        problem(await world.call("GET", CONNECTIONS, bo), 429, "rate_limited")

    play(scene)
