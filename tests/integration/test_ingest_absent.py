"""A PRIVATE topic is exactly absent for strangers: every endpoint of the table that names a topic, by itself.

A new endpoint is covered without a change here, or the test says that it needs a request.
"""

import json
from typing import Any, Final

import pytest

from headgate.runtime.http.endpoints import Endpoint, endpoints_of
from tests.integration.ingest_twin import World, play

# Bodies and path parameters that make a request good. A topic's id is given by the test.
BODIES: Final[dict[str, bytes]] = {
    "publish": b'{"payload":1}',
    "publish_batch": b'[{"payload":1}]',
    "update_topic": b'{"name":"n"}',
    "set_member": b'{"role":"subscriber"}',
    "edit_message": b'{"payload":1,"version":1}',
}
PARAMETERS: Final = {"user_id": "eve", "message_id": "00000000-0000-8000-8000-000000000000", "name": "like"}
STRANGERS: Final[dict[str, dict[str, Any]]] = {
    "no claims": {},
    "claims of others": {"publish": ("other*",), "subscribe": ("other*", "hiddenx")},
    "only, of others": {"only": True, "publish": ("other",), "admin": True},
}
# What a member of role `publisher` is answered, by handler: he may see the info, publish, and change his own messages.
PUBLISHER: Final[dict[str, int]] = {
    "show_topic": 200,
    "update_topic": 403,
    "delete_topic": 403,
    "topic_stats": 200,
    "flush_topic": 403,
    "publish": 200,
    "publish_batch": 200,
    "history": 403,
    "show_message": 403,
    "edit_message": 200,
    "redact_message": 204,
    "add_reaction": 403,
    "remove_reaction": 403,
    "list_members": 403,
    "set_member": 403,
    "remove_member": 403,
    "list_subscribers": 200,
    "end_subscriptions": 200,
}
NAMED: Final = [row for row in endpoints_of("ingest") if "{topic_id}" in row.path and row.who == "user"]


async def ask(world: World, row: Endpoint, topic_id: str, token: str, **parameters: str) -> tuple[int, Any, list[Any]]:
    path = row.path.format(topic_id=topic_id, **{**PARAMETERS, **parameters})
    world.directory.asked.clear()
    started = world.clock.now()
    answer = await world.call(row.method, path, token, content=BODIES.get(row.handler, b""))
    assert world.clock.now() - started < 0.01
    body = json.loads(answer.content.replace(topic_id.encode(), b"TOPIC")) if answer.content else None
    headers = sorted((name, value) for name, value in answer.headers.items() if name != "content-length")
    asked = [(type(each), getattr(each, "caller", None)) for each in world.directory.asked]
    return answer.status_code, (body, headers), asked


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("auto_create", [False, True])
def test_hidden_and_missing_answer_alike_on_every_endpoint(stranger: str, auto_create: bool) -> None:
    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        await world.call("PUT", "/api/v1/topics/hidden/members/bo", json={"role": "member"})
        eve = world.token("eve", **STRANGERS[stranger])
        assert len(NAMED) >= 9
        for row in NAMED:
            creates = auto_create and row.handler in ("publish", "publish_batch")
            for user_id in ("eve", "bo"):
                hidden = await ask(world, row, "hidden", eve, user_id=user_id)
                again = await ask(world, row, "hidden", eve, user_id=user_id)
                assert hidden == again, "what is remembered changes nothing"
                assert (hidden[0], hidden[1][0]["code"]) == (404, "topic_not_found"), row
                if not creates or stranger == "only, of others":
                    missing = await ask(world, row, "missing", eve, user_id=user_id)
                    assert hidden == missing, row
        assert not world.owner.messages("hidden")
        assert (await world.call("GET", "/api/v1/topics/hidden")).json()["member_count"] == 2

    play(scene, auto_create=auto_create)


def test_a_member_without_the_right_is_told_so_on_every_endpoint() -> None:
    """The counterpart: the test above does not pass because every request is wrong."""

    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        for row in NAMED:
            await world.call("PUT", "/api/v1/topics/hidden/members/eve", json={"role": "publisher"})
            eve = world.token("eve", service=True)
            message_id = (await world.publish("hidden", eve, payload=1)).json()["message_id"]
            status, _, _ = await ask(world, row, "hidden", eve, user_id="bo", message_id=message_id)
            assert status == PUBLISHER[row.handler], row
            await world.create(f"own-{row.handler}", permissions="PRIVATE")
            root = world.token("root", admin=True, service=True)
            message_id = (await world.publish(f"own-{row.handler}", root, payload=1)).json()["message_id"]
            status, _, _ = await ask(world, row, f"own-{row.handler}", root, user_id="bo", message_id=message_id)
            assert status == row.answer.status, row

    play(scene)


def test_lists_and_batches_have_nothing_of_it() -> None:
    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        await world.create("seen")
        eve, bo = world.token("eve"), world.token("bo", subscribe=("hid*",))
        for token, topics in ((eve, ["seen"]), (bo, ["hidden", "seen"])):
            listed = (await world.call("GET", "/api/v1/topics", token)).json()
            assert [topic["topic_id"] for topic in listed["topics"]] == topics
        none = (await world.call("GET", "/api/v1/topics?prefix=hid", eve)).json()
        assert none == {"topics": [], "next_page": None}
        items = [{"topic_id": topic_id, "payload": 1} for topic_id in ("hidden", "missing", "seen")]
        results = (await world.call("POST", "/api/v1/publish/batch", eve, json=items)).json()["results"]
        hidden, missing, seen = results
        assert (hidden.pop("detail"), missing.pop("detail")) == (
            "there is no topic hidden",
            "there is no topic missing",
        )
        assert hidden == missing
        assert (hidden["code"], seen["status"]) == ("topic_not_found", 200)

    play(scene)


def test_an_owner_that_is_away_is_away_for_both() -> None:
    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        await world.publish("hidden", payload=1)
        world.directory.up = False
        for row in NAMED:
            hidden = await ask(world, row, "hidden", world.token("eve"))
            missing = await ask(world, row, "missing", world.token("eve"))
            assert hidden[0] == missing[0] == 503, row
            assert hidden[1][0]["code"] == "not_ready"

    play(scene)
