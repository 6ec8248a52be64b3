"""Measures the service levels and writes docs/project/slo.md. `python -m bench.slo [--only ROW_OR_RUN ...]`

    python -m bench.slo --list                 what there is, and how many minutes each takes
    python -m bench.slo --only history         one run; a row of the page names its run too
    python -m bench.slo --scale 0.05 --try     smaller and shorter; prints and does not write

Kafka is one of its own, or that of HEADGATE_TEST_KAFKA. Figures go to standard output, progress to standard error. A
figure is written only from the scale on that its row asks for. One run at a time: they measure the whole machine.
"""

import argparse
import asyncio
import tempfile
import time
import traceback
from pathlib import Path

from bench.slo.page import keep
from bench.slo.place import Place, progress, root
from bench.slo.rows import LEVELS, Found, min_scale_of
from bench.slo.runs import RUNS
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Stage
from tests.kafka.provide import provide


async def measured(name: str, deployment: Deployment, options: argparse.Namespace) -> list[Found]:
    """Starts the processes and runs."""
    await deployment.start(RUNS[name].shape(options.scale).shards)
    async with Publisher(deployment.ingests[0].url, root()) as admin:
        place = Place(deployment, admin, options.scale, options.memory_gib, options.minutes)
        return await RUNS[name].measure(place)


def run(name: str, options: argparse.Namespace) -> list[Found]:
    """Returns what one run found."""
    shape = RUNS[name].shape(options.scale)
    progress(f"{name}: {RUNS[name].minutes:g} minutes at scale 1; starting Kafka and {shape.gateways} gateways")
    with tempfile.TemporaryDirectory(prefix="headgate-slo-") as folder, provide() as kafka:
        stage = Stage(Path(folder))
        try:
            deployment = Deployment(
                stage, kafka.bootstrap, f"slo-{time.time_ns()}",
                ingests=shape.ingests, dispatchers=shape.dispatchers, gateways=shape.gateways, settings=shape.settings,
            )  # fmt: skip
            return asyncio.run(measured(name, deployment, options))
        finally:
            stage.close()


def listed(names: list[str]) -> None:
    """Prints what there is."""
    for name in names:
        rows = ", ".join(dict.fromkeys(level.row for level in LEVELS if level.run == name))
        least = min_scale_of("", name)
        print(f"{name}: {RUNS[name].minutes:g} minutes; {rows}; written from scale {least:g}. {RUNS[name].what}")
    print(f"all: {sum(RUNS[name].minutes for name in names):g} minutes")


def first_of(error: BaseException) -> BaseException:
    """Returns the first of the exceptions that a group holds."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def shown(name: str, options: argparse.Namespace) -> bool:
    """Runs one, prints what it found and writes it; says whether it ended well."""
    begun = time.monotonic()
    try:
        found = run(name, options)
    except (SystemExit, Exception) as error:
        traceback.print_exception(error)
        print(f"{name} failed after {time.monotonic() - begun:.0f} s: {first_of(error)!r}", flush=True)
        return False
    for row in found:
        print(f"{name}, {time.monotonic() - begun:.0f} s: {row.figure} {row.value:.10g} ({row.scale})", flush=True)
    if not options.trial:
        small = keep(found, name, options.scale)
        print(f"not written, the scale is too small for: {', '.join(small)}" if small else "written", flush=True)
    return True


def main() -> int:
    """Exit status 1: a run ended with a fault; the others ran."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.slo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list(RUNS), metavar="ROW_OR_RUN")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--memory-gib", type=float, default=18.0, help="of the machine, at which `million` stops")
    parser.add_argument("--minutes", type=float, default=14.0, help="that `million` may take")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--try", action="store_true", dest="trial")
    options = parser.parse_args()
    rows = [(level.row, level.run) for level in LEVELS] + [(name, name) for name in RUNS]
    unknown = sorted(set(options.only) - {row for row, _ in rows})
    if unknown:
        parser.error(f"no row and no run: {', '.join(unknown)}; `--list` shows what there is")
    names = list(dict.fromkeys(run for row, run in rows if row in options.only))
    if options.list:
        listed(names)
        return 0
    ended_well = [shown(name, options) for name in names]
    return not all(ended_well)


if __name__ == "__main__":
    raise SystemExit(main())
