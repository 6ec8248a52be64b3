"""The channel vocabulary over the same handlers: what it adds are names, pages, and messages by their ids alone."""

import asyncio
from typing import Any

from headgate.core.wire import link
from headgate.core.wire.link_messages import AskMessage
from ingest.rates import RateLimits
from tests.integration.ingest_twin import World, play, problem

NOBODY = "00000000-0000-8000-8000-000000000000"


async def send(world: World, content: Any = 1, token: str = "", **more: Any) -> dict[str, Any]:
    body = {"channel_id": "t", "content": content, **more}
    answer = await world.call("POST", "/send_message", token, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def listed(world: World, query: str = "") -> dict[str, Any]:
    return (await world.call("GET", f"/messages?channel_id=t{query}")).json()  # type: ignore[no-any-return]


def test_a_message_is_sent_and_its_time_is_that_of_the_record() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        sent = await send(world, client_msg_id="c")
        await asyncio.sleep(3)
        assert await send(world, client_msg_id="c") == sent, "a repeat is told the first time"
        (message,) = (await listed(world))["messages"]
        assert (message["message_id"], message["created_at"]) == (sent["message_id"], sent["timestamp"])
        headers = {"Idempotency-Key": "c"}
        body = {"channel_id": "t", "content": 1}
        again = await world.call("POST", "/send_message?wait=nonsense", json=body, headers=headers)
        assert again.json() == sent, "a query string is nothing to it"

    play(scene)


def test_an_ephemeral_channel_takes_messages_and_lists_none() -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings={"profile": "ephemeral"})
        before = world.clock.wall_ms()
        sent = await send(world)
        assert sent["timestamp"].startswith("2")
        assert world.clock.wall_ms() - before < 1_000
        problem(await world.call("GET", "/messages?channel_id=t"), 422, "not_in_profile")

    play(scene)


def test_pages_hold_messages_alone_and_end() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        ids = [(await send(world, n))["message_id"] for n in range(5)]
        body = {"message_id": ids[0], "content": "new", "version": 1}
        edited = (await world.call("POST", "/edit_message", json=body)).json()
        assert (edited["content"], edited["seq_no"], edited["channel_id"]) == ("new", 1, "t")
        found, page = [], ""
        for _ in range(4):
            answer = await listed(world, f"&page_size=2{page}")
            found += [(message["seq_no"], message["content"]) for message in answer["messages"]]
            if answer["next_page"] is None:
                break
            page = f"&page={answer['next_page']}"
        assert found == [(1, "new"), (2, 1), (3, 2), (4, 3), (5, 4)]
        asked = [ask for ask in world.directory.asked if isinstance(ask, link.AskHistory)]
        assert {ask.kinds for ask in asked} == {"message"}
        assert [message["seq_no"] for message in (await listed(world, "&since_ts=1&page_size=2"))["messages"]] == [1, 2]

    play(scene)


def test_a_page_of_a_channel_that_was_made_again_is_gone() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for _ in range(3):
            await send(world)
        page = (await listed(world, "&page_size=2"))["next_page"]
        await world.call("DELETE", "/api/v1/topics/t")
        await world.create("t")
        await send(world)
        problem(await world.call("GET", f"/messages?channel_id=t&page={page}"), 410, "gone")

    play(scene)


def test_a_history_that_is_being_rebuilt_is_no_page() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        answer = world.owner._AskHistory

        def incomplete(ask: link.AskHistory) -> link.Answer:
            page = answer(ask)
            assert isinstance(page, link.HistoryPage)
            page.complete = False
            return page

        world.owner._AskHistory = incomplete  # type: ignore[method-assign]
        problem(await world.call("GET", "/messages?channel_id=t"), 503, "not_ready")

    play(scene)


def test_a_message_of_a_hidden_channel_is_like_one_that_never_was() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        message_id = (await send(world))["message_id"]
        eve = world.token("eve")
        requests: list[tuple[str, dict[str, Any]]] = [
            ("/edit_message", {"content": 2, "version": 1}),
            ("/delete_message", {}),
            ("/react", {"reaction": "x"}),
        ]
        for path, body in requests:
            answers = []
            for asked in (message_id, NOBODY):
                world.directory.asked.clear()
                answer = await world.call("POST", path, eve, json={"message_id": asked, **body})
                told = problem(answer, 404, "message_not_found")
                kinds = [type(ask) for ask in world.directory.asked]
                answers.append((told["detail"].replace(asked, "ID"), kinds))
            assert answers[0] == answers[1]
            assert answers[0][1] == [AskMessage]
        assert [frame["payload"] for frame in world.owner.messages("t")] == [1]

    play(scene)


def test_a_hidden_channel_is_absent_before_anything_of_the_request_is_wrong() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        message_id, eve = (await send(world))["message_id"], world.token("eve")
        problem(await world.call("POST", "/send_message", eve, json={"channel_id": "t"}), 404, "topic_not_found")
        problem(await world.call("GET", "/messages?channel_id=t&page=x", eve), 404, "topic_not_found")
        body = {"message_id": message_id}
        problem(await world.call("POST", "/edit_message", eve, json=body), 404, "message_not_found")
        told = problem(await world.call("POST", "/edit_message", json=body), 400, "invalid_payload")
        assert "content" in told["detail"]
        assert "channel_id" in problem(await world.call("GET", "/messages", eve), 400, "bad_request")["detail"]

    play(scene)


def test_reactions_and_redactions_count_as_publishes_here_too() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bo = world.token("bo")
        message_id = (await send(world, token=bo))["message_id"]
        body = {"message_id": message_id, "reaction": "x"}
        reacted = await world.call("POST", "/react", bo, json=body)
        assert (reacted.status_code, reacted.headers["ratelimit"][:11]) == (204, '"user";r=1;')
        assert (await world.call("GET", f"/api/v1/topics/t/messages/{message_id}")).json()["reactions"] == {"x": 1}
        removed = await world.call("POST", "/react", bo, json={**body, "remove": True})
        assert removed.headers["ratelimit"].startswith('"user";r=0;')
        problem(await world.call("POST", "/delete_message", bo, json={"message_id": message_id}), 429, "rate_limited")

    play(scene, rates=RateLimits(publish_per_user_per_min=3))
