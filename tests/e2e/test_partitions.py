"""The network between a dispatcher and the others is cut and heals: nothing is lost, repeated or out of order."""

import asyncio
import time
from contextlib import AsyncExitStack

from tests.e2e import ledger
from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, token, until
from tests.e2e.partition import Partition
from tests.e2e.traffic import Traffic

TOPICS = [f"room.{number:02}" for number in range(12)]
SUBSCRIBERS = 12
SHORT_S, LONG_S = 1.0, 25.0  # below and above what a link waits for a sign of life


async def test_a_dispatcher_that_gateways_and_ingests_cannot_reach_catches_up_when_they_can(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2)
    fronts = stage.ports(len(deployment.dispatchers))
    for role in deployment.roles:
        role.settings["cluster.dispatchers"] = ",".join(f"127.0.0.1:{port}" for port in fronts)
    for role, port in zip(deployment.dispatchers, fronts, strict=True):
        role.settings["dispatcher.advertise"] = f"127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        ways = [
            await stack.enter_async_context(Partition(port, role.port))
            for role, port in zip(deployment.dispatchers, fronts, strict=True)
        ]
        await deployment.start()
        service = token("p", service=True)
        publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, service))
        await publisher.create_all(TOPICS)
        urls = [gateway.url for gateway in deployment.gateways]
        subscribers = [
            Subscriber(f"s{n}", urls if n % 2 else urls[::-1], TOPICS[n % 3 :: 3], token=token(f"s{n}"))
            for n in range(SUBSCRIBERS)
        ]
        for subscriber in subscribers:
            await stack.enter_async_context(subscriber)
        await until("every subscription is granted", lambda: all(s.connected for s in subscribers), 30)
        traffic = await stack.enter_async_context(Traffic([deployment.ingests[0].url], service, TOPICS, strict=False))
        await until("traffic flows", lambda: all(s.count >= 20 for s in subscribers), 30)
        for seconds in (SHORT_S, LONG_S):
            before = traffic.total
            ways[0].cut()
            await asyncio.sleep(seconds)
            assert traffic.total > before, "publishes need no dispatcher"
            ways[0].heal()
            healed = time.monotonic()
            told = {topic: len(traffic.sent[topic]) for topic in TOPICS}

            def caught_up(told: dict[str, int] = told) -> bool:
                return all(len(s.messages[topic]) >= told[topic] for s in subscribers for topic in s.topics)

            await until("all that was published meanwhile is there", caught_up, 60)
            figures.say(
                f"one of 2 dispatchers cut off from gateways and ingests for {seconds:g} s: {traffic.total - before} "
                f"messages meanwhile, all delivered {time.monotonic() - healed:.2f} s after it healed"
            )
        await traffic.stop()
        await until("the rest is there", lambda: all(
            len(s.messages[topic]) >= len(traffic.sent[topic]) for s in subscribers for topic in s.topics
        ), 60)  # fmt: skip
        for subscriber in subscribers:
            for topic in subscriber.topics:
                ledger.complete(topic, subscriber.name, subscriber.messages[topic], traffic.sent[topic])
        assert all(s.connections == 1 for s in subscribers), "clients see nothing of it"
    assert not stage.tracebacks()
