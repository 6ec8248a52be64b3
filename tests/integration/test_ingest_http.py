"""What every answer has, and history: CORS, HEAD, deadlines, trouble inside, drain, pages of frames."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.integration.ingest_twin import World, play, problem

TOPIC = "/api/v1/topics/t"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize(
    ("options", "origin", "allowed"),
    [
        ({}, "http://ingest.test", True),
        ({}, "https://ingest.test", True),
        ({}, "http://localhost:3000", False),
        ({}, "https://evil.test", False),
        ({}, "null", False),
        ({"origins": ("loopback",)}, "http://localhost:3000", True),
        ({"origins": ("loopback",)}, "http://127.0.0.1:5173", True),
        ({"origins": ("loopback",)}, "http://[::1]:5173", True),
        ({"origins": ("loopback",)}, "http://localhost.evil.test", False),
        ({"origins": ("loopback",)}, "http://127.0.0.1.evil.test", False),
        ({"origins": ("https://app.test",)}, "https://app.test", True),
        ({"origins": ("https://app.test",)}, "https://app.test.evil", False),
        ({"origins": ("https://app.test",)}, "http://ingest.test", False),
        ({"origins": ("*",)}, "https://any.test", True),
    ],
)
def test_cors(options: dict[str, Any], origin: str, allowed: bool) -> None:
    async def scene(world: World) -> None:
        answer = await world.call("GET", TOPIC, headers={"Origin": origin})
        problem(answer, 404, "topic_not_found")
        preflight = await world.call("OPTIONS", f"{TOPIC}/publish", None, headers={"Origin": origin, **PREFLIGHT})
        for got in (answer, preflight):
            assert (got.headers.get("access-control-allow-origin") == origin) == allowed
            assert got.headers["vary"] == "Origin"
        if not allowed:
            problem(preflight, 403, "forbidden")
            return
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-methods"] == "POST"
        assert preflight.headers["access-control-allow-headers"] == "authorization"

    play(scene, **options)


def test_no_origin_no_cors_and_a_preflight_to_nowhere() -> None:
    async def scene(world: World) -> None:
        answer = await world.call("GET", TOPIC)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        problem(await world.call("OPTIONS", "/nowhere", None, headers={"Origin": "x", **PREFLIGHT}), 404, "not_found")

    play(scene)


def test_a_body_that_does_not_come_is_408() -> None:
    async def scene(world: World) -> None:
        async def slow() -> Any:
            yield b'{"payload":'
            await asyncio.sleep(11)
            yield b"1}"

        request = world.client.build_request("POST", f"{TOPIC}/publish", content=slow())
        started = world.clock.now()
        answer = await world.client.send(request)
        problem(answer, 408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert world.clock.now() - started == pytest.approx(10)

    play(scene)


def test_what_is_being_answered_is_bounded() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.latency = lambda log, shard: 1
        codes = [
            answer.status_code for answer in await asyncio.gather(*[world.publish("t", payload=1) for _ in range(5)])
        ]
        assert sorted(codes) == [200, 200, 200, 503, 503]
        problem(await world.publish("t", payload="x" * 20_000 * 2), 413, "too_large")  # no waiting would help
        assert (await world.publish("t", payload=1)).status_code == 200

    play(scene, held_bytes=3 * 16 * 1024 + 100)


def test_a_client_that_goes_away_gets_no_answer() -> None:
    async def scene(world: World) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "raw_path": b"/api/v1/topics", "query_string": b"", "headers": []}
        scope["headers"] = [
            (b"host", b"h"),
            (b"authorization", f"Bearer {world.token()}".encode()),
            (b"content-length", b"9"),
        ]
        await world.ingest.app(scope, receive, send)
        assert sent == []

    play(scene)


def test_trouble_inside_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(world: World) -> None:
        def broken(*args: Any, **named: Any) -> Any:
            raise ValueError("planted")

        world.directory.shard_of = broken  # type: ignore[method-assign]
        answer = await world.call("GET", TOPIC)
        assert "planted" not in problem(answer, 500, "internal")["detail"]

    play(scene)
    assert "planted" in caplog.text


def test_a_websocket_and_a_lifespan_are_answered() -> None:
    async def scene(world: World) -> None:
        sent: list[Any] = []
        queue = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Any:
            return queue.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await world.ingest.app({"type": "lifespan"}, receive, send)
        await world.ingest.app({"type": "websocket"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]

    play(scene)


def test_drain_waits_for_the_answers_under_way() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.latency = lambda log, shard: 1.5
        publish = asyncio.ensure_future(world.publish("t", payload=1))
        await asyncio.sleep(0.1)
        await world.ingest.drain(0.2)
        assert not publish.done()
        await world.ingest.drain(5)
        assert (await publish).status_code == 200
        await world.ingest.drain(5)

    play(scene)


def test_readiness_names_what_is_missing() -> None:
    async def scene(world: World) -> None:
        assert world.ingest.refused_shards() is None and world.ingest.open_circuits() == []
        world.directory.up = False
        assert world.directory.missing() == "the owners of all shards are away"

    play(scene)


# -- history


async def _filled(world: World, count: int) -> None:
    await world.create("t")
    await world.call("POST", f"{TOPIC}/publish/batch", json=[{"payload": at} for at in range(1, count + 1)])


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("", range(21, 121)),
        ("?limit=3", range(118, 121)),
        ("?after_seq=0&limit=2", range(1, 3)),
        ("?after_seq=5&limit=1000", range(6, 121)),
        ("?before_seq=5&kinds=message", range(1, 5)),
        ("?after_seq=120", range(0)),
    ],
)
def test_history_is_the_frames(query: str, seqs: range) -> None:
    async def scene(world: World) -> None:
        await _filled(world, 120)
        answer = await world.call("GET", f"{TOPIC}/messages{query}")
        body = answer.json()
        assert [message["seq"] for message in body["messages"]] == list(seqs)
        assert [message["payload"] for message in body["messages"]] == list(seqs)
        assert (body["first_seq"], body["last_seq"], body["complete"]) == (1, 120, True)
        assert set(body) == {"messages", "epoch", "first_seq", "last_seq", "complete"}

    play(scene)


@pytest.mark.parametrize(
    "query",
    ["after_seq=x", "after_seq=-1", "after_seq=", "before_seq=1.5", "since_ts=now", "limit=0", "limit=1001",
     "kinds=edit", "kinds=message,edit", "after_seq=99999999999999999", "parent_message_id=x"],
)  # fmt: skip
def test_history_refuses_what_it_cannot_read(query: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        problem(await world.call("GET", f"{TOPIC}/messages?{query}"), 400, "bad_request")

    play(scene)


def test_history_passes_on_what_the_owner_refuses() -> None:
    async def scene(world: World) -> None:
        await _filled(world, 1)
        body = problem(await world.call("GET", f"{TOPIC}/messages?after_seq=666"), 410, "gone")
        assert body["first_seq"] == 700
        world.directory.up = False
        problem(await world.call("GET", f"{TOPIC}/messages"), 503, "not_ready")
        world.directory.up, world.directory.mute = True, True
        problem(await world.call("GET", f"{TOPIC}/messages"), 503, "not_ready")

    play(scene)


def test_head_of_history_has_the_length_and_no_body() -> None:
    async def scene(world: World) -> None:
        await _filled(world, 3)
        got: httpx.Response = await world.call("GET", f"{TOPIC}/messages")
        head = await world.call("HEAD", f"{TOPIC}/messages")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]

    play(scene)


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("?limit=205", range(6, 211)),
        ("?limit=1000", range(1, 211)),
        ("?limit=1000&before_seq=200", range(1, 200)),
        ("?limit=200&after_seq=3", range(4, 204)),
        ("?limit=1000&since_ts=0&after_seq=0", range(1, 211)),
    ],
)
def test_a_page_of_more_than_an_owner_answers_at_once_is_whole(query: str, seqs: range) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for at in range(0, 210, 70):
            items = [{"payload": [n, "x" * 60_000]} for n in range(at + 1, at + 71)]
            await world.call("POST", f"{TOPIC}/publish/batch", json=items)
        asked = len(world.directory.asked)
        body = (await world.call("GET", f"{TOPIC}/messages{query}")).json()
        assert [message["seq"] for message in body["messages"]] == list(seqs)
        assert [message["payload"][0] for message in body["messages"]] == list(seqs)
        assert body["complete"] is True
        assert len(world.directory.asked) - asked == 2

    play(scene)


def test_the_bytes_of_history_count_as_held_and_are_given_back() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for _ in range(20):
            await world.publish("t", payload="x" * 60_000)
        for _ in range(3):
            problem(await world.call("GET", f"{TOPIC}/messages"), 413, "too_large")
            assert len((await world.call("GET", f"{TOPIC}/messages?limit=10")).json()["messages"]) == 10

    play(scene, held_bytes=2_000_000)


def test_a_socket_that_does_not_take_the_answer_holds_no_share_for_ever() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.call("POST", f"{TOPIC}/publish/batch", json=[{"payload": "x" * 60_000} for _ in range(20)])
        stuck = asyncio.Event()

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            if message.get("body"):
                await stuck.wait()

        token = f"Bearer {world.token()}".encode()
        scope = {"type": "http", "method": "GET", "raw_path": f"{TOPIC}/messages".encode(), "query_string": b""}
        with pytest.raises(TimeoutError):
            await world.ingest.app(scope | {"headers": [(b"host", b"h"), (b"authorization", token)]}, receive, send)
        assert world.ingest.app._budget.size == 0

    play(scene)


def test_a_body_of_unknown_length_takes_its_share_as_it_comes() -> None:
    async def scene(world: World) -> None:
        whole = asyncio.Event()

        async def slow() -> Any:
            yield b"["
            await whole.wait()
            yield b"]"

        def ask() -> Any:
            request = world.client.build_request("POST", f"{TOPIC}/publish/batch", content=slow())
            return asyncio.ensure_future(world.client.send(request))

        waiting = [ask() for _ in range(20)]
        await asyncio.sleep(0.1)
        assert (await world.call("POST", "/api/v1/topics", json={"name": "n"})).status_code == 201
        whole.set()
        for answer in await asyncio.gather(*waiting):
            problem(answer, 401, "unauthenticated")

        async def large() -> Any:
            for _ in range(8):
                yield b" " * (1024 * 1024)

        problem(await world.call("POST", f"{TOPIC}/publish/batch", content=large()), 413, "too_large")
        assert world.ingest.app._budget.size == 0
        assert world.ingest.app._budget.by_user == {}

    play(scene, held_bytes=8 * 1024 * 1024)  # as many bytes as one batch may have


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.test", 403), ("null", 403), ("http://ingest.test", 201), ("http://localhost:5173", 201), ("", 201)],
)
def test_in_open_mode_a_page_of_a_foreign_origin_does_nothing(origin: str, status: int) -> None:
    async def scene(world: World) -> None:
        headers = {"Origin": origin} if origin else {}
        answer = await world.call("POST", "/api/v1/topics", None, json={"topic_id": "t", "name": "t"}, headers=headers)
        assert answer.status_code == status
        listed = await world.call("GET", "/api/v1/topics", None)
        assert len(listed.json()["topics"]) == (status == 201)
        if status == 403:
            problem(answer, 403, "forbidden")
            problem(await world.call("POST", "/nowhere", None, headers=headers), 404, "not_found")
            problem(await world.call("PUT", "/api/v1/topics", None, headers=headers), 405, "method_not_allowed")

    play(scene, mode="open", origins=("loopback",))
