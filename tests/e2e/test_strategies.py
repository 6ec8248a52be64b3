"""Batches, the flush by hand, statistics and a full queue with real processes: on the embedded log and on Kafka."""

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import Any

from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.harness import Deployment, Role, Stage, token, until

BATCHED = {"kind": "batched", "max_messages": 5, "max_delay_ms": 60_000}
LIMIT = 50


async def _batches(publisher: Publisher, urls: list[str], bearer: str | None) -> None:
    """12 messages: two full batches, a flush for one, a swap for the last; then the statistics."""
    assert (await publisher.create("t", settings={"strategy": BATCHED})).status == 201
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(Subscriber(f"r{at}", [url], ["t"], token=bearer))
            for at, url in enumerate(urls)
        ]

        async def all_have(count: int) -> bool:
            return all(reader.count >= count for reader in readers)

        async def subscribed() -> bool:
            return all(reader.connected for reader in readers)

        await until("subscribed", subscribed, 20)
        for number in range(1, 12):
            answer = await publisher.publish("t", number, wait="sequenced")
            assert (answer.status, answer.body["seq"]) == (200, number)
        await until("two batches", lambda: all_have(10), 10)
        await asyncio.sleep(0.3)
        assert [reader.count for reader in readers] == [10] * len(readers), "the eleventh is held"
        flushed = await publisher.call("POST", "/api/v1/topics/t/flush")
        assert (flushed.status, flushed.body) == (202, {"topic_id": "t", "gateways": len(readers)})
        await until("the flush", lambda: all_have(11), 10)
        await publisher.publish("t", 12, wait="sequenced")
        await publisher.call("PATCH", "/api/v1/topics/t", {"settings": {"strategy": None}})
        await until("the swap", lambda: all_have(12), 10)
        for reader in readers:
            assert [seen.seq for seen in reader.messages["t"]] == list(range(1, 13))
        assert (await publisher.call("POST", "/api/v1/topics/t/publish", {})).status == 400
        stats: dict[str, Any] = {}

        async def counted() -> bool:
            stats.update((await publisher.call("GET", "/api/v1/topics/t/stats")).body)
            return (stats["delivered"], stats["rejected"]) == (12 * len(readers), 1)

        await until("the statistics", counted, 10)
        assert stats["published"] == 12 and stats["subscriber_count"] == len(readers) and stats["queue_length"] == 0
        assert stats["latency_ms_avg"] > 0


async def _fill(publisher: Publisher, owner: Role) -> None:
    """The owner is stopped: the queue fills to its limit; it runs again, and publishes pass."""
    assert (await publisher.create("q", settings={"queue_limit": LIMIT})).status == 201
    assert (await publisher.publish("q", 0, wait="sequenced")).status == 200
    await asyncio.sleep(0.5)
    owner.signal(signal.SIGSTOP)
    accepted, refused = 0, None
    for number in range(3 * LIMIT):
        answer = await publisher.publish("q", number)
        if answer.status != 200:
            refused = answer
            break
        accepted += 1
    owner.signal(signal.SIGCONT)
    assert refused is not None and (refused.status, refused.body["code"]) == (429, "queue_full"), refused
    assert abs(accepted / LIMIT - 1) <= 0.2, accepted

    async def passes() -> bool:
        return (await publisher.publish("q", "again")).status == 200

    await until("publishes pass again", passes, 20)


async def test_on_the_embedded_log(stage: Stage) -> None:
    dev = stage.dev(data=True).start()
    await dev.ready()
    async with Publisher(dev.url) as publisher:
        await _batches(publisher, [dev.url], None)
        status, out, _ = await stage.command("topics", "stats", "t", "--url", dev.url)
        assert status == 0 and b'"delivered":12' in out
        status, out, _ = await stage.command("topics", "flush", "t", "--url", dev.url)
        assert status == 0 and b'"gateways"' in out


async def test_on_kafka(stage: Stage, kafka_bootstrap: str, log_prefix: str) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, gateways=2)
    await deployment.start()
    bearer = token("p", service=True, admin=True)
    async with Publisher(deployment.ingests[0].url, bearer) as publisher:
        await _batches(publisher, [role.url for role in deployment.gateways], bearer)
        await _fill(publisher, deployment.dispatchers[0])
