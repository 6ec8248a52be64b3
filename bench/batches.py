"""Batches, then nothing: what stands in the snapshots log, and how soon a restart is live. `python -m bench.batches`

`--batches 100` into `headgate dev --data`; with `--kafka` separate roles on a real broker and, after them, a second
dispatcher without any index file takes over. Aims (exit status 1 else): snapshots stop growing within 60 s, `dev` is
live again in 2 s, the cold node in 5 s.
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.claims import claimed_at, live_at
from bench.cpu import cpu_s
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Role, Stage, token, until
from tests.e2e.kafka_client import read_all
from tests.kafka.provide import provide
from tests.soak.figures import resident_mb

ITEMS: Final = 1_000
IDLE_S: Final = 75
STEP_S: Final = 5
STILL_S: Final = 60
TOPIC: Final = "batches"


async def publish(url: str, batches: int, *, keyed: bool, bearer: str | None = None) -> float:
    """Publishes to one topic; returns the seconds it took."""
    started = time.monotonic()
    async with Publisher(url, bearer) as publisher:
        assert (await publisher.create(TOPIC)).status == 201
        for batch in range(batches):
            items: list[dict[str, object]] = [{"topic_id": TOPIC, "payload": n} for n in range(ITEMS)]
            if keyed:
                items = [item | {"client_msg_id": f"{batch}-{n}"} for n, item in enumerate(items)]
            results = await publisher.batch(items)
            assert all(result["status"] == 200 for result in results), results[0]
    return time.monotonic() - started


def snapshots_of_file(folder: Path) -> tuple[int, float]:
    """Returns the records of the snapshots log in an embedded log, and their megabytes."""
    with sqlite3.connect(f"file:{folder / 'log.db'}?mode=ro", uri=True) as db:
        count, size = db.execute(
            "SELECT count(*), coalesce(sum(length(value)), 0) FROM records "
            "WHERE place >> 44 IN (SELECT part FROM parts WHERE log = 'snapshots')"
        ).fetchone()
    return count, size / 1e6


async def live_after(role: Role) -> float:
    """Starts a role; returns the seconds until it is ready."""
    started = time.monotonic()
    role.start()
    await role.ready()
    return time.monotonic() - started


async def in_dev(batches: int, folder: Path) -> bool:
    """`headgate dev --data`."""
    stage = Stage(folder)
    try:
        dev = stage.dev(data=True).start()
        await dev.ready()
        took = await publish(dev.url, batches, keyed=False)
        print(f"dev: {batches} batches of {ITEMS} in {took:.1f} s")
        growing, before = 0, (0, 0.0)
        for second in range(0, IDLE_S, STEP_S):
            await asyncio.sleep(STEP_S)
            now = snapshots_of_file(folder / "data")
            growing = second + STEP_S if now != before else growing
            before = now
        print(f"after {IDLE_S} s idle: snapshots {before[0]} records, {before[1]:.2f} MB; last growth at {growing} s")
        file_mb = (folder / "data" / "log.db").stat().st_size / 1e6
        print(f"log.db {file_mb:.1f} MB; {resident_mb(dev.pid):.0f} MB resident")
        dev.sigterm()
        status = await dev.ended(30)
        said = [line for line in dev.errors().splitlines() if "no final snapshot" in line]
        restart = await live_after(dev)
        print(f"SIGTERM ends with {status}{', ' + said[-1] if said else ''}; live again after {restart:.2f} s")
        print(f"of which the process was on a core for {cpu_s(dev.pid):.2f} s")
        return growing < STILL_S and restart < 2.0 and not said
    finally:
        stage.close()


async def on_kafka(batches: int, folder: Path, bootstrap: str) -> bool:
    """Separate roles, then a cold dispatcher."""
    stage = Stage(folder)
    try:
        prefix = f"bench-{time.time_ns()}"
        deployment = Deployment(stage, bootstrap, prefix, dispatchers=2)
        first, cold = deployment.dispatchers
        deployment.dispatchers = [first]
        await deployment.start(shards=1)
        bearer = token("bench", service=True)
        took = await publish(deployment.ingests[0].url, batches, keyed=True, bearer=bearer)
        print(f"kafka: {batches} batches of {ITEMS} keyed messages in {took:.1f} s")
        await asyncio.sleep(IDLE_S)
        chunks = await read_all(bootstrap, f"{prefix}.snapshots")
        size = sum(len(record.value or b"") for record in chunks) / 1e6
        first_mb = resident_mb(first.pid)
        print(f"after {IDLE_S} s idle: snapshots {len(chunks)} records, {size:.2f} MB; {first_mb:.0f} MB resident")
        first.kill9()
        restart = await live_after(cold)
        await until("the cold node serves the shard", lambda: 0 in live_at(cold), 60)
        took = live_at(cold)[0] - (await claimed_at(bootstrap, prefix))[0]
        print(f"a cold node after kill -9: ready {restart:.1f} s after its start, live {took:.2f} s after its claim")
        print(f"{resident_mb(cold.pid):.0f} MB resident, {cpu_s(cold.pid):.2f} s of CPU since its start")
        return took < 5.0
    finally:
        stage.close()


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--kafka", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        if not options.kafka:
            return 0 if asyncio.run(in_dev(options.batches, Path(folder))) else 1
        with provide() as kafka:
            return 0 if asyncio.run(on_kafka(options.batches, Path(folder), kafka.bootstrap)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
