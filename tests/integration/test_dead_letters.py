"""Dead letters over HTTP, from an ingest, a dispatcher and a gateway's link, on the embedded log and on Kafka."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from headgate.core.client.limits import Limits
from headgate.core.delivery.dead_letter_record import LetterAdded, LetterEnded, decode_letter
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.link_dead_letters import Receiver
from headgate.core.wire.records import LogName
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link
from tests.contract.log_suite import read_from
from tests.e2e.acking import Worker
from tests.integration.cluster_twin import GatewayNode, token
from tests.integration.letters_twin import LETTERS, PHONE, Site, site

SHARDS = 2
TOPICS = [next(f"t{n}" for n in range(99) if shard_of(f"t{n}".encode(), SHARDS) == shard) for shard in range(SHARDS)]
TOPIC, OTHER = TOPICS


@pytest.fixture(params=["sqlite", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    if request.param == "sqlite":
        sqlite: Log = SqliteLog(tmp_path / "log.db", SystemClock(), SystemRng(), SHARDS)
        await sqlite.open()
        yield sqlite
        await sqlite.close()
        return
    bootstrap, prefix = request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("log_prefix")
    options = LogOptions(f"kafka://{bootstrap}", prefix, shards=SHARDS)
    await init_kafka(options)
    kafka = KafkaLog(options)
    await kafka.open()
    yield kafka
    await kafka.close()


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def one_letter(on: Site, seq: int = 2) -> str:
    """Creates the topic and gives up one of its messages; returns the letter's id."""
    await on.create(TOPIC, 3)
    await on.host(TOPIC)
    await on.give_up(TOPIC, seq)
    (letter,) = await on.listed(topic_id=TOPIC)
    return str(letter["id"])


async def test_given_up_listed_shown_replayed_failed_again_replayed_and_acknowledged(log: Log) -> None:
    async with site(log) as on:
        letter_id = await one_letter(on)
        (letter,) = await on.listed()
        assert set(letter) == {
            *("id", "topic_id", "epoch", "seq", "message_id", "user_id", "device_id"),
            *("attempts", "reason", "last_error", "at"),
        }
        assert (letter["topic_id"], letter["seq"], letter["attempts"]) == (TOPIC, 2, 3)
        assert (letter["user_id"], letter["device_id"]) == ("bob", "phone")
        assert (letter["reason"], letter["last_error"]) == ("max_attempts", "down")
        shown = await on.done("GET", f"{LETTERS}/{letter_id}")
        assert shown == {**letter, "replaying": False, "message": shown["message"]}
        assert (shown["message"]["payload"], shown["message"]["message_id"]) == ({"n": 2}, letter["message_id"])

        answer = await on.call("POST", f"{LETTERS}/{letter_id}/replay")
        assert (answer.status_code, answer.json()) == (202, {"id": letter_id, "topic_id": TOPIC})
        assert await on.listed() == []
        (again,) = on.gateway.redelivered
        assert (again.seq, again.receiver, json.loads(again.frame)["payload"]) == (2, PHONE, {"n": 2})
        assert (await on.done("GET", f"{LETTERS}/{letter_id}"))["replaying"]

        await on.give_up(TOPIC, 2, error="down again")
        (letter,) = await on.listed(topic_id=TOPIC)
        assert (letter["id"], letter["last_error"]) == (letter_id, "down again")

        await on.done("POST", f"{LETTERS}/{letter_id}/replay")
        on.acknowledge(on.gateway.redelivered[-1])
        async with asyncio.timeout(20):
            while (await on.call("GET", f"{LETTERS}/{letter_id}")).status_code != 404:
                await asyncio.sleep(0.02)
        problem(await on.call("POST", f"{LETTERS}/{letter_id}/replay"), 404, "not_found")
        text = on.metrics.render().decode()
        assert 'headgate_dead_letters_total{reason="max_attempts"} 2.0' in text
        assert "headgate_dead_letters_open 0.0" in text


@pytest.mark.parametrize("drain", [True, False])
async def test_letters_and_replays_survive_their_owner(log: Log, drain: bool) -> None:
    async with site(log, drain=drain) as on:
        replaying = await one_letter(on)
        await on.give_up(TOPIC, 3)
        await on.done("POST", f"{LETTERS}/{replaying}/replay")
        (before,) = await on.listed()
        await asyncio.sleep(0.3 if drain else 0)  # a snapshot has them, or it does not
    async with site(log) as on:
        assert await on.listed() == [before]
        await on.host(TOPIC)
        await until(lambda: on.gateway.redelivered)
        assert {again.id for again in on.gateway.redelivered} == {replaying}
        await on.give_up(TOPIC, 3)
        assert await on.listed() == [before], "one letter, however often a gateway asks"
        assert "headgate_dead_letters_open 1.0" in on.metrics.render().decode()


async def test_a_purged_letter_is_gone_and_what_is_no_letter_is_not_found(log: Log) -> None:
    async with site(log) as on:
        letter_id = await one_letter(on)
        with structlog.testing.capture_logs() as lines:
            answer = await on.call("DELETE", f"{LETTERS}/{letter_id}")
            assert (answer.status_code, answer.content) == (204, b"")
            problem(await on.call("DELETE", f"{LETTERS}/{letter_id}"), 404, "not_found")
        audited = [line for line in lines if line["event"] == "dead_letter.purge"]
        assert [(line["user"], line["topic"], line["outcome"]) for line in audited] == [
            ("ann", TOPIC, "ok"),
            ("ann", "", "not_found"),
        ]
        assert {line["change"] for line in audited} == {f"id={letter_id}"}
        assert await on.listed() == []
        for path in (f"{LETTERS}/x", f"{LETTERS}/{letter_id.upper()}"):
            problem(await on.call("GET", path), 400, "bad_request")
            problem(await on.call("DELETE", path), 400, "bad_request")
        problem(await on.call("PUT", f"{LETTERS}/{letter_id}"), 405, "method_not_allowed")
        assert (await on.call("HEAD", LETTERS)).status_code == 200


async def test_every_topic_that_the_caller_administers_in_pages_and_no_other(log: Log) -> None:
    async with site(log) as on:
        for topic, permissions in ((TOPIC, "PUBLIC"), (OTHER, "PRIVATE")):
            await on.create(topic, 4, permissions)
            await on.host(topic)
            for seq in range(1, 5):
                await on.give_up(topic, seq)
        everything = await on.listed(limit=3)
        assert [letter["id"] for letter in everything] == sorted(letter["id"] for letter in everything)
        assert sorted((letter["topic_id"], letter["seq"]) for letter in everything) == sorted(
            (topic, seq) for topic in TOPICS for seq in range(1, 5)
        )
        assert [letter["topic_id"] for letter in await on.listed(topic_id=OTHER, limit=3)] == [OTHER] * 4
        assert await on.listed("eve") == []
        hidden = next(letter["id"] for letter in everything if letter["topic_id"] == OTHER)
        open_one = next(letter["id"] for letter in everything if letter["topic_id"] == TOPIC)
        problem(await on.call("GET", LETTERS, "eve", params={"topic_id": TOPIC}), 403, "forbidden")
        problem(await on.call("GET", LETTERS, "eve", params={"topic_id": OTHER}), 404, "topic_not_found")
        unknown = "00000000-0000-8000-8000-000000000000"
        for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
            problem(await on.call(method, f"{LETTERS}/{open_one}{rest}", "eve"), 403, "forbidden")
            found = problem(await on.call(method, f"{LETTERS}/{hidden}{rest}", "eve"), 404, "not_found")
            none = problem(await on.call(method, f"{LETTERS}/{unknown}{rest}", "eve"), 404, "not_found")
            assert found == {**none, "detail": none["detail"].replace(unknown, hidden)}
        for query in ({"limit": "0"}, {"page": "x"}, {"topic_id": "~"}):
            assert (await on.call("GET", LETTERS, params=query)).status_code == 400


async def test_a_redacted_message_leaves_nothing_in_a_letter(log: Log) -> None:
    async with site(log) as on:
        letter_id = await one_letter(on)
        (letter,) = await on.listed()
        await on.give_up(TOPIC, 2, Receiver("bob", "laptop"), error="cannot read 2")
        await on.done("DELETE", f"/api/v1/topics/{TOPIC}/messages/{letter['message_id']}")
        async with asyncio.timeout(20):
            while any(found["last_error"] for found in await on.listed()):
                await asyncio.sleep(0.02)
        shown = await on.done("GET", f"{LETTERS}/{letter_id}")
        assert (shown["message"]["payload"], shown["message"]["redacted"]) == (None, True)
        await on.done("POST", f"{LETTERS}/{letter_id}/replay")
        await until(lambda: on.gateway.redelivered)
        assert json.loads(on.gateway.redelivered[-1].frame)["payload"] is None


async def test_the_letters_of_a_deleted_topic_go(log: Log) -> None:
    async with site(log) as on:
        letter_id = await one_letter(on)
        await on.done("DELETE", f"/api/v1/topics/{TOPIC}")
        assert await on.listed() == []
        problem(await on.call("GET", f"{LETTERS}/{letter_id}"), 404, "not_found")
        await on.create(TOPIC, 1)
        assert await on.listed(topic_id=TOPIC) == [], "a topic that is made again begins without letters"


async def test_everything_in_the_log_has_one_format_and_what_an_earlier_release_wrote_does_no_harm(log: Log) -> None:
    old = (
        b'{"id":"0:17","shard":0,"offset":17,"items":1,"at":1500,"reason":"corrupt","detail":"","key":"","value":"/w==","cut":false}',
        b'{"op":"removed","topic":"orders","message_id":1,"subscriber":"billing","why":"replayed"}',
    )
    async with site(log) as on:
        shard = shard_of(topic_key(TOPIC), SHARDS)
        for value in old:
            await log.append(LogName.DEAD_LETTERS, shard, b"k", value)
        await on.create(TOPIC, 0)
        await log.append(LogName.MESSAGES, shard, topic_key(TOPIC), b"not JSON")
        await on.done("POST", f"/api/v1/topics/{TOPIC}/publish?wait=sequenced", json={"payload": 1})
        await on.host(TOPIC)
        await on.give_up(TOPIC, 1)
        (letter,) = await on.listed()
        await on.done("DELETE", f"{LETTERS}/{letter['id']}")
        bounds = await log.bounds(LogName.DEAD_LETTERS, shard)
        records = await read_from(log, LogName.DEAD_LETTERS, shard, bounds.first, bounds.end - bounds.first)
        found = [decode_letter(record.value) for record in records if record.value]
    assert [type(record) for record in found] == [LetterAdded, LetterEnded, LetterAdded, LetterAdded, LetterEnded]
    refused = msgspec.json.decode(records[2].value or b"")["letter"]
    assert (refused["topic"], refused["reason"]) == (TOPIC, "not_json")
    assert isinstance(found[3], LetterAdded)
    assert found[3].letter.payload is None


async def test_one_fails_twice_one_always_and_nobody_else_notices(log: Log) -> None:
    hopeless = {3}

    def fails(number: int, attempt: int) -> bool:
        return number in hopeless or (number == 2 and attempt <= 2)

    retry = {"kind": "fixed", "first_ms": 400, "max_ms": 400, "jitter": 0, "max_attempts": 3}
    async with site(log) as on, AsyncExitStack() as stack:
        body = {"topic_id": TOPIC, "name": TOPIC, "permissions": "PUBLIC", "settings": {"retry": retry}}
        await on.done("POST", "/api/v1/topics", json=body)
        node = GatewayNode("g", Limits())
        near, far = encoded_link("g2", "d")
        on.service.accept(far)
        node.directory.add(near)
        await stack.enter_async_context(node.serving())
        url = [f"http://127.0.0.1:{node.server.port}"]
        bob = Worker("bob", url, TOPIC, token("bob"), fails, 3)
        others = [Worker(user, url, TOPIC, token(user), lambda number, attempt: False, 3) for user in ("joe", "eve")]
        for worker in (bob, *others):
            await stack.enter_async_context(worker)
        await until(lambda: all(worker.is_subscribed for worker in (bob, *others)))
        for n in range(1, 6):
            await on.done("POST", f"/api/v1/topics/{TOPIC}/publish?wait=sequenced", json={"payload": {"n": n}})
        await until(lambda: len(bob.ledger.seen) == 5 and set(+bob.ledger.owed) == {3})
        tried = [attempt for seq, attempt in bob.tries if seq == 2]
        assert tried == [1, 2, 3]
        async with asyncio.timeout(20):
            while not await on.listed(topic_id=TOPIC):
                await asyncio.sleep(0.05)
        (letter,) = await on.listed(topic_id=TOPIC)
        assert (letter["user_id"], letter["device_id"], letter["seq"]) == ("bob", "desk", 3)
        assert (letter["attempts"], letter["last_error"]) == (3, "planned")

        hopeless.clear()
        bob.ledger.given_up(3, letter["attempts"], 3)
        bob.ledger.replay(3)
        told = len(bob.tries)
        await on.done("POST", f"{LETTERS}/{letter['id']}/replay")
        await until(lambda: not +bob.ledger.owed)
        assert bob.tries[told:] == [(3, 1)], "with its old seq, and nothing else comes"
        async with asyncio.timeout(20):
            while (await on.call("GET", f"{LETTERS}/{letter['id']}")).status_code != 404:
                await asyncio.sleep(0.05)
        for worker in (bob, *others):
            worker.check()
            worker.ledger.nothing_is_due()
        assert [worker.tries for worker in others] == [[(seq, 1) for seq in range(1, 6)]] * 2
