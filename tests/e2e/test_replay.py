"""A real data set goes through `headgate publish` and comes out of WebSocket, SSE and history: each event once, in
order, content equal; on the embedded log and on Kafka."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import msgspec
import pytest

from tests.e2e import ledger
from tests.e2e.clients import Publisher, Seen, SseReader, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import ROOT, Deployment, Stage, at_most, token, until

EVENTS = ROOT / "examples" / "replay" / "events.py"


class Served(NamedTuple):
    """Where a running Headgate is reached."""

    ingest: str
    gateway: str
    token: str


@asynccontextmanager
async def embedded(stage: Stage) -> AsyncIterator[Served]:
    dev = stage.dev(data=True)
    dev.start()
    await dev.ready()
    yield Served(dev.url, dev.url, token("replayer", service=True))


@asynccontextmanager
async def on_kafka(stage: Stage, bootstrap: str, prefix: str) -> AsyncIterator[Served]:
    deployment = Deployment(stage, bootstrap, prefix, settings={"topics.auto_create": "true"})
    await deployment.start()
    yield Served(deployment.ingests[0].url, deployment.gateways[0].url, token("replayer", service=True))


@pytest.mark.parametrize("log", ["embedded", "kafka"])
async def test_each_event_of_a_real_data_set_arrives_once_in_order_and_equal_everywhere(
    log: str, stage: Stage, figures: Figures, request: pytest.FixtureRequest
) -> None:
    text = await _events()
    lines = text.splitlines()
    sent: dict[str, list[bytes]] = {}
    for line in lines:
        sent.setdefault(msgspec.json.decode(line)["topic"], []).append(line)
    assert len(lines) >= 10_000
    if log == "kafka":
        served = on_kafka(stage, request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("log_prefix"))
    else:
        served = embedded(stage)
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(served)
        socket = Subscriber("ws", [at.gateway], list(sent), token=at.token)
        await stack.enter_async_context(socket)
        streams = [SseReader(at.gateway, topic, token=at.token) for topic in sent]
        for stream in streams:
            await stack.enter_async_context(stream)
        await until("subscribed", lambda: socket.connected and all(s.subscribed.is_set() for s in streams), 30)

        began = time.monotonic()
        status, out, err = await stage.command(
            "publish", "--topic-field", "topic", "--url", at.ingest, "--token", at.token, "-", stdin=text
        )
        took = time.monotonic() - began
        assert status == 0, err.decode()
        assert len(out.splitlines()) == len(lines), "one line a message"

        def arrived() -> bool:
            return socket.count >= len(lines) and sum(len(s.messages) for s in streams) >= len(lines)

        after = await at_most(20, arrived)
        publisher = await stack.enter_async_context(Publisher(at.ingest, at.token))
        for stream in streams:
            topic = stream.topic_id
            epoch = socket.messages[topic][0].epoch
            history = [
                Seen(epoch, m["seq"], msgspec.json.encode(m["payload"]), m["message_id"], m["publisher_id"], 0.0)
                for m in await publisher.history(topic)
            ]
            everywhere = {"WebSocket": socket.messages[topic], "SSE": stream.messages, "history": history}
            for who, seen in everywhere.items():
                ledger.complete(topic, who, seen, sent[topic])
            ledger.same_everywhere(topic, everywhere)
        assert socket.connections == 1
    figures.say(
        f"{log}: {len(lines)} events in {len(sent)} topics by `headgate publish` in {took:.1f} s "
        f"({len(lines) / took:.0f}/s with the command's start), the last at its subscribers {after:.2f} s later; "
        "WebSocket, SSE and history: each once, in order, equal"
    )


async def _events() -> bytes:
    process = await asyncio.create_subprocess_exec(sys.executable, str(EVENTS), stdout=asyncio.subprocess.PIPE)
    text, _ = await process.communicate()
    assert process.returncode == 0
    return text
