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
        ({"loopback_origins": True}, "http://localhost:3000", True),
        ({"loopback_origins": True}, "http://127.0.0.1:5173", True),
        ({"loopback_origins": True}, "http://[::1]:5173", True),
        ({"loopback_origins": True}, "http://localhost.evil.test", False),
        ({"loopback_origins": True}, "http://127.0.0.1.evil.test", False),
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
        assert "Authorization" in preflight.headers["access-control-allow-headers"]

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


def test_what_is_being_answered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.app.MAX_HELD_BYTES", 3 * 16 * 1024 + 100)

    async def scene(world: World) -> None:
        await world.create("t")
        world.log.latency = lambda log, shard: 1
        codes = [
            answer.status_code for answer in await asyncio.gather(*[world.publish("t", payload=1) for _ in range(5)])
        ]
        assert sorted(codes) == [200, 200, 200, 503, 503]
        problem(await world.publish("t", payload="x" * 20_000 * 2), 503, "overloaded")
        assert (await world.publish("t", payload=1)).status_code == 200

    play(scene)


def test_a_client_that_goes_away_gets_no_answer() -> None:
    async def scene(world: World) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "raw_path": b"/api/v1/topics", "query_string": b"", "headers": []}
        scope["headers"] = [(b"authorization", f"Bearer {world.token()}".encode()), (b"content-length", b"9")]
        await world.ingest.app(scope, receive, send)
        assert sent == []

    play(scene)


def test_trouble_inside_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(world: World) -> None:
        def broken(*args: Any) -> Any:
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
        assert {name: check() for name, check in world.ingest.checks.items()} == {"log": None, "owners": None}
        world.directory.up = False
        assert world.ingest.checks["owners"]() == "the owner is away"

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
     "kinds=edit", "kinds=message,edit", "after_seq=99999999999999999"],
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
