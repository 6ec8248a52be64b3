"""The order of checks, row by row: each request has this fault and every later one, and the first fault answers."""

from typing import Any

import httpx
import pytest

from tests.integration.ingest_twin import World, play, problem

PUBLISH = "/api/v1/topics/{}/publish"
LARGE = b"x" * (256 * 1024 + 1)


def test_path_and_method_come_before_everything() -> None:
    async def scene(world: World) -> None:
        for path in ("/api/v1/nothing", "/api/v1/topics/t/publish/", "/", "/api/v1/topics/", "/api/v1/inbox/none"):
            problem(await world.call("POST", path, None, content=LARGE), 404, "not_found")
        answer = await world.call("PUT", PUBLISH.format("t"), None, content=LARGE)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"

    play(scene)


def test_body_size_comes_before_authentication() -> None:
    async def scene(world: World) -> None:
        problem(await world.call("POST", PUBLISH.format("t"), "bad", content=LARGE), 413, "too_large")
        chunked = world.client.build_request("POST", PUBLISH.format("t"), content=_pieces(LARGE))
        assert "content-length" not in chunked.headers
        problem(await world.client.send(chunked), 413, "too_large")
        limit = b"[" + b" " * (8 * 1024 * 1024 - 1) + b"]"
        problem(await world.call("POST", "/api/v1/publish/batch", "bad", content=limit), 413, "too_large")
        answer = await world.call("POST", "/api/v1/publish/batch", content=limit[:-2] + b"]")
        assert answer.json() == {"results": []}

    play(scene)


async def _pieces(body: bytes) -> Any:
    for at in range(0, len(body), 100_000):
        yield body[at : at + 100_000]


def test_authentication_comes_before_media_type() -> None:
    async def scene(world: World) -> None:
        xml = {"Content-Type": "application/xml"}
        path = PUBLISH.format("bad id")
        problem(await world.call("POST", path, None, headers=xml), 401, "unauthenticated")
        problem(await world.call("POST", path, "bad", headers=xml), 401, "unauthenticated")
        expired = world.token(ttl_s=-6)
        problem(await world.call("POST", path, expired, headers=xml), 401, "token_expired")
        basic = await world.client.post(path, headers={"Authorization": "Basic YTpi", **xml})
        problem(basic, 401, "unauthenticated")

    play(scene)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/xml"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/x-ndjson"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_media_type_comes_before_topic_id(headers: dict[str, str]) -> None:
    async def scene(world: World) -> None:
        answer = await world.call("POST", PUBLISH.format("bad id"), headers=headers, content=b"{")
        problem(answer, 415, "unsupported_media_type")

    play(scene)


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json; charset=UTF-8"}, {"Content-Type": ""}])
def test_media_types_that_pass(headers: dict[str, str]) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        answer = await world.call("POST", PUBLISH.format("t"), headers=headers, content=b'{"payload":1}')
        assert answer.status_code == 200

    play(scene)


@pytest.mark.parametrize("topic_id", ["bad id", "-a", "a%2Fb", "%C3%A9", "%FF", "a" * 129, "%2541"])
def test_topic_id_comes_before_existence(topic_id: str) -> None:
    async def scene(world: World) -> None:
        world.directory.up = False
        path = httpx.URL(f"http://ingest.test/api/v1/topics/{topic_id}")
        for method, tail in (("POST", "/publish"), ("GET", ""), ("DELETE", ""), ("GET", "/messages?limit=0")):
            answer = await world.call(method, str(path) + tail, content=b"{")
            problem(answer, 400, "invalid_topic_id")

    play(scene)


def test_a_segment_is_decoded_once_and_then_matched() -> None:
    async def scene(world: World) -> None:
        await world.create("a:b")
        assert (await world.call("GET", "/api/v1/topics/a%3Ab")).status_code == 200
        assert (await world.call("GET", "/api/v1/%74opics/a:b")).status_code == 200

    play(scene)


def test_existence_and_visibility_come_before_permission_and_body() -> None:
    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        stranger = world.token("bo")
        unknown = problem(
            await world.call("POST", PUBLISH.format("nosuch"), stranger, content=b"{"), 404, "topic_not_found"
        )
        hidden = problem(
            await world.call("POST", PUBLISH.format("hidden"), stranger, content=b"{"), 404, "topic_not_found"
        )
        assert unknown["detail"].replace("nosuch", "hidden") == hidden["detail"]
        for method, path in (("GET", "hidden"), ("DELETE", "hidden"), ("GET", "hidden/messages")):
            problem(await world.call(method, f"/api/v1/topics/{path}", stranger), 404, "topic_not_found")

    play(scene)


def test_permission_comes_before_body() -> None:
    async def scene(world: World) -> None:
        await world.create("closed", permissions="SUBSCRIBE_ONLY")
        await world.create("drop", permissions="PUBLISH_ONLY")
        await world.create("hidden", permissions="PRIVATE")
        bo = world.token("bo")
        problem(await world.call("POST", PUBLISH.format("closed"), bo, content=b"{"), 403, "forbidden")
        problem(await world.call("GET", "/api/v1/topics/drop/messages?limit=0", bo), 403, "forbidden")
        problem(await world.call("DELETE", "/api/v1/topics/closed", bo), 403, "forbidden")
        reader = world.token("bo", subscribe=("hid*",))
        problem(await world.call("POST", PUBLISH.format("hidden"), reader, content=b"{"), 403, "forbidden")
        only = world.token("ana", only=True, publish=("other",))
        problem(await world.call("POST", PUBLISH.format("drop"), only, content=b"{"), 403, "forbidden")
        create = await world.call("POST", "/api/v1/topics", only, json={"topic_id": "x"})
        problem(create, 403, "forbidden")

    play(scene)


@pytest.mark.parametrize(
    ("body", "query", "headers", "code"),
    [
        (b"\xff", "", {}, "bad_request"),
        (b"{", "", {}, "bad_request"),
        (b"[1]", "", {}, "bad_request"),
        (b"", "", {}, "bad_request"),
        (b'{"payload":' + b"[" * 64 + b"]" * 64 + b"}", "", {}, "bad_request"),
        (b'{"payload":NaN}', "", {}, "bad_request"),
        (b"{}", "", {}, "invalid_payload"),
        (b'{"payload":1,"client_msg_id":7}', "", {}, "bad_request"),
        (b'{"payload":1,"client_msg_id":""}', "", {}, "bad_request"),
        (b'{"payload":1,"client_msg_id":"\xc3\xa9"}', "", {}, "bad_request"),
        (b'{"payload":1,"priority":"HIGH"}', "", {}, "bad_request"),
        (b'{"payload":1,"parent_message_id":"x"}', "", {}, "bad_request"),
        (b'{"payload":1,"parent_version":"1"}', "", {}, "bad_request"),
        (b'{"payload":1,"attachments":{}}', "", {}, "bad_request"),
        (b'{"payload":1,"client_msg_id":"a"}', "", {"Idempotency-Key": "b"}, "bad_request"),
        (b'{"payload":1}', "", {"Idempotency-Key": "a" * 129}, "bad_request"),
        (b'{"payload":1}', "?wait=delivered&timeout_ms=x", {}, "bad_request"),
        (b'{"payload":1}', "?wait=never", {}, "bad_request"),
        (b'{"payload":1}', "?timeout_ms=10001", {}, "bad_request"),
        (b'{"payload":1}', "?timeout_ms=-1", {}, "bad_request"),
    ],
)
def test_body_comes_before_limits_and_log(body: bytes, query: str, headers: dict[str, str], code: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await _use_up(world, "t")
        answer = await world.call("POST", PUBLISH.format("t") + query, world.token("bo"), content=body, headers=headers)
        problem(answer, 400, code)

    play(scene)


async def _use_up(world: World, topic_id: str) -> None:
    for at in range(100):
        answer = await world.publish(topic_id, world.token("bo"), payload=1, client_msg_id=f"m{at}")
        assert answer.status_code == 200, answer.text


def test_idempotency_comes_before_limits() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await _use_up(world, "t")
        bo = world.token("bo")
        problem(await world.publish("t", bo, payload=2, client_msg_id="m1"), 422, "idempotency_conflict")
        again = await world.publish("t", bo, payload=1, client_msg_id="m1")
        assert (again.status_code, again.json()["duplicate"]) == (200, True)

    play(scene)


def test_that_a_message_is_there_comes_before_its_query() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = (await world.publish("t", payload=0)).json()["message_id"]
        path = "/api/v1/topics/t/messages/{}?versions=1"
        unknown = "00000000-0000-8000-8000-000000000000"
        problem(await world.call("GET", path.format(unknown)), 404, "message_not_found")
        problem(await world.call("GET", path.format(message_id)), 400, "bad_request")

    play(scene)


def test_idempotency_comes_before_limits_and_conflicts_of_an_edit() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bo, headers = world.token("bo"), {"Idempotency-Key": "k"}
        message_id = (await world.publish("t", bo, payload=0)).json()["message_id"]
        path = f"/api/v1/topics/t/messages/{message_id}"

        async def edit(payload: int) -> httpx.Response:
            return await world.call("PATCH", path, bo, json={"payload": payload, "version": 1}, headers=headers)

        assert (await edit(1)).status_code == 200
        problem(await edit(2), 422, "idempotency_conflict")
        for at in range(98):
            assert (await world.publish("t", bo, payload=at)).status_code == 200
        problem(await edit(1), 429, "rate_limited")
        problem(await edit(2), 422, "idempotency_conflict")

    play(scene)


def test_limits_come_before_the_log() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await _use_up(world, "t")
        await close_log(world)
        limited = await world.publish("t", world.token("bo"), payload=1)
        assert problem(limited, 429, "rate_limited")["retryable"]
        problem(await world.publish("t", payload=1), 503, "log_unavailable")

    play(scene)


async def close_log(world: World) -> None:
    from headgate.runtime.testing.faulty_log import Reach  # noqa: PLC0415

    world.log.reach = Reach.REFUSED
