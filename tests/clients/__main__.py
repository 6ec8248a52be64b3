"""Both clients at scale while processes die: `python -m tests.clients --js 1000 --python 200 --minutes 5`.

Both gateways and one dispatcher are killed in turn, with kill -9, and started again. One line a kill, then the sums;
exit status 1 where a message was lost, repeated or out of order, or where clients came back too slowly or too much at
once. Loopback only; it stops what it started. Real Kafka: `HEADGATE_TEST_KAFKA`, or one of its own.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.clients.crowd import Crowd, Size
from tests.clients.javascript import install, npm
from tests.e2e.harness import Deployment, Stage
from tests.kafka.provide import provide

P95_S = 3.0
SHARE = 0.05


async def _run(crowd: Crowd, deployment: Deployment, minutes: float) -> bool:
    await deployment.start()
    await crowd.run(minutes * 60)
    kept = True
    for fault, found in crowd.figures():
        good = found.p95_s < P95_S and found.share <= SHARE
        kept = kept and good
        print(f"kill -9 of {fault.name}: {found}{'' if good else ' <- not as wanted'}")
    size, writers = crowd.size, crowd.writers
    print(
        f"{size.js} JavaScript and {size.python} Python clients, {len(crowd.faults)} kills in {minutes:g} minutes: "
        f"{writers.total} messages ({writers.batches} batches), {crowd.deliveries} deliveries, each once and in order"
    )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    return kept


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients")
    parser.add_argument("--js", type=int, default=1_000)
    parser.add_argument("--python", type=int, default=200)
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0)
    orders = parser.parse_args()
    install()
    npm("run", "build")
    with tempfile.TemporaryDirectory() as folder, provide() as kafka:
        stage = Stage(Path(folder))
        try:
            deployment = Deployment(stage, kafka.bootstrap, f"crowd{os.getpid()}", dispatchers=2, gateways=2)
            crowd = Crowd(deployment, Size(orders.js, orders.python, orders.topics))
            return 0 if asyncio.run(_run(crowd, deployment, orders.minutes)) else 1
        except AssertionError as error:
            print(f"failed: {error}")
            return 1
        finally:
            stage.close()


if __name__ == "__main__":
    sys.exit(main())
