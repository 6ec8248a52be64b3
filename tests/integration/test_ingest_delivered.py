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
        assert not world.owner.expected, "nothing is counted any longer"

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
        assert not world.owner.expected

    play(scene)


def test_what_a_batch_did_not_hand_over_is_counted_no_longer_than_that() -> None:
    """An owner counts a bounded number of messages: a user without rate must not hold them all while he waits."""

    async def scene(world: World) -> None:
        await world.create("t")
        bo, body = world.token("bo"), [{"payload": at, "client_msg_id": f"m{at % 120}"} for at in range(150)]
        path, held = "/api/v1/topics/t/publish/batch" + DELIVERED, []
        answer = world.owner._AskDelivered

        def noted(ask: AskDelivered) -> Any:
            held.append(world.owner.expected.total())
            return answer(ask)

        world.owner._AskDelivered = noted  # type: ignore[method-assign]
        results = (await world.call("POST", path, bo, json=body)).json()["results"]
        statuses = [result["status"] for result in results]
        assert (statuses.count(200), statuses.count(429), statuses.count(422)) == (100, 20, 30)
        assert held == [100] * 100
        repeats = (await world.call("POST", path, bo, json=body[:100])).json()["results"]
        assert {result["duplicate"] for result in repeats} == {True} and len(held) == 100
        assert not world.owner.expected

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
