"""The runs of a minute or two: latency, creation, subscribe, connects, history."""

import asyncio
import json
import time
from collections import Counter

from websockets.asyncio.client import connect as connect_websocket

from bench.crowd import Crowd, quantile_of
from bench.latency import quantile
from bench.slo.place import Place, dues, open_loop
from bench.slo.rows import Found
from bench.stream_of_messages import Messages
from tests.e2e.harness import token


async def latency(place: Place) -> list[Found]:
    """1,000 sockets, ten a topic, 500 messages a second for a minute: 5,000 deliveries a second."""
    topics, seconds = await place.topics("latency", max(2, round(100 * place.scale))), max(5, round(60 * place.scale))
    per_s = 5.0 * len(topics)
    late: Counter[int] = Counter()
    async with Crowd(place.gateways, 1) as crowd:
        for topic in topics:
            await crowd.open(topic, [f"{topic}-user-{n}" for n in range(10)])
        async with Messages(place.admin, topics, per_s) as messages:
            await asyncio.sleep(seconds)
        for topic in topics:
            late += (await crowd.report(topic, await messages.last_seq(topic))).late
    wanted = 10 * len(messages.took_ms)
    scale = f"{late.total():,} deliveries to {10 * len(topics):,} sockets, {per_s:g} messages/s for {seconds} s"
    return [
        Found("delivery_p95", quantile_of(late, 0.95), scale),
        Found("delivery_p99", quantile_of(late, 0.99), scale),
        Found("lost", 100 * (1 - late.total() / wanted), f"{scale}; nothing was killed"),
    ]


async def create(place: Place) -> list[Found]:
    """50 creations a second for a minute."""
    seconds = max(5, round(60 * place.scale))
    first = await place.admin.create("first")  # on a Kafka that has just started it takes seconds: told apart

    async def one(n: int, _: float) -> None:
        answer = await place.admin.create(f"made-{n}")
        assert answer.status == 201, answer

    took = await open_loop("create", dues((50, seconds)), one)
    scale = f"p95 of {len(took):,}, 50 a second; the first ever took {first.took_s * 1e3:.0f} ms"
    return [Found("create_p95", round(quantile(took, 0.95), 1), scale)]


async def subscribe(place: Place) -> list[Found]:
    """100 sockets that each follow and leave a topic, 50 pairs a second for a minute."""
    topics, took = await place.topics("subscribe", 50), list[float]()
    url = f"ws://{place.gateways[0]}/ws/subscribe"
    headers = {"Authorization": f"Bearer {token('subscriber', service=True)}"}
    sockets = [await connect_websocket(url, additional_headers=headers, proxy=None) for _ in range(100)]

    async def turn(n: int, due: float) -> None:
        socket, begun = sockets[n % len(sockets)], due
        for what in ("subscribe", "unsubscribe"):
            await socket.send(json.dumps({"type": what, "topic_id": topics[n % len(topics)], "presence": False}))
            while json.loads(await socket.recv())["type"] != f"{what}d":
                pass
            took.append((time.time() - begun) * 1e3)
            begun = time.time()

    await open_loop("subscribe", dues((50, max(5, round(60 * place.scale)))), turn)
    for socket in sockets:
        await socket.close()
    scale = f"p95 of {len(took):,}, 100 a second, from when each was due"
    return [Found("subscribe_p95", round(quantile(took, 0.95), 1), scale)]


async def connect(place: Place) -> list[Found]:
    """20,000 connects with a subscription, 200 a second."""
    (topic,), count = await place.topics("connect", 1), max(500, round(20_000 * place.scale))
    async with Crowd(place.gateways, 2) as crowd:
        await crowd.open(topic, [f"first-{n}" for n in range(100)])
        took, failed = await crowd.churn(topic, [f"user-{n}" for n in range(count)], 200)
        await crowd.report(topic)
    scale = f"{count:,} connects, 200 a second, p95 {quantile_of(took, 0.95)} ms; failed: {failed[:2]}"
    return [Found("connected", 100 * took.total() / count, scale)]


async def history(place: Place) -> list[Found]:
    """The last 100 messages of 200 topics with 150 each, 100 requests a second."""
    topics = await place.topics("history", 200)
    for topic in topics:
        results = await place.admin.batch(
            [{"topic_id": topic, "payload": {"n": n, "v": "x" * 900}} for n in range(150)]
        )
        assert all(result["status"] == 200 for result in results), results[:1]

    async def one(n: int, _: float) -> None:
        path = f"/api/v1/topics/{topics[n % len(topics)]}/messages"
        answer = await place.admin.call("GET", path, after_seq=50, limit=100)
        assert answer.status == 200, answer
        assert [message["seq"] for message in answer.body["messages"]] == list(range(51, 151)), answer

    took = await open_loop("history", dues((100, max(5, round(60 * place.scale)))), one)
    scale = f"p95 of {len(took):,} requests, 100 a second, 1 KB messages"
    return [Found("history_p95", round(quantile(took, 0.95), 1), scale)]
