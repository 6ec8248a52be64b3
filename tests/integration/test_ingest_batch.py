"""Both batch endpoints: each item has its own result, good ones keep their order, one bad one harms no other."""

import asyncio
import json
from typing import Any

import pytest

from headgate.core.wire.envelope import Kind, decode
from headgate.core.wire.link import AskTopic
from headgate.core.wire.records import LogName
from headgate.runtime.testing.faulty_log import Reach
from tests.integration.ingest_twin import World, play, problem

OF_ANY = "/api/v1/publish/batch"
OF_TOPIC = "/api/v1/topics/t/publish/batch"
NDJSON = {"Content-Type": "application/x-ndjson"}


def statuses(answer: Any) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [result["status"] if result["status"] == 200 else result["code"] for result in answer.json()["results"]]


def records_of(world: World, topic_id: str) -> list[Any]:
    parts = [world.store.parts[LogName.MESSAGES, shard] for shard in range(world.store.shards)]
    records = [record for part in parts for record in part.slice(part.first, 1_000_000).records]
    decoded = [decode(record.value or b"") for record in records if record.key == topic_id.encode()]
    return [envelope for envelope in decoded if envelope.kind is not Kind.CONTROL]


@pytest.mark.parametrize("form", ["array", "ndjson", "no content type"])
def test_a_batch_is_one_record_in_order(form: str) -> None:
    async def scene(world: World) -> None:
        epoch = (await world.create("t"))["epoch"]
        bodies = [{"payload": at, "client_msg_id": f"c{at}"} for at in range(20)]
        if form == "ndjson":
            content = b"\r\n\n".join(json.dumps(body).encode() for body in bodies) + b"\n \n"
            answer = await world.call("POST", OF_TOPIC + "?wait=sequenced", content=content, headers=NDJSON)
        elif form == "array":
            answer = await world.call("POST", OF_TOPIC + "?wait=sequenced", json=bodies)
        else:
            answer = await world.call("POST", OF_TOPIC + "?wait=sequenced", content=json.dumps(bodies).encode())
        results = answer.json()["results"]
        assert [result["seq"] for result in results] == list(range(1, 21))
        assert results[3] | {"message_id": ""} == {
            "status": 200,
            "message_id": "",
            "client_msg_id": "c3",
            "topic_id": "t",
            "delivered_to": 0,
            "delivered_to_basis": "registry",
            "dropped": False,
            "duplicate": False,
            "seq": 4,
            "epoch": epoch,
        }
        assert [message["payload"] for message in world.owner.messages("t")] == list(range(20))
        assert [len(record.items) for record in records_of(world, "t")] == [20]
        assert world.metrics.published == {("accepted", "durable"): 20}

    play(scene)


def test_one_bad_item_harms_no_other() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        lines = [
            b'{"payload":1}', b"{", b"[1]", b"7", b"{}", b'{"payload":"' + b"x" * 65_535 + b'"}',
            b'{"payload":"\xff"}', b'{"payload":' + b"[" * 70 + b"]" * 70 + b"}",
            b'{"payload":2,"priority":"HIGH"}', b'{"payload":["\\ud800"]}',
        ]  # fmt: skip
        answer = await world.call("POST", OF_TOPIC, content=b"\n".join(lines), headers=NDJSON)
        expected = [200, *["bad_request"] * 3, "invalid_payload", "too_large", *["bad_request"] * 3, 200]
        assert statuses(answer) == expected
        bad = answer.json()["results"][1]
        assert {"type", "title", "status", "detail", "code", "retryable"} == set(bad)
        assert len(world.owner.messages("t")) == 2

    play(scene)


def test_topic_and_right_are_checked_for_each_item() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.create("closed", permissions="SUBSCRIBE_ONLY")
        await world.create("hidden", permissions="PRIVATE")
        names: list[Any] = ["t", "closed", "hidden", "nosuch", "bad id", None, 7, "t"]
        bodies: list[Any] = [{"payload": 1, "topic_id": name} for name in names]
        bodies += [{"payload": 1}, {"topic_id": "t"}, "x"]
        answer = await world.call("POST", OF_ANY, world.token("bo"), json=bodies)
        unknown = "topic_not_found"
        expected: list[Any] = [
            200,
            "forbidden",
            unknown,
            unknown,
            "invalid_topic_id",
            "bad_request",
            "bad_request",
            200,
        ]
        assert statuses(answer) == [*expected, "bad_request", "invalid_payload", "bad_request"]
        lone = b'[{"topic_id":"t","payload":"\\ud800 [,"} , {"topic_id":"nosuch","payload":"\\ud800"}]'
        assert statuses(await world.call("POST", OF_ANY, content=lone)) == [200, unknown]

    play(scene)


def test_the_topics_of_a_batch_are_asked_for_at_once() -> None:
    async def scene(world: World) -> None:
        for at in range(5):
            await world.create(f"t{at}")
        world.clock.virtual.now += 3
        world.directory.asked.clear()
        bodies = [{"payload": at, "topic_id": f"t{at % 5}"} for at in range(50)]
        assert set(statuses(await world.call("POST", OF_ANY, json=bodies))) == {200}
        assert sum(isinstance(ask, AskTopic) for ask in world.directory.asked) == 5
        for at in range(5):
            assert [message["payload"] for message in world.owner.messages(f"t{at}")] == list(range(at, 50, 5))

    play(scene)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (json.dumps([{"payload": 1}] * 1001).encode(), {}, 413, "too_large"),
        (b'{"payload":1}\n' * 1001, NDJSON, 413, "too_large"),
        (b'{"payload":1}', {}, 400, "bad_request"),
        (b'[{"payload":1}', {}, 400, "bad_request"),
        (b'[{"payload":"\xff"}]', {}, 400, "bad_request"),
        (b'{"payload":"\\ud800"}', {}, 400, "bad_request"),
        (b"[" * 100_000 + b"]" * 100_000, {}, 400, "bad_request"),
        (b"", {}, 400, "bad_request"),
        (b"[]", {"Idempotency-Key": "k"}, 400, "bad_request"),
        (b"[]", {"Content-Type": "text/csv"}, 415, "unsupported_media_type"),
    ],
)
@pytest.mark.parametrize("path", [OF_TOPIC, OF_ANY])
def test_a_body_that_is_no_batch(content: bytes, headers: dict[str, str], status: int, code: str, path: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        problem(await world.call("POST", path, content=content, headers=headers), status, code)
        assert world.owner.messages("t") == []

    play(scene)


def test_empty_batches_and_wrong_waits() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for path in (OF_TOPIC, OF_ANY):
            assert (await world.call("POST", path, content=b" [ ] ")).json() == {"results": []}
            assert (await world.call("POST", path, content=b"\n", headers=NDJSON)).json() == {"results": []}
            problem(await world.call("POST", path + "?wait=never", content=b"[]"), 400, "bad_request")
        problem(await world.call("POST", OF_TOPIC.replace("/t/", "/u/"), content=b"["), 404, "topic_not_found")
        await world.create("closed", permissions="SUBSCRIBE_ONLY")
        closed = OF_TOPIC.replace("/t/", "/closed/")
        problem(await world.call("POST", closed, world.token("bo"), content=b"["), 403, "forbidden")

    play(scene)


def test_the_same_id_twice_in_a_batch_is_one_message() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bodies = [{"payload": payload, "client_msg_id": "k"} for payload in (1, 1, 2)]
        answer = await world.call("POST", OF_TOPIC, json=bodies)
        assert statuses(answer) == [200, 200, "idempotency_conflict"]
        assert [result.get("duplicate") for result in answer.json()["results"][:2]] == [None, True]
        again = await world.call("POST", OF_TOPIC + "?wait=sequenced", json=bodies[:1])
        assert (again.json()["results"][0]["duplicate"], again.json()["results"][0]["seq"]) == (True, 1)
        assert len(world.owner.messages("t")) == 1

    play(scene)


def test_a_batch_is_cut_where_a_record_is_full() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        answer = await world.call("POST", OF_TOPIC, json=[{"payload": "x" * 60_000}] * 20)
        assert set(statuses(answer)) == {200}
        assert [len(record.items) for record in records_of(world, "t")] == [8, 8, 4]
        answer = await world.call("POST", OF_TOPIC, json=[{"payload": 1}] * 1_000)
        assert [len(record.items) for record in records_of(world, "t")] == [8, 8, 4, 1_000]

    play(scene)


def test_the_rate_ends_a_batch_item_by_item() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        answer = await world.call("POST", OF_TOPIC, world.token("bo"), json=[{"payload": 1}] * 103)
        assert statuses(answer) == [200] * 100 + ["rate_limited"] * 3

    play(scene)


def test_with_the_log_away_each_item_says_whether_it_may_appear() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.reach = Reach.SILENT
        first = await world.call("POST", OF_TOPIC, json=[{"payload": 1, "client_msg_id": "a"}])
        assert statuses(first) == ["outcome_unknown"]
        assert first.json()["results"][0]["client_msg_id"] == "a"
        bodies = [{"payload": 1, "client_msg_id": name} for name in ("a", "b")]
        answer = await world.call("POST", OF_TOPIC, json=bodies)
        assert sorted(map(str, statuses(answer))) == ["log_unavailable", "outcome_unknown"]

    play(scene)


def test_ephemeral_and_durable_topics_in_one_batch() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.create("e", settings={"profile": "ephemeral"})
        bodies = [{"payload": at, "topic_id": "te"[at % 2]} for at in range(10)]
        answer = await world.call("POST", OF_ANY, json=bodies)
        assert statuses(answer) == [200] * 10
        assert [result["dropped"] for result in answer.json()["results"]] == [False, True] * 5
        assert [json.loads(frame)["payload"] for frame in world.owner.relayed] == [1, 3, 5, 7, 9]

    play(scene)


def test_auto_create_serves_batches_too() -> None:
    async def scene(world: World) -> None:
        bodies = [{"payload": 1, "topic_id": name} for name in ("new", "new", "hg:x", "other")]
        both = await asyncio.gather(*[world.call("POST", OF_ANY, json=bodies) for _ in range(2)])
        for answer in both:
            assert statuses(answer) == [200, 200, "topic_not_found", 200]
        assert statuses(await world.call("POST", OF_TOPIC, json=[{"payload": 1}])) == [200]
        assert len(world.owner.messages("new")) == 4

    play(scene, auto_create=True)
