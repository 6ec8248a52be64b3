"""Topics over HTTP: creation and its races, what is shown, lists across shards, deletion."""

import re
from typing import Any

import httpx
import pytest

from headgate.core.wire.rights import Caller
from headgate.core.wire.topic_settings import DEFAULTS
from headgate.runtime.testing.faulty_log import Reach
from ingest.catalog import INGEST, Known
from tests.integration.ingest_twin import World, play, problem

TOPICS = "/api/v1/topics"


def test_create_answers_the_topic() -> None:
    async def scene(world: World) -> None:
        made = await world.create("t", name="Tea", settings={"presence": "none"})
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made.pop("created_at"))
        assert made.pop("epoch") > 0
        settings = DEFAULTS | {"presence": "none"}
        assert made == {
            "topic_id": "t",
            "name": "Tea",
            "permissions": "PUBLIC",
            "owner_id": "ana",
            "settings": settings,
        }

    play(scene)


@pytest.mark.parametrize("value", [b"1e400", b'"\\ud800"'])
def test_a_member_that_is_not_known_is_ignored_whatever_its_value(value: bytes) -> None:
    async def scene(world: World) -> None:
        body = b'{"name":"n","topic_id":"t","x":%b,"settings":{"presence":"none"}}' % value
        answer = await world.call("POST", TOPICS, content=body)
        assert (answer.status_code, answer.json()["settings"]["presence"]) == (201, "none")
        for bad, named in (
            (b'"name":%b', "name"),
            (b'"name":"n","settings":{"burst":1,"hot_exit":%b}', "settings.burst"),
        ):
            answer = await world.call("POST", TOPICS, content=b"{" + bad % value + b"}")
            assert problem(answer, 400, "bad_request")["detail"].startswith(named)
        bad = b'{"name":"n","settings":{"rate_limit":{"per_s":%b}}}' % value
        answer = await world.call("POST", TOPICS, content=bad)
        assert problem(answer, 400, "bad_request")["detail"].startswith("settings.rate_limit.per_s must be")
        answer = await world.call("POST", TOPICS, content=b'{"name":"n","settings":{"\\ud800":1}}')
        problem(answer, 400, "bad_request")

    play(scene)


def test_show_answers_the_topic_as_it_is_now() -> None:
    async def scene(world: World) -> None:
        made = await world.create("t")
        world.owner.counts["t"] = 7
        await world.publish("t", payload=1)
        shown = (await world.call("GET", f"{TOPICS}/t")).json()
        live = {"subscriber_count": 7, "member_count": 1, "seq": 1, "mode": "direct"}
        assert shown == made | live
        head = await world.call("HEAD", f"{TOPICS}/t")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 100

    play(scene)


def test_an_id_is_made_when_none_is_given() -> None:
    async def scene(world: World) -> None:
        first, second = [(await world.call("POST", TOPICS, json={"name": "n"})).json() for _ in range(2)]
        assert first["topic_id"] != second["topic_id"]
        assert (await world.call("GET", f"{TOPICS}/{first['topic_id']}")).status_code == 200

    play(scene)


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({}, "bad_request", "name"),
        ({"name": ""}, "bad_request", "name"),
        ({"name": 5}, "bad_request", "name"),
        ({"name": "n" * 257}, "bad_request", "name"),
        ({"name": "n", "permissions": "OPEN"}, "bad_request", "permissions"),
        ({"name": "n", "permissions": ["PUBLIC"]}, "bad_request", "permissions"),
        ({"name": "n", "settings": {"colour": 1}}, "bad_request", "settings.colour"),
        ({"name": "n", "settings": {"on_slow": "conflate"}}, "bad_request", "settings.on_slow"),
        ({"name": "n", "topic_id": 5}, "bad_request", "topic_id"),
        ({"name": "n", "topic_id": "hg:x"}, "invalid_topic_id", "ids"),
        ({"name": "n", "topic_id": "dm:x"}, "invalid_topic_id", "ids"),
        ({"name": "n", "topic_id": "a/b"}, "invalid_topic_id", "a topic id"),
        ([], "bad_request", "the body"),
    ],
)
def test_create_names_what_is_wrong(body: Any, code: str, named: str) -> None:
    async def scene(world: World) -> None:
        answer = await world.call("POST", TOPICS, json=body)
        assert problem(answer, 400, code)["detail"].startswith(named)

    play(scene)


def test_a_second_create_is_409_at_once_and_says_whose_it_is() -> None:
    async def scene(world: World) -> None:
        made = await world.create("t")
        answer = await world.call("POST", TOPICS, world.token("bo"), json={"topic_id": "t", "name": "mine"})
        body = problem(answer, 409, "topic_exists")
        assert (body["owner_id"], body["epoch"]) == ("ana", made["epoch"])

    play(scene)


def test_a_409_tells_nothing_of_a_private_topic() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        answer = await world.call("POST", TOPICS, world.token("bo"), json={"topic_id": "t", "name": "mine"})
        assert "owner_id" not in problem(answer, 409, "topic_exists")

    play(scene)


@pytest.mark.parametrize("topic_id", [None, "t"])
def test_a_repeated_create_with_the_same_key_is_the_first_one(topic_id: str | None) -> None:
    async def scene(world: World) -> None:
        body = {"name": "n"} | ({"topic_id": topic_id} if topic_id else {})
        key = {"Idempotency-Key": "k1"}
        first = await world.call("POST", TOPICS, json=body, headers=key)
        again = await world.call("POST", TOPICS, json=body, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        other = body | {"name": "other"}
        problem(await world.call("POST", TOPICS, json=other, headers=key), 422, "idempotency_conflict")
        if topic_id is None:
            return
        ingest, log, _, _ = world.another()
        await log.open()
        async with world.client_of(ingest) as client:
            headers = key | {"Authorization": f"Bearer {world.token(service=True)}"}
            late = await client.post(TOPICS, json=other, headers=headers)
        assert late.status_code == 201 and late.json() == first.json(), "an ingest that does not know the first one"

    play(scene)


def test_a_key_of_a_create_is_no_client_msg_id() -> None:
    async def scene(world: World) -> None:
        for op in ("POST", "DELETE"):
            path = TOPICS if op == "POST" else f"{TOPICS}/t"
            body: dict[str, Any] = {"json": {"topic_id": "t", "name": "n"}} if op == "POST" else {}
            await world.call(op, path, headers={"Idempotency-Key": "k"}, **body)
            if op == "POST":
                answer = await world.publish("t", payload=1, client_msg_id="k", query="?wait=sequenced")
                assert (answer.json()["seq"], answer.json()["duplicate"]) == (1, False)
        problem(await world.call("GET", f"{TOPICS}/t"), 404, "topic_not_found")

    play(scene)


def test_delete_ends_the_topic_and_a_new_one_begins_anew() -> None:
    async def scene(world: World) -> None:
        first = await world.create("t")
        await world.publish("t", payload=1)
        answer = await world.call("DELETE", f"{TOPICS}/t", headers={"Idempotency-Key": "d"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-type" not in answer.headers
        problem(await world.publish("t", payload=1), 404, "topic_not_found")
        problem(await world.call("DELETE", f"{TOPICS}/t"), 404, "topic_not_found")
        repeated = await world.call("DELETE", f"{TOPICS}/t", headers={"Idempotency-Key": "d"})
        assert repeated.status_code == 204
        second = await world.create("t")
        assert second["epoch"] != first["epoch"]
        sequenced = await world.publish("t", payload=1, query="?wait=sequenced")
        assert (sequenced.json()["seq"], sequenced.json()["epoch"]) == (1, second["epoch"])

    play(scene)


def test_a_delayed_delete_never_hits_the_topic_that_was_made_again() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        _, other, _, _ = elsewhere = world.another()
        await other.open()
        async with world.client_of(elsewhere[0]) as client:
            auth = {"Authorization": f"Bearer {world.token(service=True)}"}
            catalog = elsewhere[0]._catalog
            fetch = catalog.fetch

            async def fetch_and_pause(topic_id: str, caller: Caller = INGEST) -> Known:
                found = await fetch(topic_id, caller)  # checked, and not in the log yet
                catalog.fetch = fetch  # type: ignore[method-assign]
                await world.call("DELETE", f"{TOPICS}/t")
                await world.create("t")
                return found

            catalog.fetch = fetch_and_pause  # type: ignore[method-assign]
            problem(await client.delete(f"{TOPICS}/t", headers=auth), 404, "topic_not_found")
        assert (await world.call("GET", f"{TOPICS}/t")).status_code == 200

    play(scene)


def test_lists_are_paged_across_shards_and_show_what_one_may_see() -> None:
    async def scene(world: World) -> None:
        names = [f"n{at:02}" for at in range(12)]
        for name in names:
            await world.create(name)
        await world.create("hidden", permissions="PRIVATE")
        assert await _all_pages(world, world.token("bo"), limit=5) == [names[:5], names[5:10], names[10:]]
        assert await _all_pages(world, world.token("bo"), limit=12) == [names]
        assert await _all_pages(world, "", limit=100, prefix="hid") == [["hidden"]]
        assert await _all_pages(world, "", limit=1, prefix="zzz") == [[]]

    play(scene)


def test_a_page_ends_where_a_shard_may_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.topics.LISTED", 8)

    async def scene(world: World) -> None:
        names = [f"n{at:02}" for at in range(30)]
        for name in names:
            await world.create(name)
        pages = await _all_pages(world, "", limit=30)
        assert [name for page in pages for name in page] == names
        assert len(pages) > 2

    play(scene)


async def _all_pages(world: World, token: str, **query: Any) -> list[list[str]]:
    pages = []
    while True:
        body = (await world.call("GET", TOPICS, token, params=query)).json()
        pages.append([topic["topic_id"] for topic in body["topics"]])
        if body["next_page"] is None:
            return pages
        query["page"] = body["next_page"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=", "page=%21", "page=", "page=4pyT"])
def test_bad_pages_are_refused(query: str) -> None:
    async def scene(world: World) -> None:
        problem(await world.call("GET", f"{TOPICS}?{query}"), 400, "bad_request")

    play(scene)


def test_with_the_owner_away_nothing_is_handed_over() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.directory.up = False
        before = world.metrics.records
        problem(await world.call("POST", TOPICS, json={"topic_id": "u", "name": "n"}), 503, "not_ready")
        problem(await world.call("DELETE", f"{TOPICS}/t"), 503, "not_ready")
        problem(await world.call("GET", f"{TOPICS}/t"), 503, "not_ready")
        problem(await world.call("GET", TOPICS), 503, "not_ready")
        assert world.metrics.records == before

    play(scene)


def test_a_silent_owner_is_504_after_seven_seconds() -> None:
    async def scene(world: World) -> None:
        world.directory.mute = True
        started = world.clock.now()
        answer = await world.call("POST", TOPICS, json={"topic_id": "u", "name": "n"}, headers={"Idempotency-Key": "k"})
        assert problem(answer, 504, "outcome_unknown")["topic_id"] == "u"
        assert 6.5 <= world.clock.now() - started <= 7.5
        world.directory.mute = False
        again = await world.call("POST", TOPICS, json={"topic_id": "u", "name": "n"}, headers={"Idempotency-Key": "k"})
        assert again.status_code == 201

    play(scene)


def test_an_owner_that_comes_back_in_time_gives_the_verdict() -> None:
    async def scene(world: World) -> None:
        loop = world.clock
        append = world.log.append

        def lose_owner(*args: Any, **named: Any) -> Any:
            world.directory.up = False
            return append(*args, **named)

        world.log.append = lose_owner  # type: ignore[method-assign]

        def come_back() -> None:
            world.directory.up = True
            for shard in range(world.directory.shards):
                world.ingest.on_owner(shard, True)

        loop.call_later(3.0, come_back)
        answer = await world.call("POST", TOPICS, json={"topic_id": "u", "name": "n"})
        assert answer.status_code == 201

    play(scene)


def test_a_closed_log_is_503_and_a_silent_one_504() -> None:
    async def scene(world: World) -> None:
        world.log.reach = Reach.REFUSED
        problem(await world.call("POST", TOPICS, json={"topic_id": "u", "name": "n"}), 503, "log_unavailable")
        world.log.reach = Reach.SILENT
        problem(await world.call("POST", TOPICS, json={"topic_id": "u", "name": "n"}), 504, "outcome_unknown")

    play(scene)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", f"{TOPICS}/t", "DELETE, GET, HEAD, PATCH"),
        ("PUT", TOPICS, "GET, HEAD, POST"),
        ("GET", f"{TOPICS}/t/publish", "POST"),
        ("POST", f"{TOPICS}/t/subscribe", "DELETE, GET, HEAD"),
        ("OPTIONS", TOPICS, "GET, HEAD, POST"),
        ("POST", f"{TOPICS}/t/messages", "GET, HEAD"),
    ],
)
def test_a_wrong_method_names_the_right_ones(method: str, path: str, allow: str) -> None:
    async def scene(world: World) -> None:
        answer = await world.call(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allow

    play(scene)


def test_a_stream_path_is_sent_to_the_gateway() -> None:
    async def scene(world: World) -> None:
        answer = await world.call("GET", f"{TOPICS}/a:b/subscribe?from=earliest&x=%20&ticket=s", None)
        assert answer.status_code == 307
        assert answer.headers["location"] == "/sse/subscribe?topic_id=a:b&from=earliest&x=%20&ticket=s"

    play(scene)


def test_in_dev_the_stream_path_is_the_gateways() -> None:
    async def scene(world: World) -> None:
        problem(await world.call("GET", f"{TOPICS}/t/subscribe"), 404, "not_found")

    play(scene, redirect_streams=False)


def test_another_ingest_knows_a_topic_and_its_end_in_two_seconds() -> None:
    async def scene(world: World) -> None:
        service, log, _, _ = world.another()
        await log.open()
        client: httpx.AsyncClient
        async with world.client_of(service) as client:
            auth = {"Authorization": f"Bearer {world.token(service=True)}"}

            async def publish() -> int:
                answer = await client.post(f"{TOPICS}/t/publish", json={"payload": 1}, headers=auth)
                return answer.status_code

            assert await publish() == 404
            await world.create("t")
            assert await publish() == 200
            await world.call("DELETE", f"{TOPICS}/t")
            world.clock.virtual.now += 2.1
            assert await publish() == 404

    play(scene)


def test_an_only_token_sees_the_info_of_its_own_topics_alone() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        cases: list[tuple[dict[str, Any], int]] = [
            ({"subscribe": ("t",)}, 200), ({"publish": ("t*",)}, 200), ({"subscribe": ("x",)}, 403),
        ]  # fmt: skip
        for rights, status in cases:
            token = world.token("eve", only=True, **rights)
            answer = await world.call("GET", "/api/v1/topics/t", token)
            assert answer.status_code == status
            problem(await world.call("GET", "/api/v1/topics/none", token), 404, "topic_not_found")
        problem(answer, 403, "forbidden")

    play(scene)


def test_a_topic_that_names_no_profile_is_what_the_setting_says() -> None:
    async def scene(world: World) -> None:
        assert (await world.create("t"))["settings"]["profile"] == "ephemeral"
        assert (await world.create("d", settings={"profile": "durable"}))["settings"]["profile"] == "durable"
        assert (await world.publish("new", payload=1)).json()["dropped"] is True, "made by its first publish"
        made = await world.call("POST", "/api/v1/direct", json={"user_id": "bo"})
        assert made.json()["settings"]["profile"] == "ephemeral"
        assert world.owner.messages("t") == []

    play(scene, profile="ephemeral", auto_create=True)
