"""A soak: `python -m tests.soak --minutes 30 [--seed N] [--write]`, or `make chaos SEED=7 MINUTES=30`.

Separate processes of every role on three real brokers, with proxies between them; single messages and batches of up to
1,000, topics deleted and created again, retention, random faults, WebSocket and SSE clients. It prints which fault
struck in which state, what became of the messages, and what was in time; `--write` puts it into docs/project/chaos.md.
The exit status is 1 when a message was lost, repeated, reordered, invented or there though it was refused, memory is
not flat, or snapshots or index are not bounded. Loopback only; it stops what it started.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.e2e.harness import Stage
from tests.e2e.kafka_client import read_all
from tests.kafka.cluster import KafkaCluster
from tests.soak import chaos_page
from tests.soak.availability import Timeline
from tests.soak.chaos_page import RATE, VERDICTS, Run
from tests.soak.faults import Faults, count_by_state
from tests.soak.figures import folder_mb
from tests.soak.network import Network
from tests.soak.run import BROKERS, SHARDS, Soak, compiled_into, deployment_of, interposers, run

DISPATCHERS: Final = 3
SNAPSHOTS_MB: Final = 48.0  # of all shards, beside the ids in their windows
BASES: Final = 4 * 1.5  # of a shard: three are kept, one is under way, each with deltas of half its size
ID_BYTES: Final = 24  # in a snapshot
INDEX_RATIO: Final = 4.0  # bytes of index files to bytes of the messages that the log holds
INDEX_SLACK_MB: Final = 96.0
TRACEBACKS: Final = 10  # shown
LEFT_OUT: Final = ["wrong clocks", "slow disks"]


async def _disk(soak: Soak) -> tuple[list[str], bool]:
    prefix = soak.deployment.prefix
    snapshots = await read_all(soak.cluster.bootstrap, f"{prefix}.snapshots")
    messages = await read_all(soak.cluster.bootstrap, f"{prefix}.messages")
    snapshots_mb = sum(len(r.value or b"") for r in snapshots) / 1e6
    messages_mb = sum(len(r.value or b"") for r in messages) / 1e6
    index_mb = [folder_mb(soak.deployment.index(role)) for role in soak.deployment.dispatchers]
    most = SNAPSHOTS_MB + BASES * ID_BYTES * soak.acked / 1e6
    bounded = snapshots_mb <= most and max(index_mb) <= INDEX_RATIO * messages_mb + INDEX_SLACK_MB
    each = ", ".join(f"{mb:.0f}" for mb in index_mb)
    lines = [
        f"log: {messages_mb:.0f} MB of messages kept; snapshots {snapshots_mb:.1f} MB (at most {most:.0f}) in "
        f"{len(snapshots)} chunks; index files {each} MB{'' if bounded else '  NOT BOUNDED'}"
    ]
    return lines, bounded


async def _soak(minutes: float, seed: int, rate: float, only: str, folder: Path) -> tuple[Run, list[str]]:
    """Runs it on brokers of its own; returns what was found, and the lines that say the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    library = compiled_into(folder)
    found = interposers(library, folder)
    stage = Stage(folder)
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(BROKERS, DISPATCHERS))
        cluster = KafkaCluster(
            BROKERS, placed=network.placed, before=lambda n: found[f"broker-{n}"].before if found else ()
        )
        stack.callback(cluster.stop)
        stack.callback(stage.close)
        network.know(cluster)
        await asyncio.to_thread(cluster.start)
        deployment, more = deployment_of(stage, cluster.bootstrap, library)
        await network.join(deployment)
        await deployment.start(SHARDS)
        soak = Soak(deployment, cluster, network, found | more, seed, rate)
        memory, faults = await run(soak, minutes, only)
        memory_lines, flat = memory.lines()
        disk_lines, bounded = await _disk(soak)
        tracebacks = stage.tracebacks()
    lines = [
        f"answers: {dict(sorted(soak.answers.items()))}; {sum(subject.life for subject in soak.subjects)} lives of "
        f"topics; {faults.retained} cuts of retention",
        *memory_lines,
        *disk_lines,
        *soak.found.witnesses,
        *tracebacks[:TRACEBACKS],
    ]
    good = flat and bounded and not tracebacks and not any(soak.found.counts.values())
    return _run_of(soak, faults, minutes, good=good), lines


def _run_of(soak: Soak, faults: Faults, minutes: float, *, good: bool) -> Run:
    costs = Timeline(faults.episodes).costs(soak.publishes, soak.found.deliveries, soak.began, soak.ended)
    return Run(
        soak.seed, minutes, chaos_page.machine(), chaos_page.today(),
        sum(load.publishes for load in soak.loads), soak.acked, soak.seen, sum(load.refused for load in soak.loads),
        {kind: soak.found.counts[kind] for kind in VERDICTS},
        {kind: dict(counts) for kind, counts in count_by_state(faults.episodes).items()},
        costs, [] if soak.interposers else LEFT_OUT, good, soak.rate,
    )  # fmt: skip


def main() -> int:
    """Runs it; the exit status says whether every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--rate", type=float, default=RATE, help="single publishes a second, besides batches")
    parser.add_argument("--only", default="", help="only faults whose name matches this; not with --write")
    parser.add_argument("--keep", type=Path, help="a folder for what the processes write; by default it is deleted")
    parser.add_argument("--write", action="store_true", help="writes docs/project/chaos.md")
    options = parser.parse_args()
    if options.only and options.write:
        parser.error("--write is for all faults: leave out --only, or --write")
    with tempfile.TemporaryDirectory(prefix="headgate-soak-") as folder:
        keep = options.keep or Path(folder)
        found, lines = asyncio.run(_soak(options.minutes, options.seed, options.rate, options.only, keep))
    print(chaos_page.page([found]), *lines, sep="\n")
    print("every promise kept" if found.kept else "NOT every promise kept", flush=True)
    if options.write:
        chaos_page.keep(found)
    return 0 if found.kept else 1


if __name__ == "__main__":
    sys.exit(main())
