"""How exactly a topic's rate holds over several ingests. `python -m bench.rates [--kafka] [--seconds 40]`

Every ingest is offered far more than the topic's rate. Printed: accepted messages as a share of what the rate and its
burst allow in that time, over the whole time and over its second half. Without `--kafka`: production services over
memory links and one memory log, in virtual time; the owner is killed in the last line. With it: two ingest processes
and one dispatcher on Kafka. Aim (exit status 1 else): within 20 %.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from headgate.core.wire.rights import Caller
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Stage, token
from tests.integration.rates_bed import Cluster, play
from tests.kafka.provide import provide

PER_S: Final = 20
BURST: Final = 40
KAFKA_PER_S: Final = 100
KAFKA_BURST: Final = 200
WITHIN: Final = 0.2
ANA: Final = Caller("ana")


def report(what: str, published: Sequence[float], began: float, seconds: float, rate: tuple[float, float]) -> bool:
    """Prints one line; says whether both shares are within the aim."""
    per_s, burst = rate
    half = seconds / 2
    whole = sum(at <= began + seconds for at in published) / (burst + per_s * seconds)
    later = sum(began + half < at <= began + seconds for at in published) / (per_s * half)
    print(f"| {what} | {whole:.3f} | {later:.3f} |", flush=True)
    return max(abs(whole - 1), abs(later - 1)) <= WITHIN


def in_memory(ingests: int, items: int, profile: str, seconds: float, *, is_killed: bool = False) -> bool:
    """One line of the table in virtual time."""
    good: list[bool] = []

    async def scene(cluster: Cluster) -> None:
        await cluster.create("t", ANA, profile=profile, rate_limit={"per_s": PER_S, "burst": BURST})
        began = cluster.clock.now()
        every_s = 0.03 if items == 1 else 1.0
        pressing = [cluster.press(n, "t", ANA, every_s=every_s, for_s=seconds, items=items) for n in range(ingests)]
        if is_killed:
            asyncio.get_running_loop().call_later(seconds / 4, _kill_owner, cluster)
        await asyncio.gather(*pressing)
        kind = "singles" if items == 1 else f"batches of {items}"
        name = f"{ingests} ingests, {profile}, {kind}" + (", owner killed" if is_killed else "")
        good.append(report(name, cluster.published, began, seconds, (PER_S, BURST)))

    play(scene, ingests, dispatchers=2 if is_killed else 1)
    return good[0]


def _kill_owner(cluster: Cluster) -> None:
    shard = cluster.directories[0].shard_of("t")
    owner = next(node for node in cluster.nodes if shard in node.service.dispatcher.owners)
    cluster.kill(owner)


def all_in_memory(seconds: float) -> bool:
    """Prints the table; says whether the aim is met."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    good = [
        in_memory(ingests, items, profile, seconds)
        for profile in ("durable", "ephemeral")
        for ingests in (1, 2, 4)
        for items in (1, 1_000)
    ]
    good.append(in_memory(4, 1, "durable", 2 * seconds, is_killed=True))
    return all(good)


async def on_kafka(bootstrap: str, folder: Path, seconds: float) -> bool:
    """The same with processes; says whether the aim is met."""
    stage = Stage(folder)
    try:
        free = {"limits.publish_per_user_per_min": 10_000_000}
        deployment = Deployment(
            stage, bootstrap, f"bench-{time.time_ns()}", ingests=2, dispatchers=1, gateways=0, settings=free
        )
        await deployment.start(2)
        good = [await _on_kafka(deployment, items, seconds) for items in (1, 200)]
        return all(good)
    finally:
        stage.close()


async def _on_kafka(deployment: Deployment, items: int, seconds: float) -> bool:
    topic = f"rates.{items}"
    published: list[float] = []

    async def press(url: str, end: float) -> None:
        async with Publisher(url, token("ana")) as publisher:
            while time.monotonic() < end:
                if items == 1:
                    answer = await publisher.publish(topic, 1)
                    accepted = int(answer.status == 200)
                else:
                    batch = [{"payload": n} for n in range(items)]
                    answer = await publisher.call("POST", f"/api/v1/topics/{topic}/publish/batch", batch)
                    accepted = sum(result["status"] == 200 for result in answer.body["results"])
                published.extend([time.monotonic()] * accepted)
                await asyncio.sleep(0.02 if items == 1 else 0.5)

    async with Publisher(deployment.ingests[0].url, token("ana")) as publisher:
        made = await publisher.create(topic, settings={"rate_limit": {"per_s": KAFKA_PER_S, "burst": KAFKA_BURST}})
        assert made.status == 201, made
    began = time.monotonic()
    urls = [ingest.url for ingest in deployment.ingests for _ in range(4 if items == 1 else 1)]
    await asyncio.gather(*(press(url, began + seconds) for url in urls))
    kind = "singles" if items == 1 else f"batches of {items}"
    return report(f"Kafka, 2 ingest processes, {kind}", published, began, seconds, (KAFKA_PER_S, KAFKA_BURST))


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.rates", description=__doc__)
    parser.add_argument("--kafka", action="store_true")
    parser.add_argument("--seconds", type=float, default=40)
    options = parser.parse_args()
    print("| what | share of what is allowed | of the second half |")
    print("|---|---|---|")
    if not options.kafka:
        return 0 if all_in_memory(options.seconds) else 1
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, provide() as kafka:
        return 0 if asyncio.run(on_kafka(kafka.bootstrap, Path(folder), options.seconds)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
