"""Presence under churn: are the lists true after a gateway's death, and what do messages of another topic feel of it?

The control is the same churn in a topic whose presence is off: what is left of a difference is the price of presence.

    python -m bench.presence [--users 2000] [--per-s 200] [--seconds 10] [--gateways 3]

Real processes and one Kafka node share the machine with this client. Open loop: latency counts from the scheduled send
time (bench/latency.py). Kills its own processes only.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.latency import TOPIC, Round, quantile, through_headgate
from tests.e2e.harness import Deployment, Stage, token
from tests.kafka.cluster import KafkaCluster
from tests.presence_room import Crowd, listed_by

ROOM, PLAIN = "room", "plain"
WITHIN_S = 15.0
RATE = 50.0


def show(what: str, found: Round) -> None:
    """Prints the latencies of a round."""
    quantiles = "  ".join(f"p{q * 100:g} {quantile(found.total, q):6.1f} ms" for q in (0.5, 0.95, 0.99))
    print(f"{what:58} {quantiles}", flush=True)


class Bench:
    """One deployment with a topic of messages and a topic with a crowd."""

    def __init__(
        self, deployment: Deployment, http: httpx.AsyncClient, crowd: Crowd, given: argparse.Namespace
    ) -> None:
        self.deployment = deployment
        self.http = http
        self.crowd = crowd
        self.given = given
        self.addresses = [f"127.0.0.1:{role.port}" for role in deployment.gateways]

    async def get(self, path: str) -> dict[str, Any]:
        """Reads a path of the ingest."""
        answer = await self.http.get(path)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def run(self) -> None:
        """Prints the figures."""
        given, all_of_them = self.given, tuple(range(self.given.gateways))
        rates = {"rate_limit": {"per_s": 100_000, "burst": 100_000}}
        for topic, settings in ((TOPIC, rates), (ROOM, {"presence": "list"}), (PLAIN, {"presence": "none"})):
            body = {"topic_id": topic, "name": topic, "settings": settings}
            (await self.http.post("/api/v1/topics", json=body)).raise_for_status()
        await through_headgate(self.deployment, RATE, 3)
        show("messages, nobody in the room", await through_headgate(self.deployment, RATE, given.seconds))
        plain = Crowd(self.addresses, PLAIN, given.users, token)
        await plain.fill()
        await self.churned(plain, "presence off", all_of_them)
        await plain.close()
        await self.crowd.watch()
        await self.crowd.fill()
        await self.true_after("filled")
        show(f"messages, {given.users} users in the room", await through_headgate(self.deployment, RATE, given.seconds))
        await self.churned(self.crowd, "presence list", all_of_them)
        await self.true_after("churn")
        last = given.gateways - 1
        churn = asyncio.create_task(self.crowd.churn(given.per_s, 2, all_of_them[:-1]))
        self.deployment.gateways[last].kill9()
        self.crowd.lose(last)
        killed = time.monotonic()
        await churn
        await self.true_after("a gateway killed under churn", killed, frozenset({last}))

    async def churned(self, crowd: Crowd, what: str, gateways: tuple[int, ...]) -> None:
        """Prints what messages feel of users who come and go."""
        seconds = self.given.seconds + 1
        churn = asyncio.create_task(crowd.churn(self.given.per_s, seconds, gateways))
        found = await through_headgate(self.deployment, RATE, self.given.seconds)
        show(f"messages, {await churn / seconds:.0f} joins and leaves a second, {what}", found)

    async def true_after(self, what: str, since: float | None = None, without: frozenset[int] = frozenset()) -> None:
        """Waits until every list equals the truth, at most 15 s."""
        since = time.monotonic() if since is None else since
        while wrong := self.crowd.differences(await listed_by(self.get, ROOM), without):
            if time.monotonic() - since > WITHIN_S:
                raise SystemExit(f"{what}: not true after {WITHIN_S:g} s: {len(wrong)} differences, {wrong[:5]}")
            await asyncio.sleep(0.1)
        users, took = len(self.crowd.truth(without)), time.monotonic() - since
        print(f"{what}: every list has the {users} users that are there, after {took:.1f} s", flush=True)


async def run(given: argparse.Namespace, folder: Path) -> None:
    """Starts everything, runs, and stops it."""
    cluster = await asyncio.to_thread(KafkaCluster)
    await asyncio.to_thread(cluster.start)
    stage = Stage(folder)
    try:
        settings = {"limits.subscribers_listed": 10_000}
        deployment = Deployment(stage, cluster.bootstrap, "bench", gateways=given.gateways, settings=settings)
        await deployment.start(shards=8)
        crowd = Crowd([f"127.0.0.1:{role.port}" for role in deployment.gateways], ROOM, given.users, token)
        bearer = {"Authorization": f"Bearer {token('root', admin=True, service=True)}"}
        async with httpx.AsyncClient(base_url=deployment.ingests[0].url, headers=bearer, timeout=30) as http:
            await Bench(deployment, http, crowd, given).run()
        await crowd.close()
    finally:
        stage.close()
        await asyncio.to_thread(cluster.stop)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--per-s", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--gateways", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        asyncio.run(run(given, Path(folder)))


if __name__ == "__main__":
    main()
