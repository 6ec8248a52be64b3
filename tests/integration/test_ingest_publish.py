"""One publish: the answer's fields, idempotency, rates, and every way in which the log or the owner may be away."""

import asyncio
import json

import pytest

from headgate.core.wire.ids import id_text, keyed_id
from headgate.runtime.testing.faulty_log import Reach
from tests.integration.ingest_twin import World, play, problem


def test_the_answer_has_exactly_these_members() -> None:
    async def scene(world: World) -> None:
        epoch = (await world.create("t"))["epoch"]
        world.owner.counts["t"] = 3
        answer = (await world.publish("t", payload={"a": 1}, client_msg_id="c1")).json()
        assert answer == {
            "message_id": id_text(keyed_id(b"t", "ana", "c1")),
            "client_msg_id": "c1",
            "topic_id": "t",
            "delivered_to": 3,
            "delivered_to_basis": "registry",
            "dropped": False,
        }
        second = (await world.publish("t", payload=2, query="?wait=sequenced&timeout_ms=10000")).json()
        assert {name: second[name] for name in ("duplicate", "seq", "epoch")} == {
            "duplicate": False,
            "seq": 2,
            "epoch": epoch,
        }
        assert world.metrics.published == {("accepted", "durable"): 2}

    play(scene)


def test_the_frame_is_what_the_publisher_wrote() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        parent = id_text(keyed_id(b"t", "ana", "p"))
        await world.publish("t", payload=1, client_msg_id="p")
        body = (
            b'{ "attachments": [ {"url": "http://x/y", "size": 3, "who": 1} ], "unknown": {"a": [1]}, "payload":'
            b' { "b" : 1.0E+05, "a": 123456789012345678901234567890 , "a":"\\ud800" } ,"priority":"LOW",'
            b'"parent_version": 2, "parent_message_id": "' + parent.encode() + b'"}'
        )
        answer = await world.call("POST", "/api/v1/topics/t/publish", content=body)
        assert answer.status_code == 200, answer.text
        world.owner.catch_up()
        deliver = world.owner.frames["t"][1]
        assert b'"payload":{"b":1.0E+05,"a":123456789012345678901234567890,"a":"\\ud800"}' in deliver.frame
        assert deliver.low
        assert deliver.reply
        frame = json.loads(deliver.frame)
        assert frame["attachments"] == [{"url": "http://x/y", "size": 3}]
        assert (frame["parent_message_id"], frame["parent_version"]) == (parent, 2)
        assert (frame["publisher_id"], frame["message_id"]) == ("ana", answer.json()["message_id"])

    play(scene)


def test_null_is_a_payload() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        assert (await world.publish("t", payload=None)).status_code == 200
        assert world.owner.messages("t")[0]["payload"] is None

    play(scene)


@pytest.mark.parametrize(("extra", "attached"), [(0, 0), (1, 0), (-40, 40), (-39, 40)])
def test_the_payload_and_its_attachments_have_65536_bytes(extra: int, attached: int) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        text = "x" * (65_536 + extra - 2)
        attachments = [{"url": "u" * (attached - len('[{"url":""}]'))}] if attached else []
        answer = await world.publish("t", payload=text, attachments=attachments)
        if len(text) + 2 + attached <= 65_536:
            assert answer.status_code == 200
        else:
            problem(answer, 413, "too_large")

    play(scene)


def test_too_many_attachments() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        assert (await world.publish("t", payload=1, attachments=[{"url": "u"}] * 10)).status_code == 200
        problem(await world.publish("t", payload=1, attachments=[{"url": "u"}] * 11), 400, "bad_request")

    play(scene)


def test_a_repeat_has_the_same_id_and_one_seq() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        first = (await world.publish("t", payload=1, headers={"Idempotency-Key": "k"})).json()
        again = (await world.publish("t", payload=1, client_msg_id="k", query="?wait=sequenced")).json()
        assert again["message_id"] == first["message_id"]
        assert (again["duplicate"], again["seq"]) == (True, 1)
        both = await world.publish("t", payload=1, client_msg_id="k", headers={"Idempotency-Key": "k"})
        assert (both.json()["duplicate"], both.json()["seq"]) == (True, 1)
        assert len(world.owner.messages("t")) == 1
        assert world.metrics.published == {("accepted", "durable"): 1, ("duplicate", "durable"): 2}

    play(scene)


def test_two_ingests_give_one_client_msg_id_one_seq() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        service, log, _, _ = world.another()
        await log.open()
        auth = {"Authorization": f"Bearer {world.token(service=True)}"}
        body = {"payload": 1, "client_msg_id": "k"}
        path = "/api/v1/topics/t/publish?wait=sequenced"
        async with world.client_of(service) as client:
            answers = await asyncio.gather(
                client.post(path, json=body, headers=auth), world.client.post(path, json=body, headers=auth)
            )
        assert sorted((a.json()["seq"], a.json()["duplicate"]) for a in answers) == [(1, False), (1, True)]

    play(scene)


def test_the_same_publish_twice_at_once_is_one_append() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.latency = lambda log, shard: 0.5
        before = world.metrics.records
        both = await asyncio.gather(*[world.publish("t", payload=1, client_msg_id="k") for _ in range(2)])
        assert [answer.status_code for answer in both] == [200, 200]
        assert world.metrics.records == before + 1

    play(scene)


def test_a_known_retry_is_answered_with_the_log_away_and_costs_no_rate() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bo = world.token("bo")
        for at in range(100):
            await world.publish("t", bo, payload=1, client_msg_id=f"m{at}")
        world.log.reach = Reach.REFUSED
        for _ in range(3):
            again = await world.publish("t", bo, payload=1, client_msg_id="m7")
            assert (again.status_code, again.json()["duplicate"]) == (200, True)
        problem(await world.publish("t", bo, payload=1, client_msg_id="new"), 429, "rate_limited")
        world.clock.virtual.now += 0.7
        assert (await world.publish("t", bo, payload=1, client_msg_id="m7")).status_code == 200

    play(scene)


def test_refused_never_appears_and_may_be_sent_again() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.reach = Reach.REFUSED
        answer = await world.publish("t", payload=1, client_msg_id="k")
        problem(answer, 503, "log_unavailable")
        world.log.reach = Reach.OK
        assert world.owner.messages("t") == []
        other_body = await world.publish("t", payload=2, client_msg_id="k")
        assert (other_body.status_code, "duplicate" in other_body.json()) == (200, False)

    play(scene)


@pytest.mark.parametrize("given", [True, False])
def test_an_unresolved_publish_is_504_until_the_log_is_back_and_then_once_in_it(given: bool) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.log.reach = Reach.SILENT
        started = world.clock.now()
        first = await world.publish("t", payload=1, **({"client_msg_id": "k"} if given else {}))
        body = problem(first, 504, "outcome_unknown")
        assert 5.5 <= world.clock.now() - started <= 7
        name = body["client_msg_id"]
        assert body["message_id"] == id_text(keyed_id(b"t", "ana", name))
        world.log.reach = Reach.REFUSED
        started = world.clock.now()
        for _ in range(2):
            problem(await world.publish("t", payload=1, client_msg_id=name), 504, "outcome_unknown")
        problem(await world.publish("t", payload=1, client_msg_id="fresh"), 503, "log_unavailable")
        assert world.clock.now() - started < 0.1
        problem(await world.publish("t", payload=2, client_msg_id=name), 422, "idempotency_conflict")
        world.log.reach = Reach.OK
        await asyncio.sleep(15)  # virtual: a probe closes the circuit
        again = await world.publish("t", payload=1, client_msg_id=name, query="?wait=sequenced")
        assert (again.status_code, again.json()["seq"]) == (200, 1)
        known = await world.publish("t", payload=1, client_msg_id=name)
        assert (known.json()["duplicate"], known.json()["seq"]) == (True, 1)
        assert len(world.owner.messages("t")) == 1

    play(scene)
