"""A dispatcher is killed with very many records in its shards, and the other has no index. `python -m bench.failover`

One ingest, two dispatchers, one gateway, one broker. From the kill on clients ask again and again, without waiting, for
`last:50`, a resume from 1,000 behind the head and the newest 100 of history. Printed: seconds from the claim (the
ownership log's append time) until each had its first good answer. Aim (exit status 1 else): 2 s. Then it waits until
all history can be read.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.claims import claimed_at, live_at
from bench.cpu import cpu_s
from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.harness import Deployment, Stage, token, until
from tests.e2e.http import NoAnswer
from tests.e2e.kafka_client import fill
from tests.kafka.provide import provide
from tests.soak.figures import resident_mb

SHARDS: Final = 2
TOPICS: Final = 20
AIM_S: Final = 2.0
POLL_S: Final = 0.1
WHOLE_S: Final = 900.0


class Asking:
    """One question, asked until it is answered well; `at` is the Unix second of that."""

    def __init__(self, what: str, ask: Callable[[], Awaitable[bool]]) -> None:
        self.what = what
        self.at = 0.0
        self._ask = ask

    async def run(self) -> None:
        """Asks."""
        while not await self._ask():
            await asyncio.sleep(POLL_S)
        self.at = time.time()


def newest(publisher: Publisher, topic: str) -> Asking:
    """Asks for the newest 100 of a topic's history."""

    async def ask() -> bool:
        try:
            answer = await publisher.call("GET", f"/api/v1/topics/{topic}/messages", limit=100)
        except (NoAnswer, TimeoutError):
            return False
        return answer.status == 200 and len(answer.body["messages"]) == 100

    return Asking("newest 100 of history", ask)


def subscribed(what: str, url: str, topic: str, start: object, count: int) -> Asking:
    """Subscribes and waits for `count` messages."""

    async def ask() -> bool:
        bearer = token(f"{what}-{topic}", service=True)
        async with Subscriber(what, [url], [topic], token=bearer, start=start) as reader:
            while reader.count < count:
                await asyncio.sleep(0.02)
        return True

    return Asking(what, ask)


async def measure(records: int, folder: Path, bootstrap: str) -> bool:
    """Runs it; says whether the aim is met."""
    stage = Stage(folder)
    try:
        prefix = f"bench-{time.time_ns()}"
        deployment = Deployment(stage, bootstrap, prefix, dispatchers=2)
        await deployment.start(SHARDS)
        topics = [f"failover.{n}" for n in range(TOPICS)]
        async with Publisher(deployment.ingests[0].url, token("bench", service=True)) as publisher:
            return await _measure(deployment, publisher, topics, records)
    finally:
        stage.close()


async def _measure(deployment: Deployment, publisher: Publisher, topics: list[str], records: int) -> bool:
    await publisher.create_all(topics)
    epochs = {t: (await publisher.call("GET", f"/api/v1/topics/{t}")).body["epoch"] for t in topics}
    counts = await fill(deployment.bootstrap, deployment.prefix, SHARDS, epochs, records)
    await until("all is applied", lambda: _applied(deployment, records), 600, 1.0)
    victim, other = deployment.dispatchers
    theirs, others = live_at(victim), live_at(other)
    lost = {shard for shard, at in theirs.items() if at > others.get(shard, 0.0)}
    mine = [t for t in topics if shard_of(topic_key(t), SHARDS) in lost]
    print(f"{records:,} records in {SHARDS} shards; killing the owner of {sorted(lost)}", flush=True)
    victim.kill9()
    shutil.rmtree(deployment.index(victim))
    killed, before = time.time(), cpu_s(other.pid)
    url = deployment.gateways[0].url
    asked = []
    for topic in mine[:3]:
        behind = {"epoch": epochs[topic], "seq": counts[topic] - 1_000}
        asked.append((topic, newest(publisher, topic)))
        asked.append((topic, subscribed("last:50", url, topic, {"last": 50}, 50)))
        asked.append((topic, subscribed("resume from 1,000 behind", url, topic, behind, 1_000)))
    await asyncio.gather(*(asking.run() for _, asking in asked))
    claims = await claimed_at(deployment.bootstrap, deployment.prefix)
    good = _print(asked, claims, live_at(other), killed)
    print(
        f"{cpu_s(other.pid) - before:.2f} s of its CPU since the kill, {resident_mb(other.pid):.0f} MB resident",
        flush=True,
    )
    started = time.time()
    await until("all history is there", lambda: _whole(publisher, mine), WHOLE_S, 1.0)
    print(f"everything the log holds readable {time.time() - started:.0f} s later; {resident_mb(other.pid):.0f} MB")
    return good


def _print(asked: list[tuple[str, Asking]], claims: dict[int, float], live: dict[int, float], killed: float) -> bool:
    worst: dict[str, float] = {}
    for topic, asking in asked:
        took = asking.at - claims[shard_of(topic_key(topic), SHARDS)]
        worst[asking.what] = max(worst.get(asking.what, 0.0), took)
    for shard, at in sorted(claims.items()):
        if at > killed:
            print(f"shard {shard}: claimed {at - killed:.1f} s after the kill, live {live[shard] - at:.2f} s later")
    print("from the claim: " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in worst.items()), flush=True)
    return all(seconds <= AIM_S for seconds in worst.values())


async def _applied(deployment: Deployment, records: int) -> bool:
    name = 'headgate_sequenced_total{verdict="accepted"}'
    return sum([(await role.metrics()).get(name, 0.0) for role in deployment.dispatchers]) >= records


async def _whole(publisher: Publisher, topics: list[str]) -> bool:
    """Says whether each topic's history is complete and begins at 1."""
    for topic in topics:
        answer = await publisher.call("GET", f"/api/v1/topics/{topic}/messages", after_seq=0, limit=1)
        if answer.status != 200 or not answer.body["complete"] or answer.body["messages"][0]["seq"] != 1:
            return False
    return True


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, provide() as kafka:
        return 0 if asyncio.run(measure(options.records, Path(folder), kafka.bootstrap)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
