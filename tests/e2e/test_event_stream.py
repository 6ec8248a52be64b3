"""GET /api/v1/events of real processes, on an embedded log and on Kafka: stock clients, and a killed dispatcher."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e.harness import SECRET, Deployment, Role, Stage, shards_of, token, until
from tests.e2e.stock import Told

TOPIC = "room"
WAIT_S = 30.0


class Operator:
    """A reader of the stream of one ingest."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    @asynccontextmanager
    async def watching(self, ingest: Role, query: str = "") -> AsyncIterator[Self]:
        headers = {"authorization": f"Bearer {token('root', admin=True)}"}
        async with (
            httpx.AsyncClient(timeout=60, trust_env=False, headers=headers) as client,
            client.stream("GET", f"{ingest.url}/api/v1/events?{query}") as answer,
        ):
            assert answer.status_code == 200
            reading = asyncio.create_task(self._read(answer))
            yield self
            reading.cancel()

    async def _read(self, answer: httpx.Response) -> None:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                self.events.append(json.loads(line.removeprefix("data: ")))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("event") == name]


async def _publish(ingest: Role, topic: str = TOPIC) -> None:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        headers = {"authorization": f"Bearer {token('ann', service=True)}"}
        answer = await client.post(f"{ingest.url}/api/v1/topics/{topic}/publish", json={"payload": 1}, headers=headers)
        assert answer.status_code in (200, 503, 504), answer.text


async def _subscribe(stack: AsyncExitStack, gateway: Role, user: str, topic: str = TOPIC) -> ClientConnection:
    url = f"ws://127.0.0.1:{gateway.port}/ws/subscribe?topic_id={topic}&token={token(user)}"
    socket = await stack.enter_async_context(connect(url, proxy=None))
    for expected in ("welcome", "subscribed"):
        assert json.loads(await socket.recv())["type"] == expected
    return socket


async def _told_of_a_new_message(operator: Operator, ingest: Role, count: int) -> None:
    """Publishes until a message was numbered and delivered by so many gateways while they are watched."""

    async def seen() -> bool:
        await _publish(ingest)
        await asyncio.sleep(0.5)
        return any(len(_deliveries(operator, event["seq"])) == count for event in operator.of("message_enqueued"))

    await until("a message and its deliveries are told", seen, WAIT_S)


def _deliveries(operator: Operator, seq: int) -> list[dict[str, Any]]:
    return [event for event in operator.of("delivered") if event["seq"] == seq and event["subscribers"]]


async def test_an_eventsource_and_the_command_see_what_happens_in_dev(stage: Stage) -> None:
    dev = stage.dev(data=True, auth__mode="jwt", auth__secret=SECRET).start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        await _subscribe(stack, dev, "ann")
        await _subscribe(stack, dev, "bob", "other")
        url = f"{dev.url}/api/v1/events?token={token('root', admin=True)}&topic_id={TOPIC}"
        client = await stack.enter_async_context(await Told.event_source(f"{url}&event=message_enqueued"))
        await until("the stream stands", lambda: len(client.of("open")) == 1, WAIT_S)
        operator = await stack.enter_async_context(Operator().watching(dev, f"topic_id={TOPIC}"))
        await _publish(dev, "other")
        await _told_of_a_new_message(operator, dev, 1)
        await until("the EventSource has it", lambda: bool(client.of("message")), WAIT_S)
        assert {line["data"]["event"] for line in client.of("message")} == {"message_enqueued"}
        assert {event["topic"] for event in operator.events} == {TOPIC}
        command = stage.command(
            *("events", "--event", "message_enqueued", "--count", "1", "--url", dev.url),
            *("--token", token("root", admin=True)),
            settings={},
        )
        printing = asyncio.create_task(command)
        while not printing.done():
            await _publish(dev)
            await asyncio.sleep(0.2)
        status, out, _ = printing.result()
        assert (status, json.loads(out)["event"]) == (0, "message_enqueued")
        dev.sigterm()
        await until("it is told that the process stops", lambda: bool(client.of("disconnect")), WAIT_S)
        assert client.of("disconnect")[0]["data"]["code"] == 4601


async def test_events_of_separate_processes_on_kafka_go_on_after_a_dispatcher_was_killed(
    stage: Stage, kafka_bootstrap: str, log_prefix: str
) -> None:
    settings = {"topics.auto_create": "true"}
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2, settings=settings)
    await deployment.start()
    (ingest,) = deployment.ingests
    async with AsyncExitStack() as stack:
        for number, gateway in enumerate(deployment.gateways):
            await _subscribe(stack, gateway, f"u{number}")
        operator = await stack.enter_async_context(Operator().watching(ingest))
        await _told_of_a_new_message(operator, ingest, 2)
        shard = shard_of(topic_key(TOPIC), 8)
        owner = next(role for role in deployment.dispatchers if shard in shards_of(role))
        owner.kill9()
        await until("the gap is told", lambda: any(e.get("event") == "gap" for e in operator.events), 60)
        operator.events.clear()
        await _told_of_a_new_message(operator, ingest, 2)
        for gateway in deployment.gateways:
            metrics = await gateway.metrics()
            assert metrics['headgate_lifecycle_events_total{event="failed"}'] == 0
        (left,) = [role for role in deployment.dispatchers if role.running]
        assert (await left.metrics())['headgate_lifecycle_events_total{event="message_enqueued"}'] > 0
