"""Work for a stranger is bounded before it is done: bodies, callers, rates, what is held."""

import asyncio
import json
from typing import Any

import pytest

from headgate.runtime.http.endpoints import Endpoint, endpoints_of
from ingest.rates import RateLimits
from tests.integration.hostile_bodies import ARRAYS, LINES, cost_of
from tests.integration.ingest_twin import World, play, problem

MIB = 1024 * 1024
OF_ANY = "/api/v1/publish/batch"
NDJSON = {"Content-Type": "application/x-ndjson"}
CPU_S = 1.5  # three times what the page promises: other processes share the core's caches
MEMORY = 64 * MIB


@pytest.mark.parametrize("name", [*ARRAYS, *LINES])
def test_a_body_of_8_mib_costs_half_a_second_and_64_mib_whatever_is_in_it(name: str) -> None:
    media_type, make = ("application/json", ARRAYS[name]) if name in ARRAYS else (NDJSON["Content-Type"], LINES[name])

    async def scene(world: World) -> None:
        cost = await cost_of(world, make(), media_type, world.token(service=True))
        assert cost.status in (200, 400, 413)
        assert cost.cpu_s < CPU_S
        assert cost.memory_bytes < MEMORY

    play(scene)


def test_an_item_above_a_body_s_limit_is_refused_unread_and_harms_no_other() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        large = b'{"topic_id":"t","payload":1,"x":"' + b"x" * (256 * 1024) + b'"}'
        fits = b'{"topic_id":"t","payload":1,"x":"' + b"x" * (256 * 1024 - 36) + b'"}'
        good = b'{"topic_id":"t","payload":2}'
        for headers, lines in (
            ({}, b"[%b]" % b",".join((good, large, fits))),
            (NDJSON, b"\n".join((good, large, fits))),
        ):
            for path in (OF_ANY, "/api/v1/topics/t/publish/batch"):
                answer = await world.call("POST", path, content=lines, headers=headers)
                assert [result["status"] for result in answer.json()["results"]] == [200, 413, 200]

    play(scene)


def test_a_token_that_may_publish_nowhere_is_refused_before_its_body_is_read() -> None:
    async def scene(world: World) -> None:
        nothing = world.token("eve", only=True, subscribe=("*",))
        problem(await world.call("POST", OF_ANY, nothing, content=b"\xff"), 403, "forbidden")
        some = world.token("eve", only=True, publish=("x*",))
        problem(await world.call("POST", OF_ANY, some, content=b"\xff"), 400, "bad_request")

    play(scene)


def test_a_user_s_large_bodies_are_charged_by_bytes_before_they_are_read() -> None:
    async def scene(world: World) -> None:
        body = b"[" + b" " * (8 * MIB - 2) + b"]"
        for _ in range(4):  # 100 publishes of 256 KiB a minute are 25 MiB; the fourth is owed
            assert (await world.call("POST", OF_ANY, world.token("bo"), content=body)).status_code == 200
        refused = problem(
            await world.call("POST", OF_ANY, world.token("bo"), content=b"\xff" * MIB), 429, "rate_limited"
        )
        assert "bytes" in refused["detail"]
        assert (await world.call("POST", OF_ANY, world.token("bo"), content=b"[]")).status_code == 200
        assert (await world.call("POST", OF_ANY, world.token("al"), content=body)).status_code == 200
        world.clock.virtual.now += 60
        assert (await world.call("POST", OF_ANY, world.token("bo"), content=body)).status_code == 200

    play(scene)


def test_who_stays_within_his_messages_never_meets_the_rate_of_bytes() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        body = b'{"payload":1' + b" " * (256 * 1024 - 13) + b"}"
        for _ in range(100):
            answer = await world.call("POST", "/api/v1/topics/t/publish", world.token("bo"), content=body)
            assert answer.status_code == 200

    play(scene)


@pytest.mark.parametrize("row", [row for row in endpoints_of("ingest") if row.body], ids=lambda row: row.handler)
def test_large_bodies_are_charged_before_they_are_read_on_every_endpoint(row: Endpoint) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = (await world.publish("t", payload=1)).json()["message_id"]
        path = row.path.format(topic_id="t", user_id="bo", message_id=message_id, name="like")
        for _ in range(2):  # one publish of 256 KiB a minute is 256 KiB; the second is owed
            await world.call(row.method, path, world.token(), content=b"\xff" * 200_000)
        refused = problem(
            await world.call(row.method, path, world.token(), content=b"\xff" * 200_000), 429, "rate_limited"
        )
        assert "bytes" in refused["detail"]

    play(scene, rates=RateLimits(publish_per_user_per_min=1))


@pytest.mark.parametrize("path", ["/send_message", "/edit_message"])
def test_a_body_of_an_alias_is_charged_once(path: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = (await world.publish("t", world.token(), payload=1)).json()["message_id"]
        members = {"channel_id": "t", "message_id": message_id, "version": 1, "content": "x" * 65_534}
        body = json.dumps(members).encode()
        rates, now = world.ingest._rates, world.clock.now()
        before = rates._users.level("b:ana", rates._bytes, now)
        assert (await world.call("POST", path, world.token(), content=body)).status_code == 200
        assert rates._users.level("b:ana", rates._bytes, now) == before - len(body)

    play(scene)


# -- who is known before his body is kept


async def _begin(world: World, headers: dict[str, str], chunks: int, going_on: asyncio.Event) -> Any:
    async def slow() -> Any:
        for _ in range(chunks):
            yield b" " * (1024 * 1024)
        await going_on.wait()

    request = world.client.build_request("POST", OF_ANY, content=slow(), headers=headers)
    return await world.client.send(request)


def test_44_callers_without_a_token_refuse_nobody_and_hold_nothing() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        whole = asyncio.Event()
        for headers in ({}, {"Authorization": "Bearer junk"}):
            waiting = [asyncio.ensure_future(_begin(world, headers, 7, whole)) for _ in range(44)]
            await asyncio.sleep(0.1)
            assert world.ingest.app._budget.size == 0
            assert (await world.publish("t", payload=1)).status_code == 200
            whole.set()
            for answer in await asyncio.gather(*waiting):
                problem(answer, 401, "unauthenticated")
        whole.clear()
        too_large = [asyncio.ensure_future(_begin(world, {}, 9, whole)) for _ in range(4)]
        for answer in await asyncio.gather(*too_large):
            problem(answer, 413, "too_large")

    play(scene, held_bytes=16 * MIB)


def test_a_refused_body_that_does_not_come_is_408() -> None:
    async def scene(world: World) -> None:
        started = world.clock.now()
        problem(await _begin(world, {}, 1, asyncio.Event()), 408, "request_timeout")
        assert world.clock.now() - started == pytest.approx(10)

    play(scene)


def test_one_user_fills_his_own_share_and_not_that_of_others() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        whole = asyncio.Event()
        bo = {"Authorization": f"Bearer {world.token('bo')}"}
        waiting = [asyncio.ensure_future(_begin(world, bo, 7, whole)) for _ in range(5)]
        await asyncio.sleep(0.1)
        assert world.ingest.app._budget.by_user["bo"] <= 16 * MIB
        refused = problem(
            await world.call("POST", OF_ANY, world.token("bo"), content=b" " * 4 * MIB), 503, "overloaded"
        )
        assert "your requests" in refused["detail"]
        large = await world.call("POST", OF_ANY, world.token("al"), content=b"[" + b" " * 8_000_000 + b"]")
        assert large.status_code == 200
        whole.set()
        codes = [answer.status_code for answer in await asyncio.gather(*waiting)]
        assert sorted(codes) == [400, 400, 503, 503, 503]
        assert world.ingest.app._budget.by_user == {}

    play(scene, held_bytes=64 * MIB, held_bytes_per_user=16 * MIB)


def test_a_batch_counts_with_the_copies_that_are_made_of_it() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.latency = lambda log, shard: 1
        items = [{"topic_id": "t", "payload": "x" * 60_000} for _ in range(40)]  # 2.4 MB
        for path in (OF_ANY, "/api/v1/topics/t/publish/batch"):
            first = asyncio.ensure_future(world.call("POST", path, world.token("bo"), json=items))
            await asyncio.sleep(0.5)
            assert world.ingest.app._budget.by_user["bo"] > 5 * 40 * 60_000
            problem(await world.call("POST", path, world.token("bo"), json=items), 503, "overloaded")
            assert (await first).status_code == 200
            assert world.ingest.app._budget.by_user == {}

    play(scene, held_bytes_per_user=16 * MIB)


# -- rates before creations


def test_a_refused_publish_creates_no_topic() -> None:
    async def scene(world: World) -> None:
        bo = world.token("bo")
        items = [{"topic_id": f"n{at}", "payload": 1} for at in range(300)]
        answers = [await world.call("POST", OF_ANY, bo, json=items[at : at + 100]) for at in range(0, 300, 100)]
        results = [result for answer in answers for result in answer.json()["results"]]
        accepted = {result["topic_id"] for result in results if result["status"] == 200}
        assert len(accepted) == 60
        assert {result["code"] for result in results if result["status"] != 200} == {"rate_limited"}
        assert all(result["retryable"] for result in results if result["status"] != 200)
        problem(await world.publish("another", bo, payload=1), 429, "rate_limited")
        listed = (await world.call("GET", "/api/v1/topics?limit=1000")).json()["topics"]
        assert {topic["topic_id"] for topic in listed} == accepted

    play(scene, auto_create=True)


def test_a_publisher_whose_rate_is_used_up_creates_no_topic() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bo = world.token("bo")
        for _ in range(100):
            assert (await world.publish("t", bo, payload=1)).status_code == 200
        problem(await world.publish("new", bo, payload=1), 429, "rate_limited")
        batch = await world.call("POST", "/api/v1/topics/new/publish/batch", bo, json=[{"payload": 1}])
        problem(batch, 429, "rate_limited")
        problem(await world.call("GET", "/api/v1/topics/new"), 404, "topic_not_found")

    play(scene, auto_create=True)


def test_the_first_publish_of_a_new_topic_is_charged_once() -> None:
    async def scene(world: World) -> None:
        bo = world.token("bo")
        assert (await world.publish("new", bo, payload=1)).status_code == 200
        batch = await world.call("POST", OF_ANY, bo, json=[{"topic_id": "new2", "payload": at} for at in range(5)])
        assert {result["status"] for result in batch.json()["results"]} == {200}
        codes = [(await world.publish("new", bo, payload=at)).status_code for at in range(96)]
        assert codes.count(200) == 94

    play(scene, auto_create=True)


def test_creations_are_60_a_minute_and_user() -> None:
    async def scene(world: World) -> None:
        async def create(token: str, topic_id: str) -> int:
            answer = await world.call("POST", "/api/v1/topics", token, json={"topic_id": topic_id, "name": "n"})
            return answer.status_code

        bo = world.token("bo")
        assert [await create(bo, f"t{at}") for at in range(61)] == [201] * 60 + [429]
        assert await create(world.token("al"), "t60") == 201
        world.clock.virtual.now += 1
        assert await create(bo, "t61") == 201
        assert [await create("", f"s{at}") for at in range(70)] == [201] * 70  # a service token has no rates

    play(scene)


@pytest.mark.parametrize(
    "path", ["/api/v1/topics", "/api/v1/topics/t", "/api/v1/topics/t/messages", "/api/v1/topics/no"]
)
def test_reads_are_600_a_minute_and_user(path: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bo, al = world.token("bo"), world.token("al")
        good = 404 if path.endswith("no") else 200
        assert [(await world.call("GET", path, bo)).status_code for _ in range(601)] == [good] * 600 + [429]
        asked = len(world.directory.asked)
        problem(await world.call("GET", path, bo), 429, "rate_limited")
        assert len(world.directory.asked) == asked, "nobody is asked for a refused read"
        assert (await world.call("GET", path, al)).status_code == good
        assert (await world.publish("t", bo, payload=1)).status_code == 200

    play(scene)


def test_open_mode_has_no_rates() -> None:
    async def scene(world: World) -> None:
        for at in range(70):
            answer = await world.call("POST", "/api/v1/topics", None, json={"topic_id": f"t{at}", "name": "n"})
            assert answer.status_code == 201

    play(scene, mode="open")


def test_made_ids_cannot_be_guessed_and_repeat_with_their_key() -> None:
    async def made(world: World, user: str) -> str:
        headers = {"Idempotency-Key": "k"}
        answer = await world.call("POST", "/api/v1/topics", world.token(user), json={"name": "n"}, headers=headers)
        assert answer.status_code == 201
        return str(answer.json()["topic_id"])

    seen: list[str] = []

    def run_with(key: bytes) -> None:
        async def scene(world: World) -> None:
            seen.append(await made(world, "bo"))
            assert await made(world, "bo") == seen[-1]
            assert await made(world, "al") != seen[-1]

        play(scene, id_key=key)

    for key in (b"one", b"one", b"two"):
        run_with(key)
    assert seen[0] == seen[1] != seen[2]


def test_refused_callers_are_counted_by_code() -> None:
    async def scene(world: World) -> None:
        for _ in range(3):
            await world.call("GET", "/api/v1/topics", "junk")
        await world.call("GET", "/api/v1/topics/no")
        assert world.metrics.refusals == {"unauthenticated": 3, "topic_not_found": 1}

    play(scene)
