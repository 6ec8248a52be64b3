"""`wait=delivered` and shed messages over HTTP: the members of the answers, whatever the owner says."""

from typing import Any

import pytest

from headgate.core.wire.link import Refused
from headgate.core.wire.link_deliveries import AskDelivered, ExpectDeliveries
from tests.integration.ingest_twin import World, play, problem

DELIVERED = "?wait=delivered"
EPHEMERAL = {"profile": "ephemeral"}
BOTH = pytest.mark.parametrize("settings", [{}, EPHEMERAL], ids=["durable", "ephemeral"])


def counts(answer: dict[str, Any]) -> tuple[int, str, Any]:
    return answer["delivered_to"], answer["delivered_to_basis"], answer["dropped"]


def asked(world: World, kind: type[Any]) -> int:
    return sum(isinstance(each, kind) for each in world.directory.asked)


@BOTH
def test_the_count_is_that_of_the_sockets(settings: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings=settings)
        world.owner.counts["t"], world.owner.delivered = 5, 3
        answer = (await world.publish("t", payload=1, query=DELIVERED)).json()
        assert counts(answer) == (3, "delivered", False)
        assert answer["duplicate"] is False and ("seq" in answer) == (not settings)
        await world.publish("t", payload=1, query=DELIVERED + "&timeout_ms=10000")
        assert world.owner.waits_ms == [1_000, 10_000]
        assert world.owner.expected == set(), "nothing is counted any longer"

    play(scene)


@BOTH
def test_who_does_not_wait_for_it_asks_nothing(settings: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings=settings)
        for query in ("", "?wait=sequenced", "?wait=accepted&timeout_ms=1"):
            assert (await world.publish("t", payload=1, query=query)).json()["delivered_to_basis"] == "registry"
        assert asked(world, ExpectDeliveries) == asked(world, AskDelivered) == 0

    play(scene)


def test_an_ephemeral_message_nobody_is_there_for() -> None:
    async def scene(world: World) -> None:
        await world.create("e", settings=EPHEMERAL)
        answer = (await world.publish("e", payload=1, query=DELIVERED)).json()
        assert counts(answer) == (0, "delivered", True)
        assert asked(world, AskDelivered) == 0

    play(scene)


@BOTH
def test_a_repeat_is_not_delivered_again(settings: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings=settings)
        world.owner.counts["t"], world.owner.delivered = 5, 3
        first = (await world.publish("t", payload=1, client_msg_id="k", query=DELIVERED)).json()
        again = (await world.publish("t", payload=1, client_msg_id="k", query=DELIVERED)).json()
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        assert counts(again) == (5, "registry", False)

    play(scene)


@BOTH
def test_a_message_that_its_owner_cannot_count_is_published_all_the_same(settings: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings=settings)
        world.owner.counts["t"] = 5
        world.owner._ExpectDeliveries = overloaded  # type: ignore[method-assign]
        answer = (await world.publish("t", payload=1, query=DELIVERED)).json()
        assert counts(answer) == (0, "unknown", False)

    def overloaded(ask: Any) -> Any:
        return Refused(ask.req, "overloaded", "too many are counted")

    play(scene)


def test_without_an_owner_it_ends_as_sequenced_does() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.publish("t", payload=0)
        world.directory.up = False
        begun = world.clock.now()
        problem(await world.publish("t", payload=1, query=DELIVERED), 504, "outcome_unknown")
        assert 6.9 < world.clock.now() - begun < 7.3

    play(scene)


@BOTH
def test_in_a_batch_it_is_per_item(settings: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings=settings)
        world.owner.counts["t"], world.owner.delivered = 5, 3
        body = [{"payload": 1}, {"payload": 2, "client_msg_id": "k"}, {"no": 1}, {"payload": 2, "client_msg_id": "k"}]
        path = "/api/v1/topics/t/publish/batch" + DELIVERED
        results = (await world.call("POST", path, json=body)).json()["results"]
        assert [result["status"] for result in results] == [200, 200, 400, 200]
        assert [counts(results[at]) for at in (0, 1, 3)] == [
            (3, "delivered", False),
            (3, "delivered", False),
            (5, "registry", False),
        ]
        assert asked(world, ExpectDeliveries) == 1
        any_batch = [{"payload": 1, "topic_id": "t"}, {"payload": 1, "topic_id": "none"}]
        results = (await world.call("POST", "/api/v1/publish/batch" + DELIVERED, json=any_batch)).json()["results"]
        assert counts(results[0]) == (3, "delivered", False)
        assert results[1]["code"] == "topic_not_found"
        assert world.owner.expected == set()

    play(scene)


def test_a_shed_message_says_so_and_may_be_tried_again() -> None:
    async def scene(world: World) -> None:
        await world.create("e", settings=EPHEMERAL)
        world.owner.counts["e"], world.owner.sheds = 2, True
        low: dict[str, Any] = {"payload": 1, "priority": "LOW", "client_msg_id": "k"}
        for query in ("", DELIVERED):
            answer = await world.publish("e", query=query, **low)
            assert answer.status_code == 200
            assert counts(answer.json()) == (0, "registry", "backpressure")
            assert not answer.json().get("duplicate")
        assert world.owner.relayed == []
        assert counts((await world.publish("e", payload=1)).json()) == (2, "registry", False)
        assert world.metrics.published == {("shed", "ephemeral"): 2, ("accepted", "ephemeral"): 1}
        world.owner.sheds = False
        again = (await world.publish("e", **low)).json()
        assert counts(again) == (2, "registry", False) and not again.get("duplicate")

    play(scene)


def test_a_durable_message_is_never_shed() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.owner.sheds = True
        answer = (await world.publish("t", payload=1, priority="LOW", query="?wait=sequenced")).json()
        assert (answer["seq"], answer["dropped"]) == (1, False)

    play(scene)
