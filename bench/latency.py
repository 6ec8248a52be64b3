"""From publish to subscriber through real Kafka, beside a bare produce-consume loop alternated in the same run.

    python -m bench.latency [--rate 100] [--seconds 10] [--rounds 3]

Open loop: latency counts from the scheduled send time. One ingest, one dispatcher, one gateway, one Kafka node, and
this client share the machine. Must not know how the services work: HTTP in, WebSocket out.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import websockets
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.cpu import cpu_s
from tests.e2e.harness import Deployment, Stage, token
from tests.kafka.cluster import KafkaCluster

WARM_S = 4.0
GRACE_S = 3.0
TOPIC = "latency"
VALUE = "x" * 100


class Round(NamedTuple):
    """Milliseconds of each message, by hop."""

    total: list[float]
    ack: list[float]


def quantile(values: list[float], q: float) -> float:
    """Returns the q-quantile of a list of numbers."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


async def paced(rate: float, seconds: float, send: Callable[[int], Awaitable[None]]) -> dict[int, float]:
    """Starts one send a slot whether earlier ones have ended or not; returns the scheduled time of each."""
    start, due, running = time.perf_counter() + 0.05, {}, set()
    for n in range(int(rate * seconds)):
        due[n] = start + n / rate
        await asyncio.sleep(max(0.0, due[n] - time.perf_counter()))
        task = asyncio.ensure_future(send(n))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.wait_for(asyncio.gather(*running), GRACE_S)
    return due


class Publisher:
    """Keep-alive HTTP connections with as little client in the way as can be."""

    def __init__(self, port: int, bearer: str) -> None:
        self._port = port
        self._bearer = bearer
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def publish(self, n: int) -> None:
        """Publishes {"n": n} and reads the answer."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        body = json.dumps({"payload": {"n": n, "v": VALUE}}).encode()
        writer.write(
            f"POST /api/v1/topics/{TOPIC}/publish HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self._bearer}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
        if b" 200 " not in head[:15]:
            raise RuntimeError(f"refused: {answer.decode()}")
        self._idle.append((reader, writer))


async def through_headgate(deployment: Deployment, rate: float, seconds: float) -> Round:
    """One round through HTTP, Kafka, the dispatcher, the gateway and a WebSocket."""
    bearer = token("bench", service=True, admin=True)
    publisher = Publisher(deployment.ingests[0].port, bearer)
    seen: dict[int, float] = {}
    acked: dict[int, float] = {}
    url = f"ws://127.0.0.1:{deployment.gateways[0].port}/ws/subscribe?topic_id={TOPIC}"

    async def send(n: int) -> None:
        await publisher.publish(n)
        acked[n] = time.perf_counter()

    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {bearer}"}, proxy=None) as socket:
        while json.loads(await socket.recv())["type"] != "subscribed":
            pass

        async def listen() -> None:
            async for text in socket:
                frame = json.loads(text)
                if frame["type"] == "message":
                    seen.setdefault(frame["payload"]["n"], time.perf_counter())

        listener = asyncio.ensure_future(listen())
        due = await paced(rate, seconds, send)
        async with asyncio.timeout(GRACE_S):
            while len(seen) < len(due):
                await asyncio.sleep(0.01)
        listener.cancel()
    return Round([(seen[n] - t) * 1e3 for n, t in due.items()], [(acked[n] - t) * 1e3 for n, t in due.items()])


async def through_kafka(bootstrap: str, topic: str, rate: float, seconds: float) -> Round:
    """One round of the smallest program that sends to Kafka and reads it back."""
    partition = TopicPartition(topic, 0)
    settings = {"bootstrap_servers": bootstrap, "metadata_max_age_ms": 1000}
    seen: dict[int, float] = {}
    acked: dict[int, float] = {}
    async with (
        AIOKafkaProducer(**settings, acks="all", linger_ms=0) as producer,
        AIOKafkaConsumer(**settings, enable_auto_commit=False) as consumer,
    ):
        consumer.assign([partition])
        await consumer.seek_to_end(partition)

        async def listen() -> None:
            while True:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        seen[json.loads(record.value)["n"]] = time.perf_counter()

        async def send(n: int) -> None:
            await producer.send_and_wait(topic, json.dumps({"n": n, "v": VALUE}).encode(), partition=0)
            acked[n] = time.perf_counter()

        listener = asyncio.ensure_future(listen())
        due = await paced(rate, seconds, send)
        async with asyncio.timeout(GRACE_S):
            while len(seen) < len(due):
                await asyncio.sleep(0.01)
        listener.cancel()
    return Round([(seen[n] - t) * 1e3 for n, t in due.items()], [(acked[n] - t) * 1e3 for n, t in due.items()])


def row(name: str, rounds: list[Round]) -> tuple[float, float]:
    """Prints one line; returns the medians of the rounds' p50 and p99."""
    p50 = [quantile(r.total, 0.5) for r in rounds]
    p99 = [quantile(r.total, 0.99) for r in rounds]
    ack = [quantile(r.ack, 0.5) for r in rounds]
    after = [quantile([t - a for t, a in zip(r.total, r.ack, strict=True)], 0.5) for r in rounds]
    print(
        f"{name:24} p50 {statistics.median(p50):6.2f} ms ({min(p50):.2f}-{max(p50):.2f})   "
        f"p99 {statistics.median(p99):6.1f} ms   acked after {statistics.median(ack):.2f} ms   "
        f"seen {statistics.median(after):+.2f} ms after the ack"
    )
    return statistics.median(p50), statistics.median(p99)


async def run(rate: float, seconds: float, rounds: int, folder: Path) -> None:
    """Runs the rounds, one kind after the other."""
    cluster = await asyncio.to_thread(KafkaCluster)
    await asyncio.to_thread(cluster.start)
    stage = Stage(folder)
    try:
        deployment = Deployment(stage, cluster.bootstrap, "bench")
        await deployment.start(shards=8)
        async with httpx.AsyncClient() as http:
            bearer = {"Authorization": f"Bearer {token('bench', service=True, admin=True)}"}
            body = {"topic_id": TOPIC, "name": TOPIC, "settings": {"rate_limit": {"per_s": 100_000, "burst": 100_000}}}
            (
                await http.post(f"{deployment.ingests[0].url}/api/v1/topics", json=body, headers=bearer)
            ).raise_for_status()
        await through_headgate(deployment, rate, WARM_S)
        await through_kafka(cluster.bootstrap, "bench.inbox", rate, WARM_S)
        ours: list[Round] = []
        bare: list[Round] = []
        for number in range(rounds):
            before, cpu = await deployment.ingests[0].metrics(), cpu_s(deployment.ingests[0].pid)
            ours.append(await through_headgate(deployment, rate, seconds))
            after, cpu = await deployment.ingests[0].metrics(), cpu_s(deployment.ingests[0].pid) - cpu
            bare.append(await through_kafka(cluster.bootstrap, "bench.inbox", rate, seconds))
            spent = after["headgate_append_seconds_sum{}"] - before["headgate_append_seconds_sum{}"]
            count = after["headgate_append_seconds_count{}"] - before["headgate_append_seconds_count{}"]
            print(
                f"round {number + 1}: append to Kafka, mean {spent / count * 1e3:.2f} ms; "
                f"ingest {cpu / count * 1e6:.0f} us of CPU a publish", flush=True,
            )  # fmt: skip
        print(f"{rate:g} messages/s, {rounds} rounds of {seconds:g} s each, one Kafka node, medians of the rounds")
        a, b = row("headgate, HTTP to WS", ours), row("bare aiokafka", bare)
        print(f"difference: p50 {a[0] - b[0]:+.2f} ms, p99 {a[1] - b[1]:+.1f} ms")
    finally:
        stage.close()
        await asyncio.to_thread(cluster.stop)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        asyncio.run(run(given.rate, given.seconds, given.rounds, Path(folder)))


if __name__ == "__main__":
    main()
