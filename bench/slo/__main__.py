"""Measures the service levels and writes docs/project/slo.md. `python -m bench.slo [--only ROW_OR_RUN ...]`

    python -m bench.slo --list                 what there is, and how many minutes each takes
    python -m bench.slo --only history         one run; a row of the page names its run too
    python -m bench.slo --scale 0.05 --try     smaller and shorter; prints and does not write

Kafka is one of its own, or that of HEADGATE_TEST_KAFKA.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from bench.slo.page import keep
from bench.slo.rows import LEVELS, Found
from bench.slo.runs import RUNS, Place
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Stage, token
from tests.kafka.provide import provide

PER_GATEWAY = 12_500  # of 20,000 descriptors: one gateway is killed, and the others take its sockets


async def measured(name: str, scale: float, deployment: Deployment) -> list[Found]:
    """Starts the processes and runs."""
    await deployment.start()
    root = token("root", service=True, admin=True)
    async with Publisher(deployment.ingests[0].url, root) as admin:
        return await RUNS[name][0](Place(deployment, admin, scale))


def run(name: str, scale: float) -> list[Found]:
    """Returns what one run found."""
    gateways = max(2, -(-round(100_000 * scale) // PER_GATEWAY)) if name == "crowd" else 2
    with tempfile.TemporaryDirectory(prefix="headgate-slo-") as folder, provide() as kafka:
        stage = Stage(Path(folder))
        try:
            deployment = Deployment(stage, kafka.bootstrap, f"slo-{time.time_ns()}", gateways=gateways)
            return asyncio.run(measured(name, scale, deployment))
        finally:
            stage.close()


def main() -> int:
    """Exit status 1: a run ended with a fault; the others ran."""
    parser = argparse.ArgumentParser(prog="python -m bench.slo", description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(RUNS), metavar="ROW_OR_RUN")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--try", action="store_true", dest="trial")
    options = parser.parse_args()
    runs = {level.row: level.run for level in LEVELS} | {name: name for name in RUNS}
    names = list(dict.fromkeys(runs[name] for name in options.only))
    if options.list:
        for name in names:
            rows = ", ".join(level.row for level in LEVELS if level.run == name)
            print(f"{name}: {RUNS[name][1]:g} minutes; {rows}. {RUNS[name][0].__doc__}")
        return 0
    failed = False
    for name in names:
        begun = time.monotonic()
        try:
            found = run(name, options.scale)
        except (SystemExit, AssertionError, TimeoutError, OSError) as error:
            print(f"{name} failed: {error!r}", flush=True)
            failed = True
            continue
        for row in found:
            print(f"{name}, {time.monotonic() - begun:.0f} s: {row.figure} {row.value:.10g} ({row.scale})", flush=True)
        if not options.trial:
            keep(found, f"python -m bench.slo --only {name} --scale {options.scale:g}")
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
