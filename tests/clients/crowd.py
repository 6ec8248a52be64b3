"""Many applications on both clients over two gateways and two dispatchers, while processes are killed in turn.

It judges what they were given by the topics' history, and measures how they came back.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple, Self

from headgate_client import Client, Outgoing, Problem
from tests.clients.javascript import Application, numbered
from tests.clients.reconnects import Reconnects, reconnects
from tests.e2e import ledger
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Role, token, until

HEAL_S: Final = 120.0
CALM_S: Final = 6.0
PER_PROCESS: Final = 500
LARGE_BATCH: Final = 1_000
LARGE_EVERY_S: Final = 60.0


class Size(NamedTuple):
    """How many clients of each kind, over how many topics, each with so many messages a second."""

    js: int
    python: int
    topics: int = 20
    per_s: float = 2.0

    @property
    def clients(self) -> int:
        """All clients."""
        return self.js + self.python

    @property
    def names(self) -> list[str]:
        """The topics."""
        return [f"crowd.{number}" for number in range(self.topics)]


class Writers:
    """Publishes single messages and batches to each topic, with the Python client; one batch a minute has 1,000."""

    def __init__(self, urls: Sequence[str], size: Size) -> None:
        self.acked: dict[str, dict[str, str]] = {topic: {} for topic in size.names}  # client_msg_id: message_id
        self.batches = 0
        self._client = Client(urls, token=token("writer", service=True), trust_env=False)
        self._every_s = 1 / size.per_s
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._large_at = time.monotonic() + LARGE_EVERY_S / 2

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(topic)) for topic in self.acked]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    @property
    def total(self) -> int:
        """Messages acknowledged. Raises what a writer died of."""
        for task in self._tasks:
            if task.done():
                task.result()
        return sum(map(len, self.acked.values()))

    async def stop(self) -> None:
        """Ends after what is under way."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _write(self, topic: str) -> None:
        number = 0
        while not self._stop.is_set():
            began = time.monotonic()
            count = self._count(number)
            items = [
                Outgoing(payload={"number": each, "topic": topic}, client_msg_id=f"{topic}-{each}")
                for each in range(number, number + count)
            ]
            number += count
            await self._publish(topic, items)
            await asyncio.sleep(max(began + self._every_s * min(count, 20) - time.monotonic(), 0.01))

    def _count(self, number: int) -> int:
        if time.monotonic() >= self._large_at:
            self._large_at += LARGE_EVERY_S
            return LARGE_BATCH
        return 10 if number % 5 == 4 else 1

    async def _publish(self, topic: str, items: list[Outgoing]) -> None:
        if len(items) == 1:
            answers: list[Any] = [
                await self._client.publish(topic, items[0].payload, client_msg_id=items[0].client_msg_id)
            ]
        else:
            self.batches += 1
            answers = list(await self._client.publish_batch(items, topic_id=topic))
        for answer in answers:
            assert not isinstance(answer, Problem), f"a publish to {topic}: {answer}"
            self.acked[topic][answer.client_msg_id] = answer.message_id


class Fault(NamedTuple):
    """A kill -9 of a process, and its span until the next one, in Unix milliseconds."""

    name: str
    began_ms: float
    ended_ms: float


class Crowd:
    """The clients of one run."""

    def __init__(self, deployment: Deployment, size: Size, calm_s: float = CALM_S) -> None:
        """`calm_s`: after each kill, and after each restart."""
        self.deliveries = 0
        self._calm_s = calm_s
        self.size = size
        self.faults: list[Fault] = []
        self.writers = Writers([ingest.url for ingest in deployment.ingests], size)
        self._deployment = deployment
        self._applications: list[Application] = []

    async def run(self, seconds: float) -> None:
        """Connects, publishes and kills for so long (each process at least once), heals and judges."""
        ingest = self._deployment.ingests[0].url
        async with AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(Publisher(ingest, token("writer", service=True)))
            await publisher.create_all(self.size.names)
            for orders in self._orders():
                self._applications.append(await stack.enter_async_context(await _started(orders)))
            await until("all follow", lambda: self._count("subscribed") >= self.size.clients, HEAL_S)
            await stack.enter_async_context(self.writers)
            await self._inflict(time.monotonic() + seconds)
            await self.writers.stop()
            history = {topic: await publisher.history(topic) for topic in self.size.names}
            due = sum(len(history[self.size.names[n % self.size.topics]]) for n in self._numbers())
            await until("all is given", lambda: self._count("message") >= due, HEAL_S)
            for application in self._applications:
                await application.leave()
            self.deliveries = due
            self._judge(history)

    def figures(self) -> list[tuple[Fault, Reconnects]]:
        """Returns how the clients came back after each kill."""
        lines = sorted(
            (line for one in self._applications for kind in ("state", "subscribed") for line in one.of(kind)),
            key=lambda line: float(line["at"]),
        )
        return [(fault, reconnects(lines, *fault[1:], self.size.clients)) for fault in self.faults]

    def _orders(self) -> list[dict[str, Any]]:
        kinds = [("js", self.size.js), ("python", self.size.python)]
        parts = [
            (kind, begin, min(PER_PROCESS, total - begin))
            for kind, total in kinds
            for begin in range(0, total, PER_PROCESS)
        ]
        return [
            {
                "kind": kind, "name": f"{kind}{begin}", "url": self._deployment.ingests[0].url, "clients": count,
                "stream_urls": [gateway.url for gateway in self._deployment.gateways],
                "one_topic_of": self.size.names, "keep": True,
                "tokens": [token(f"{kind}-{begin + number}") for number in range(count)],
            }
            for kind, begin, count in parts
        ]  # fmt: skip

    def _numbers(self) -> list[int]:
        """The number of each client in its process: it decides its topic."""
        return [number for orders in self._orders() for number in range(orders["clients"])]

    def _count(self, kind: str) -> int:
        assert self._lines("end") == [] and self._lines("gap") == [], "a subscription ended, or a gap was told"
        return sum(application.counts[kind] for application in self._applications)

    def _lines(self, kind: str) -> list[dict[str, Any]]:
        return [line for one in self._applications if one.counts[kind] for line in one.of(kind)]

    async def _inflict(self, end: float) -> None:
        victims = [*self._deployment.gateways, self._deployment.dispatchers[0]]
        await asyncio.sleep(self._calm_s / 2)
        while len(self.faults) < len(victims) or time.monotonic() < end:
            await self._killed(victims[len(self.faults) % len(victims)])

    async def _killed(self, role: Role) -> None:
        began_ms = time.time() * 1_000
        role.kill9()
        await asyncio.sleep(self._calm_s)
        role.start()
        await role.ready()
        await asyncio.sleep(self._calm_s)
        self.faults.append(Fault(role.name, began_ms, time.time() * 1_000))

    def _judge(self, history: dict[str, list[dict[str, Any]]]) -> None:
        seen: dict[str, dict[str, Any]] = {topic: {} for topic in history}
        for application in self._applications:
            for topic, given in application.seen().items():
                seen[topic] |= given
        assert sum(map(len, seen.values())) == self.size.clients, "each client was given something"
        for topic, kept in history.items():
            ledger.acknowledged_once(topic, self.writers.acked[topic], kept)
            ids = {message_id: client_msg_id for client_msg_id, message_id in self.writers.acked[topic].items()}
            ledger.nothing_invented(
                topic, set(ids.values()), [ids.get(message["message_id"], "unknown") for message in kept]
            )
            sent = [numbered(message["payload"]) for message in kept]
            for who, messages in seen[topic].items():
                ledger.complete(topic, who, messages, sent)
            ledger.same_everywhere(topic, seen[topic])


async def _started(orders: dict[str, Any]) -> Application:
    if orders["kind"] == "js":
        return await Application.run(orders)
    command = [sys.executable, "-m", "tests.clients.python_follow", json.dumps(orders)]
    return await Application.started(command)
