"""Many JavaScript clients over two gateways while processes die: `python -m tests.clients --clients 1000 --minutes 5`.

Both gateways and one dispatcher are killed in turn, with kill -9, and started again. At the end one line a figure,
and exit status 1 where a message was lost, repeated or out of order. Loopback only; it stops what it started.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.clients.javascript import Application, numbered
from tests.clients.reconnects import reconnects
from tests.e2e import ledger
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Stage, token, until
from tests.e2e.traffic import Traffic
from tests.kafka.provide import provide

TOPICS = ["room.a", "room.b", "room.c", "room.d"]
PROCESSES = 2
HEAL_S = 90.0


async def _run(deployment: Deployment, clients: int, minutes: float) -> None:
    await deployment.start()
    service = token("p", service=True)
    ingest = deployment.ingests[0].url
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(ingest, service))
        await publisher.create_all(TOPICS)
        applications = [
            await stack.enter_async_context(await Application.run(_orders(deployment, number, clients // PROCESSES)))
            for number in range(PROCESSES)
        ]
        followed = clients // PROCESSES
        await until("all follow", lambda: all(a.counts["subscribed"] >= followed for a in applications), HEAL_S)
        traffic = await stack.enter_async_context(Traffic([ingest], service, TOPICS, strict=False))
        faults = await _faults(deployment, time.monotonic() + minutes * 60)
        await traffic.stop()
        due = {topic: len(payloads) for topic, payloads in traffic.sent.items()}
        wanted = sum(due.values()) * clients // len(TOPICS)
        await until("all is given", lambda: sum(a.counts["message"] for a in applications) >= wanted, HEAL_S)
        for number, application in enumerate(applications):
            _judge(application, traffic, number)
        states = [line for application in applications for line in application.of("state")]
        for name, began_ms, ended_ms in faults:
            found = reconnects(states, began_ms, ended_ms)
            print(
                f"kill -9 of {name}: {found.clients} connections lost, back p95 {found.p95_s:.2f} s, "
                f"largest share in 100 ms {found.largest_share:.1%}"
            )
        print(f"{clients} clients, {traffic.total} messages, {wanted} deliveries, each once and in order")


def _orders(deployment: Deployment, number: int, clients: int) -> dict[str, object]:
    return {
        "name": f"p{number}", "url": deployment.ingests[0].url, "clients": clients,
        "stream_urls": [gateway.url for gateway in deployment.gateways], "one_topic_of": TOPICS,
        "tokens": [token(f"p{number}-{client}") for client in range(clients)],
    }  # fmt: skip


async def _faults(deployment: Deployment, end: float) -> list[tuple[str, float, float]]:
    """Kills one role after the other until the time is over; returns each with the span that is its own, in ms."""
    faults: list[tuple[str, float, float]] = []
    victims = [*deployment.gateways, deployment.dispatchers[0]]
    while not faults or time.monotonic() < end:
        role = victims[len(faults) % len(victims)]
        began = time.time() * 1000
        role.kill9()
        await asyncio.sleep(6)
        role.start()
        await role.ready()
        await asyncio.sleep(6)
        faults.append((role.name, began, time.time() * 1000))
    return faults


def _judge(application: Application, traffic: Traffic, number: int) -> None:
    assert application.of("gap") == [] and application.of("end") == []
    for topic, seen in application.seen().items():
        sent = [numbered(json.loads(one)) for one in traffic.sent[topic]]
        for who, messages in seen.items():
            ledger.complete(f"{topic} in process {number}", who, messages, sent)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients")
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, default=5.0)
    orders = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, provide() as kafka:
        stage = Stage(Path(folder))
        try:
            deployment = Deployment(stage, kafka.bootstrap, "clients", dispatchers=2, gateways=2)
            asyncio.run(_run(deployment, orders.clients, orders.minutes))
        except AssertionError as error:
            print(f"failed: {error}")
            return 1
        finally:
            stage.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
