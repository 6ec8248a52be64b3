"""Separate processes on real Kafka: one ingest, two dispatchers, two gateways, 50 subscribers over 200 topics and
20,000 messages. Nothing lost, repeated or sent to a gateway that does not host its topic."""

import asyncio
import time
from contextlib import AsyncExitStack

import msgspec

from tests.e2e import ledger
from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Role, Stage, at_most, token, until

TOPICS = [f"city.{number:03}" for number in range(200)]
SUBSCRIBERS = 50
FOLLOWED = 12  # topics of one subscriber
WORKERS = 8  # each has topics of its own, so that the order within a topic is known
BATCHES, BATCH = 18, 125  # of one worker: 2,250 messages
SINGLES = 250
MESSAGES = WORKERS * (BATCHES * BATCH + SINGLES)


async def test_20000_messages_through_separate_processes_reach_50_subscribers_once_in_order(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2)
    ready = await deployment.start()
    sent: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(
            Publisher(deployment.ingests[0].url, token("publisher", service=True))
        )
        await publisher.create_all(TOPICS)
        subscribers = [_subscriber(deployment, number) for number in range(SUBSCRIBERS)]
        for subscriber in subscribers:
            await stack.enter_async_context(subscriber)
        await until("every subscription is granted", lambda: all(s.connected for s in subscribers), 30)

        hosts = [set().union(*(s.topics for s in subscribers[side::2])) for side in range(2)]
        assert hosts[0] - hosts[1] and hosts[1] - hosts[0] and hosts[0] & hosts[1] and set(TOPICS) - hosts[0] - hosts[1]
        began = time.monotonic()
        await asyncio.gather(*(_publish(publisher, number, sent) for number in range(WORKERS)))
        took = time.monotonic() - began
        expected = sum(len(sent[topic]) for s in subscribers for topic in s.topics)
        after = await at_most(20, lambda: sum(s.count for s in subscribers) >= expected)

        for subscriber in subscribers:
            for topic in subscriber.topics:
                ledger.complete(topic, subscriber.name, subscriber.messages[topic], sent[topic])
            assert subscriber.connections == 1 and not subscriber.of_type("gap") and not subscriber.of_type("error")
        for topic in TOPICS:
            of_topic = {s.name: s.messages[topic] for s in subscribers if topic in s.messages}
            ledger.same_everywhere(topic, of_topic)
        for topic in TOPICS[::10]:
            history = await publisher.history(topic)
            ledger.dense(topic, [m["seq"] for m in history])
            assert [msgspec.json.encode(m["payload"]) for m in history] == sent[topic], f"D1 history of {topic}"

    pairs = sum(len(sent[topic]) for side in hosts for topic in side)
    came = await _links(deployment.gateways, "in")
    went = await _links(deployment.dispatchers, "out")
    figures.say(
        f"1 ingest, 2 dispatchers, 2 gateways (ready after {ready:.1f} s); {MESSAGES} messages over {len(TOPICS)} "
        f"topics in {took:.1f} s ({MESSAGES / took:.0f}/s), {expected} deliveries to {SUBSCRIBERS} subscribers, the "
        f"last {after:.2f} s after the last answer; none lost, none repeated, seq dense; (message, gateway) pairs: "
        f"computed {pairs}, gateways in {came:.0f}, dispatchers out {went:.0f} (not {2 * MESSAGES}: everything to both)"
    )
    assert sum(map(len, sent.values())) == MESSAGES
    assert came == pairs, "no gateway gets a topic that it does not host"
    assert went == pairs, "each message is sent once to each gateway that hosts its topic"


def _subscriber(deployment: Deployment, number: int) -> Subscriber:
    """Even ones are at the first gateway and follow of 0-119, odd ones at the second and of 80-199; none follows x0."""
    side = number % 2
    mine = [topic for at, topic in enumerate(TOPICS) if (at < 120, at >= 80)[side] and at % 10]
    topics = [mine[(number * 7 + step * 9) % len(mine)] for step in range(FOLLOWED)]
    assert len(set(topics)) == FOLLOWED
    name = f"subscriber-{number}"
    return Subscriber(name, [deployment.gateways[side].url], topics, token=token(name))


async def _publish(publisher: Publisher, worker: int, sent: dict[str, list[bytes]]) -> None:
    """Batches over the worker's topics, with singles between them; every answer must be 200."""
    mine = TOPICS[worker::WORKERS]
    number = 0

    def item() -> dict[str, object]:
        nonlocal number
        topic = mine[(number * 3) % len(mine)]
        number += 1
        payload = {"worker": worker, "number": number}
        sent[topic].append(msgspec.json.encode(payload))
        return {"topic_id": topic, "payload": payload}

    singles = [SINGLES // BATCHES + (turn < SINGLES % BATCHES) for turn in range(BATCHES)]
    for count in singles:
        results = await publisher.batch([item() for _ in range(BATCH)])
        assert all(result["status"] == 200 for result in results), results
        for _ in range(count):
            await _single(publisher, item())


async def _single(publisher: Publisher, item: dict[str, object]) -> None:
    answer = await publisher.publish(str(item["topic_id"]), item["payload"])
    assert answer.status == 200, f"a publish: {answer}"


async def _links(roles: list[Role], direction: str) -> float:
    name = f'headgate_link_messages_total{{direction="{direction}"}}'
    return sum([(await role.metrics())[name] for role in roles])
