"""Publishing to ephemeral topics: relayed once or not at all, and never in the log."""

import asyncio
import json
from typing import Any

import pytest

from headgate.core.wire.link import Refused
from headgate.runtime.links.port import Unanswered
from headgate.runtime.testing.faulty_log import Reach
from tests.integration.ingest_twin import World, play, problem


def test_ephemeral_messages_are_relayed_and_never_in_the_log() -> None:
    async def scene(world: World) -> None:
        await world.create("e", settings={"profile": "ephemeral"})
        before = world.metrics.records
        nobody = (await world.publish("e", payload=1, query="?wait=sequenced")).json()
        assert (nobody["delivered_to"], nobody["delivered_to_basis"], nobody["dropped"]) == (0, "registry", True)
        assert "seq" not in nobody
        world.owner.counts["e"] = 2
        some = (await world.publish("e", payload=2)).json()
        assert (some["delivered_to"], some["dropped"]) == (2, False)
        assert [json.loads(frame)["payload"] for frame in world.owner.relayed] == [1, 2]
        assert world.metrics.records == before
        problem(await world.call("GET", "/api/v1/topics/e/messages"), 422, "not_in_profile")
        world.log.reach = Reach.REFUSED
        assert (await world.publish("e", payload=3)).status_code == 200
        world.directory.up = False
        problem(await world.publish("e", payload=4), 503, "not_ready")

    play(scene)


def test_an_ephemeral_repeat_is_not_relayed_twice() -> None:
    async def scene(world: World) -> None:
        await world.create("e", settings={"profile": "ephemeral"})
        both = await asyncio.gather(*[world.publish("e", payload=1, client_msg_id="k") for _ in range(2)])
        third = await world.publish("e", payload=1, client_msg_id="k")
        assert [answer.json().get("duplicate", False) for answer in (*both, third)] == [False, True, True]
        problem(await world.publish("e", payload=2, client_msg_id="k"), 422, "idempotency_conflict")
        assert len(world.owner.relayed) == 1

    play(scene)


@pytest.mark.parametrize(("link_lost", "status", "code"), [(True, 504, "outcome_unknown"), (False, 503, "not_ready")])
def test_an_ephemeral_publish_whose_owner_says_not_ready(link_lost: bool, status: int, code: str) -> None:
    async def scene(world: World) -> None:
        await world.create("e", settings={"profile": "ephemeral"})
        await world.publish("e", payload=0)

        def refuse(ask: Any) -> Any:
            return (Unanswered if link_lost else Refused)(ask.req, "not_ready", "not mine, or gone")

        world.owner._Relay = refuse  # type: ignore[method-assign]
        problem(await world.publish("e", payload=1, client_msg_id="k"), status, code)
        again = await world.publish("e", payload=2, client_msg_id="k")
        assert again.json()["code"] == ("idempotency_conflict" if link_lost else "not_ready")

    play(scene)


def test_an_ephemeral_topic_that_went_is_404() -> None:
    async def scene(world: World) -> None:
        await world.create("e", settings={"profile": "ephemeral"})
        await world.publish("e", payload=0)
        world.owner.changed = _unheard
        for rows in world.owner.rows:
            rows.clear()
        problem(await world.publish("e", payload=1), 404, "topic_not_found")

    play(scene)


def test_an_ephemeral_publish_to_a_silent_owner_is_504() -> None:
    async def scene(world: World) -> None:
        await world.create("e", settings={"profile": "ephemeral"})
        await world.publish("e", payload=0)
        world.directory.mute = True
        problem(await world.publish("e", payload=1), 504, "outcome_unknown")

    play(scene)


def test_waiting_for_the_sequencer_says_whether_it_is_a_repeat_and_the_epoch() -> None:
    async def scene(world: World) -> None:
        made = await world.create("t", settings={"profile": "ephemeral"})
        for repeat in (False, True):
            answer = (await world.publish("t", query="?wait=sequenced", payload=1, client_msg_id="c")).json()
            assert (answer["duplicate"], answer["epoch"]) == (repeat, made["epoch"]) and "seq" not in answer
        assert "duplicate" not in (await world.publish("t", payload=1)).json()
        path = "/api/v1/topics/t/publish/batch?wait=sequenced"
        (item,) = (await world.call("POST", path, json=[{"payload": 2}])).json()["results"]
        assert (item["duplicate"], item["epoch"]) == (False, made["epoch"])

    play(scene)


def _unheard(topic_id: str, user_id: str = "") -> None:
    """The word of a change that is lost."""
