"""The inbox over HTTP: a user's topics, and what a device has missed in them."""

import asyncio
from typing import Any

import pytest

from headgate.core.wire import link_acks, link_inbox, link_messages
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import shard_of, topic_key
from ingest.pages import read_page
from tests.integration.inbox_twin import (
    ACK,
    INBOX,
    MESSAGES,
    SHARDS,
    InboxWorld,
    ack,
    filled,
    missed,
    play,
    published,
    topic_in,
    topics,
    user_in,
)
from tests.integration.ingest_twin import problem

# -- GET /inbox


def test_a_topic_of_the_inbox_says_where_the_device_and_the_user_are() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1, 2, 3)
        epoch = world.owner.row("t").epoch
        await ack(world, topic_id="t", seq=2)
        await ack(world, topic_id="t", seq=1, kind="read")
        assert await topics(world) == {
            "t": {
                "topic_id": "t",
                "epoch": epoch,
                "mode": "direct",
                "head_seq": 3,
                "cursor_seq": 2,
                "read_seq": 1,
                "unread": 2,
            }
        }
        other = (await topics(world, "?device_id=tablet"))["t"]
        assert (other["cursor_seq"], other["read_seq"]) == (0, 1)
        assert await topics(world, user="stranger") == {}

    play(scene)


def test_the_pages_of_the_inbox_hold_each_topic_once_in_order() -> None:
    async def scene(world: InboxWorld) -> None:
        names = [f"t{n}" for n in range(5)]
        for name in reversed(names):
            await filled(world, name)
        seen: list[str] = []
        page, pages = "", 0
        while True:
            answer = (await world.call("GET", f"{INBOX}?limit=2{page}", world.token("bo"))).json()
            seen += [topic["topic_id"] for topic in answer["topics"]]
            pages += 1
            if answer["next_page"] is None:
                break
            page = f"&page={answer['next_page']}"
        assert (seen, pages) == (names, 3)
        whole = (await world.call("GET", f"{INBOX}?limit=5", world.token("bo"))).json()
        assert whole["next_page"] is None
        largest = (await world.call("GET", f"{INBOX}?limit=1000", world.token("bo"))).json()
        assert [topic["topic_id"] for topic in largest["topics"]] == names

    play(scene)


def test_the_owner_of_the_users_shard_is_asked() -> None:
    async def scene(world: InboxWorld) -> None:
        user, topic_id = user_in(3), topic_in(1)
        asked: list[tuple[int, Any]] = []
        request = world.directory.request

        def noted(shard: int, build: Any, on_answer: Any) -> None:
            asked.append((shard, build(0)))
            request(shard, build, on_answer)

        (message_id,) = await filled(world, topic_id, 1, user=user)
        world.directory.request = noted  # type: ignore[method-assign]
        await topics(world, user=user)
        await missed(world, user=user)
        await ack(world, user, topic_id=topic_id, seq=1, kind="read")
        await ack(world, user, path="/ack", message_id=message_id, device_id="d")
        kinds = [(shard, type(question)) for shard, question in asked]
        assert kinds == [
            (3, link_inbox.AskInbox),
            (3, link_inbox.AskMissedTopics),
            (1, link_inbox.AskMissed),
            (1, link_inbox.ResolveMark),
            (3, link_inbox.MoveMarks),
            (1, link_messages.AskMessage),
            (1, link_inbox.ResolveMark),
            (3, link_acks.MoveCursors),
        ]
        assert {question.user_id for _, question in asked[:2]} == {user}
        assert [getattr(asked[at][1], "shard", None) for at in (2, 4, 7)] == [1, 3, 3]

    play(scene)


def test_a_token_with_only_gets_whole_pages_and_no_name_of_another_topic_in_next_page() -> None:
    async def scene(world: InboxWorld) -> None:
        for name in ("hidden1", "b1", "hidden2", "b2", "hidden3", "b3", "hidden4"):
            await filled(world, name, 1)
        little = world.token("bo", only=True, subscribe=("b*",))
        page: str | None = None
        found: list[str] = []
        while page is not None or not found:
            query = "?limit=1" if page is None else f"?limit=1&page={page}"
            answer = (await world.call("GET", f"{INBOX}{query}", little)).json()
            found += [topic["topic_id"] for topic in answer["topics"]]
            page = answer["next_page"]
            assert page is None or read_page(page, str) == found[-1]
        assert found == ["b1", "b2", "b3"]

    play(scene)


def test_a_token_with_only_sees_the_topics_that_it_names() -> None:
    async def scene(world: InboxWorld) -> None:
        for name in ("a", "b"):
            await filled(world, name, 1)
        little = world.token("bo", only=True, subscribe=("b",))
        answer = await world.call("GET", INBOX, little)
        assert [topic["topic_id"] for topic in answer.json()["topics"]] == ["b"]
        body = {"seq": 1, "kind": "read"}
        problem(await world.call("POST", ACK, little, json={"topic_id": "a", **body}), 403, "forbidden")
        assert (await world.call("POST", ACK, little, json={"topic_id": "b", **body})).status_code == 204

    play(scene)


# -- GET /inbox/messages


def test_missed_messages_come_topic_by_topic_by_the_oldest_of_each() -> None:
    async def scene(world: InboxWorld) -> None:
        for name in ("b", "a", "c"):
            await filled(world, name)
        for topic_id, payload in (("c", 1), ("a", 1), ("b", 1), ("c", 2), ("a", 2)):
            await published(world, topic_id, payload)
        assert await missed(world) == ([("c", 1), ("c", 2), ("a", 1), ("a", 2), ("b", 1)], False)
        assert await missed(world, "?limit=3") == ([("c", 1), ("c", 2), ("a", 1)], True)
        assert await missed(world, "?limit=5") == ([("c", 1), ("c", 2), ("a", 1), ("a", 2), ("b", 1)], False)

    play(scene)


def test_a_loop_of_reading_and_acknowledging_gives_each_message_once() -> None:
    async def scene(world: InboxWorld) -> None:
        expected = []
        for n in range(8):
            await filled(world, f"t{n}", *range(5))
            expected += [(f"t{n}", payload) for payload in range(5)]
        seen: list[Any] = []
        more = True
        while more:
            answer = (await world.call("GET", f"{MESSAGES}?limit=7&device_id=d", world.token("bo"))).json()
            seen += [(frame["topic_id"], frame["payload"]) for frame in answer["messages"]]
            more = answer["more"]
            last = {frame["topic_id"]: frame["seq"] for frame in answer["messages"]}
            for topic_id, seq in last.items():
                assert (await ack(world, topic_id=topic_id, seq=seq, device_id="d")).status_code == 204
        assert seen == expected
        assert await missed(world, "?device_id=d") == ([], False)
        assert len((await missed(world, "?device_id=other"))[0]) == 40

    play(scene)


def test_the_frames_are_carried_as_they_are() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t")
        await world.call("POST", "/api/v1/topics/t/publish", content=b'{"payload": {"z":1e999, "a":1.50}}')
        answer = await world.call("GET", MESSAGES, world.token("bo"))
        assert b'"payload":{"z":1e999,"a":1.50}' in answer.content
        assert answer.content.endswith(b'}],"more":false}')

    play(scene)


def test_a_message_comes_as_it_is_now_and_events_do_not_come() -> None:
    async def scene(world: InboxWorld) -> None:
        first, second = await filled(world, "t", "a", "b")
        edit = {"payload": "A", "version": 1}
        assert (await world.call("PATCH", f"/api/v1/topics/t/messages/{first}", json=edit)).status_code == 200
        assert (await world.call("DELETE", f"/api/v1/topics/t/messages/{second}")).status_code == 204
        assert await missed(world) == ([("t", "A"), ("t", None)], False)
        await ack(world, topic_id="t", seq=2)
        assert await missed(world) == ([], False)

    play(scene)


def test_topics_of_which_only_events_are_new_do_not_end_the_search() -> None:
    async def scene(world: InboxWorld) -> None:
        world.owner.page_topics = 1
        (first,) = await filled(world, "a", 1)
        await ack(world, topic_id="a", seq=1)
        assert (await world.call("DELETE", f"/api/v1/topics/a/messages/{first}")).status_code == 204
        await filled(world, "b", 1)
        await filled(world, "c", 1)
        assert await missed(world) == ([("b", 1), ("c", 1)], False)
        assert await missed(world, "?limit=1") == ([("b", 1)], True)

    play(scene)


def test_a_topic_that_moves_between_two_pages_comes_once() -> None:
    async def scene(world: InboxWorld) -> None:
        world.owner.page_topics = 1
        await filled(world, "a", 1)
        await filled(world, "b", 1)
        pages: list[int] = []

        def moved(request: Any) -> None:
            if isinstance(request, link_inbox.AskMissedTopics):
                pages.append(request.after_ts)
                if len(pages) == 2:
                    last = world.owner.frames["a"][-1]
                    world.owner.frames["a"].append(last._replace(seq=2, ts=last.ts + 50_000, id=b"x"))
                    world.owner.rows[shard_of(topic_key("a"), SHARDS)][topic_key("a")].seq = 2

        world.owner.before = moved
        assert await missed(world) == ([("a", 1), ("b", 1)], False)
        assert len(pages) == 3

    play(scene)


def test_ten_pages_of_topics_are_looked_at() -> None:
    async def scene(world: InboxWorld) -> None:
        world.owner.page_topics = 1
        for n in range(12):
            await filled(world, f"t{n:02}", 1)
        found, more = await missed(world)
        assert ([topic_id for topic_id, _ in found], more) == ([f"t{n:02}" for n in range(10)], True)

    play(scene)


def test_where_one_owner_is_away_the_others_topics_come_and_more_says_so() -> None:
    async def scene(world: InboxWorld) -> None:
        away, there = topic_in(1), topic_in(2)
        await filled(world, away, 1)
        await filled(world, there, 1)
        world.owner.away = {1}
        assert await missed(world) == ([(there, 1)], True)
        await ack(world, topic_id=there, seq=1)
        problem(await world.call("GET", MESSAGES, world.token("bo")), 503, "not_ready")
        world.owner.away = set()
        assert await missed(world) == ([(away, 1)], False)

    play(scene)


def test_an_owner_that_answers_with_nothing_is_an_answer() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        world.owner.empty = True
        assert await missed(world) == ([], True)

    play(scene)


def test_with_the_owner_of_the_user_away_it_is_not_ready() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        for kind, path in ((link_inbox.AskInbox, INBOX), (link_inbox.AskMissedTopics, MESSAGES)):
            world.owner.refused = {kind: Refusal("not_ready", "away")}
            problem(await world.call("GET", path, world.token("bo")), 503, "not_ready")
        world.owner.refused = {}
        world.directory.up = False
        for path in (INBOX, MESSAGES):
            problem(await world.call("GET", path, world.token("bo")), 503, "not_ready")

    play(scene)


def test_with_the_owner_of_the_user_away_between_two_pages_there_is_more() -> None:
    async def scene(world: InboxWorld) -> None:
        world.owner.page_topics = 1
        for name in ("a", "b"):
            await filled(world, name, 1)

        def left(request: Any) -> None:
            if isinstance(request, link_inbox.AskMissed):
                world.owner.refused = {link_inbox.AskMissedTopics: Refusal("not_ready", "away")}

        world.owner.before = left
        assert await missed(world) == ([("a", 1)], True)

    play(scene)


def test_an_owner_that_does_not_answer_does_not_hold_the_search() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        ask = world.directory._ask

        def silent(request: Any, on_answer: Any) -> None:
            if not isinstance(request, link_inbox.AskMissed):
                ask(request, on_answer)

        world.directory._ask = silent  # type: ignore[method-assign]
        begin = world.clock.now()
        problem(await world.call("GET", MESSAGES, world.token("bo")), 503, "not_ready")
        assert world.clock.now() - begin == pytest.approx(3.0, abs=0.1)
        world.directory.mute = True
        for path in (INBOX, MESSAGES):
            problem(await world.call("GET", path, world.token("bo")), 503, "not_ready")

    play(scene)


def test_an_answer_is_bounded_in_bytes_and_has_one_message_at_least() -> None:
    async def scene(world: InboxWorld) -> None:
        for n in range(3):
            await filled(world, f"t{n}", *["x" * 60_000] * 60)
        found, more = await missed(world, "?limit=1000")
        assert (0 < len(found) < 180, more) == (True, True)
        world.owner.missed_bytes = 1
        found, more = await missed(world, "?limit=1000")
        assert (found[0][0], more) == ("t0", True)

    play(scene, held_bytes_per_user=64 * 1024 * 1024)


def test_the_share_of_the_request_counts_what_is_held_at_once_and_no_more() -> None:
    """Ten rounds of a mebibyte each fit into a budget that has room for three."""

    async def scene(world: InboxWorld) -> None:
        world.owner.page_topics = 1
        for n in range(10):
            await filled(world, f"t{n}", *["x" * 60_000] * 2)
        found, more = await missed(world)
        assert (len(found), more) == (20, False)

    play(scene, held_bytes_per_user=3 * 1024 * 1024)


def test_of_one_users_inbox_one_page_is_made_at_a_time() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        request, waiting = world.directory.request, list[Any]()

        def slow(shard: int, build: Any, on_answer: Any) -> None:
            if isinstance(build(0), link_inbox.AskInbox | link_inbox.AskMissedTopics) and build(0).user_id == "bo":
                waiting.append(lambda: request(shard, build, on_answer))
            else:
                request(shard, build, on_answer)

        world.directory.request = slow  # type: ignore[method-assign]
        asking = [
            asyncio.ensure_future(world.call("GET", path, world.token("bo"))) for path in (INBOX, MESSAGES, INBOX)
        ]
        await asyncio.sleep(0.5)
        assert len(waiting) == 1 and await topics(world, user="stranger") == {}
        for at in range(3):
            waiting[at]()
            await asyncio.sleep(0.1)
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 3

    play(scene)
