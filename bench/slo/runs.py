"""The runs that measure the service levels, on a deployment that is made for each. `scale` 1 is the whole size."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from websockets.asyncio.client import connect as connect_websocket

from bench.crowd import Crowd, quantile_of
from bench.latency import paced, quantile
from bench.slo.rows import Found
from bench.stream_of_messages import Messages
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, token

OFFERED: Final = 1_200_000
BATCH: Final = 12
RATES: Final = {"rate_limit": {"per_s": 1_000_000, "burst": 1_000_000}}


class Place(NamedTuple):
    """Where a run takes place."""

    deployment: Deployment
    admin: Publisher
    scale: float

    @property
    def gateways(self) -> list[str]:
        return [f"127.0.0.1:{gateway.port}" for gateway in self.deployment.gateways]

    async def topics(self, name: str, count: int) -> list[str]:
        made = [f"{name}-{n}" for n in range(count)]
        await self.admin.create_all(made)
        return made


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
    seconds, took = max(5, round(60 * place.scale)), dict[int, float]()
    first = await place.admin.create("first")  # on a Kafka that has just started it takes seconds: told apart

    async def one(n: int) -> None:
        answer = await place.admin.create(f"made-{n}")
        assert answer.status == 201, answer
        took[n] = time.perf_counter()

    due = await paced(50, seconds, one)
    p95 = quantile([(took[n] - at) * 1e3 for n, at in due.items()], 0.95)
    return [
        Found(
            "create_p95",
            round(p95, 1),
            f"p95 of {len(due):,}, 50 a second; the first ever took {first.took_s * 1e3:.0f} ms",
        )
    ]


async def subscribe(place: Place) -> list[Found]:
    """100 sockets that each follow and leave a topic, 50 pairs a second for a minute."""
    topics, took = await place.topics("subscribe", 50), list[float]()
    url = f"ws://{place.gateways[0]}/ws/subscribe"
    headers = {"Authorization": f"Bearer {token('subscriber', service=True)}"}
    sockets = [await connect_websocket(url, additional_headers=headers, proxy=None) for _ in range(100)]

    async def turn(n: int) -> None:
        socket = sockets[n % len(sockets)]
        for what in ("subscribe", "unsubscribe"):
            begun = time.perf_counter()
            await socket.send(json.dumps({"type": what, "topic_id": topics[n % len(topics)], "presence": False}))
            while json.loads(await socket.recv())["type"] != f"{what}d":
                pass
            took.append((time.perf_counter() - begun) * 1e3)

    await paced(50, max(5, round(60 * place.scale)), turn)
    for socket in sockets:
        await socket.close()
    return [
        Found("subscribe_p95", round(quantile(took, 0.95), 1), f"p95 of {len(took):,}, 100 a second, from the send")
    ]


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
    topics, took = await place.topics("history", 200), dict[int, float]()
    for topic in topics:
        results = await place.admin.batch(
            [{"topic_id": topic, "payload": {"n": n, "v": "x" * 900}} for n in range(150)]
        )
        assert all(result["status"] == 200 for result in results), results[:1]

    async def one(n: int) -> None:
        path = f"/api/v1/topics/{topics[n % len(topics)]}/messages"
        answer = await place.admin.call("GET", path, after_seq=50, limit=100)
        assert answer.status == 200, answer
        assert len(answer.body["messages"]) == 100, answer
        took[n] = time.perf_counter()

    due = await paced(100, max(5, round(60 * place.scale)), one)
    p95 = quantile([(took[n] - at) * 1e3 for n, at in due.items()], 0.95)
    return [Found("history_p95", round(p95, 1), f"p95 of {len(due):,} requests, 100 a second, 1 KB messages")]


async def writes(place: Place) -> list[Found]:
    """Batches of 20 over 200 topics: 6,000 messages a second for ten minutes, then 10,000 a second for 10 s."""
    topics, seconds = await place.topics("writes", 200), max(5, round(600 * place.scale))
    took = dict[int, float]()

    async def one(n: int) -> None:
        names = [topics[(n * 20 + i) % 200] for i in range(20)]
        items: list[dict[str, object]] = [{"topic_id": name, "payload": "x" * 200} for name in names]
        results = await place.admin.batch(items)
        assert all(result["status"] == 200 for result in results), results[:1]
        took[n] = time.perf_counter()

    due = await paced(300, seconds, one)
    late = [(took[n] - at) * 1e3 for n, at in due.items()]
    rate = 20 * len(took) / (max(took.values()) - due[0] - quantile(late, 0.5) / 1e3)
    due = await paced(500, 10, one)
    burst = quantile([(took[n] - at) * 1e3 for n, at in due.items()], 0.95)
    scale = (
        f"batches of 20 for {seconds} s, answered p95 {quantile(late, 0.95):.0f} ms; 10,000/s for 10 s: {burst:.0f} ms"
    )
    return [Found("writes_per_s", round(rate), scale)]


async def crowd(place: Place) -> list[Found]:
    """100,000 sockets of one topic: ten messages, many for 10 s, churn for a minute, a gateway killed."""
    count, gateways = max(200, round(100_000 * place.scale)), place.gateways
    assert (await place.admin.create("crowd", settings=RATES)).status == 201
    async with Crowd(gateways, max(2, -(-count // 15_000))) as many:
        opened, empty = 0.0, sum(_resident_kb(gateway.pid) for gateway in place.deployment.gateways)
        for at in range(0, count, 10_000):
            opened += await many.open("crowd", [f"user-{n}" for n in range(at, min(at + 10_000, count))])
            print(f"{min(at + 10_000, count):,} of {count:,} follow after {opened:.0f} s", flush=True)
        memory = sum(_resident_kb(gateway.pid) for gateway in place.deployment.gateways) - empty
        each = f"{memory / count:.1f} KB of gateway memory each, {count / opened:,.0f} connects/s"
        async with Messages(place.admin, ["crowd"], 0.5) as messages:
            await asyncio.sleep(20)
        told = await many.report("crowd", await messages.last_seq("crowd"))
        print(f"one message to all: {told}", flush=True)
        rate, held = await _held(place, many, count)
        print(held, flush=True)
        async with Messages(place.admin, ["crowd"], 0.2):
            took, failed = await many.churn("crowd", [f"new-{n}" for n in range(count // 10)], count / 600)
        late = await many.report("crowd", await messages.last_seq("crowd"))
        print(f"churn of 10 % a minute: p95 {quantile_of(took, 0.95)} ms, {len(failed)} failed; {late}", flush=True)
        place.deployment.gateways[0].kill9()
        back = await many.come_back("crowd", gateways[1:], 2.8)
        await place.admin.publish("crowd", {"at": time.time()})
        await many.report("crowd", await messages.last_seq("crowd"))
    size = f"{count:,} sockets of one topic on {len(gateways)} gateway processes"
    return [
        Found("sockets", count, f"{size}; {each}; one message to all: {told}"),
        Found("deliveries_per_s", round(rate), f"{size}; {held}"),
        Found("churn_p95", quantile_of(took, 0.95), f"{size}, {took.total():,} came and went in a minute; {late}"),
        Found("sockets_each", count // len(gateways), f"a server is one gateway process; {each}"),
        Found("back_p95", quantile_of(back, 0.95), f"{back.total():,} of {count:,} sockets, their gateway killed"),
    ]


async def _held(place: Place, many: Crowd, count: int) -> tuple[float, str]:
    """Offers 1.2 million deliveries a second for 10 s, in batches of 12; returns how many a second were made.

    What is in one batch is one write to a socket: with more sockets there are fewer batches.
    """
    per_s, sent = OFFERED / BATCH / count, list[int]()
    begun = time.time()

    async def one(n: int) -> None:
        items: list[dict[str, object]] = [{"topic_id": "crowd", "payload": {"at": begun + n / per_s}}] * BATCH
        results = await place.admin.batch(items)
        sent.append(sum(result["status"] == 200 for result in results))

    await paced(per_s, 10, one)
    found = await many.report("crowd", await _newest(place))
    total, seconds = found.late.total(), max(10.0, time.time() - begun)
    assert total == count * sum(sent), f"{total} deliveries of {count * sum(sent)}"
    return total / seconds, f"{sum(sent):,} messages in 10 s, all delivered after {seconds:.1f} s; {found}"


async def _newest(place: Place) -> int:
    """Returns the number of the newest message of the crowd's topic."""
    seq: int = (await place.admin.call("GET", "/api/v1/topics/crowd")).body["seq"]
    return seq


def _resident_kb(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


Run = Callable[[Place], Awaitable[list[Found]]]
RUNS: Final[dict[str, tuple[Run, float]]] = {  # minutes at scale 1
    "latency": (latency, 2), "create": (create, 1.5), "subscribe": (subscribe, 1.5), "connect": (connect, 2.5),
    "history": (history, 2), "writes": (writes, 11), "crowd": (crowd, 8),
}  # fmt: skip
