"""Applications on the Python client while real processes are killed, drained and frozen, and connections are cut:
every message once, in order. `HEADGATE_PYTHON_CLIENTS=200 HEADGATE_PYTHON_CLIENTS_S=300` makes the long run."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from headgate_client import Client
from tests.clients.cutting_proxy import cutting
from tests.clients.python_applications import Reader, Writer, entered, spread
from tests.e2e.harness import Deployment, Role, Stage, at_most, token, until

CLIENTS = int(os.environ.get("HEADGATE_PYTHON_CLIENTS", "40"))
SECONDS = float(os.environ.get("HEADGATE_PYTHON_CLIENTS_S", "0"))  # of the rounds of kills; 0: one round
TOPICS = [f"py.{number}" for number in range(10)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Processes that end with the test; none of them may have written a traceback."""
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.close()
    assert not stage.tracebacks(), "a process wrote a traceback"


async def finish(writer: Writer, readers: list[Reader], more: int = 50) -> int:
    """Lets traffic go on for a while, waits for all of it and checks every application; returns the deliveries."""
    enough = writer.total + more
    await until("traffic goes on", lambda: writer.total >= enough, 60)
    await writer.stop()
    expected = sum(len(writer.sent[topic]) for reader in readers for topic in reader.topics)
    await at_most(30, lambda: sum(reader.count for reader in readers) >= expected)
    for reader in readers:
        reader.check(writer.sent)
    return expected


async def test_dev_is_killed_and_comes_back_and_applications_see_nothing_of_it(stage: Stage) -> None:
    dev = stage.dev(data=True, auth__mode="open").start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        readers = [Reader(f"r{n}", [dev.url], [dev.url], TOPICS[:3], user=f"r{n}") for n in range(10)]
        await entered(stack, readers)
        writer = await stack.enter_async_context(Writer([dev.url], TOPICS[:3], user="w"))
        for _ in range(3):
            before = writer.total
            await until("traffic flows", lambda enough=before + 40: writer.total >= enough, 60)
            dev.kill9()
            await asyncio.sleep(0.3)
            dev.start()
            await dev.ready()
        expected = await finish(writer, readers)
    print(f"3 kills of dev: {writer.total} messages, {expected} deliveries, each once, in order")


async def test_a_proxy_that_cuts_connections_loses_and_doubles_nothing(stage: Stage) -> None:
    dev = stage.dev(data=True, auth__mode="open").start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(cutting(dev.port, seed=7))
        readers = [Reader(f"r{n}", [dev.url], [proxy.url], TOPICS[:3], "earliest", user=f"r{n}") for n in range(6)]
        for reader in readers:
            await stack.enter_async_context(reader)
        writer = await stack.enter_async_context(Writer([proxy.url], TOPICS[:3], user="w"))
        await until("many connections were cut", lambda: proxy.cuts >= 60, 90)
        proxy.cutting = False
        await finish(writer, readers)
    print(f"{proxy.cuts} connections cut: {writer.total} messages, each once, in order")


async def test_gateways_and_a_dispatcher_are_killed_in_turn(
    stage: Stage, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, ingests=2, dispatchers=2, gateways=2)
    await deployment.start()
    victims = [*deployment.gateways, deployment.dispatchers[0]]
    async with AsyncExitStack() as stack:
        writer, readers = await busy(stack, deployment)
        began, turn = time.monotonic(), 0
        while turn < len(victims) or time.monotonic() - began < SECONDS:
            victim = victims[turn % len(victims)]
            await killed(victim, writer, readers)
            turn += 1
        expected = await finish(writer, readers)
    print(
        f"{turn} kills of 2 gateways and a dispatcher in turn, {CLIENTS} clients, {time.monotonic() - began:.0f} s: "
        f"{writer.total} messages, {expected} deliveries, each once, in order"
    )


async def killed(victim: Role, writer: Writer, readers: list[Reader]) -> None:
    """kill -9, a start, and 5 s; clients of a gateway must be back, and spread."""
    counts = {reader.name: len(reader.back) for reader in readers}
    victim.kill9()
    at = time.monotonic()
    await asyncio.sleep(1)
    victim.start()
    await victim.ready()
    before = writer.total
    await until("traffic flows again", lambda: writer.total >= before + 20, 60)
    await asyncio.sleep(max(at + 6 - time.monotonic(), 0))
    moved = [reader for reader in readers if len(reader.back) > counts[reader.name]]
    await until("every client is back", lambda: all(len(r.back) % len(r.topics) == 0 for r in readers), 30)
    if moved:
        p95, longest, most = spread(moved, at)
        times = f"p95 {p95:.2f} s, longest {longest:.2f} s"
        print(f"{victim.name} killed: {len(moved)} clients back, {times}, at most {most} in 100 ms")
        assert p95 < 5.0, "twice what is wanted on a quiet machine"
    assert bool(moved) == victim.name.startswith("gateway")


async def test_a_gateway_drains_and_a_gateway_and_a_dispatcher_freeze(
    stage: Stage, kafka_bootstrap: str, log_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate_client.session.PING_EVERY_S", 1.0)
    monkeypatch.setattr("headgate_client.session.PING_TIMEOUT_S", 1.0)
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, ingests=2, dispatchers=2, gateways=2)
    await deployment.start()
    async with AsyncExitStack() as stack:
        writer, readers = await busy(stack, deployment)
        draining = deployment.gateways[0]
        draining.sigterm()
        assert await draining.ended(25) == 0
        draining.start()
        await draining.ready()
        for frozen in (deployment.gateways[1], deployment.dispatchers[1]):
            frozen.signal(signal.SIGSTOP)
            before = {reader.name: reader.count for reader in readers}

            def flows(before: dict[str, int] = before) -> bool:
                return all(reader.count > before[reader.name] + 3 for reader in readers)

            took = await until("every application reads on", flows, 60)
            print(f"{frozen.name} frozen: every application reads on after {took:.1f} s")
            frozen.signal(signal.SIGCONT)
            await frozen.ready(30)
        await finish(writer, readers)


async def busy(stack: AsyncExitStack, deployment: Deployment) -> tuple[Writer, list[Reader]]:
    """Topics, applications (even ones begin at the first gateway) and traffic that has reached all of them."""
    ingests = [ingest.url for ingest in deployment.ingests]
    gateways = [gateway.url for gateway in deployment.gateways]
    async with Client(ingests, token=token("w", service=True), trust_env=False) as client:
        for topic in TOPICS:
            await client.request("POST", "/api/v1/topics", body={"name": topic, "topic_id": topic}, key=topic)
    readers = [
        Reader(f"r{n}", ingests, gateways if n % 2 else gateways[::-1], random.sample(TOPICS, 2), token=token(f"r{n}"))
        for n in range(CLIENTS)
    ]
    await entered(stack, readers)
    writer = await stack.enter_async_context(Writer(ingests, TOPICS, token=token("w", service=True)))
    await until("traffic flows", lambda: all(reader.count >= 4 for reader in readers), 60)
    return writer, readers
