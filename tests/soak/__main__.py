"""A soak: `python -m tests.soak --minutes 30 [--seed N]`, or `make soak MINUTES=30`.

Separate processes of every role on three real brokers, batches of 1 to 1,000, topics deleted and created again,
retention, random faults, WebSocket and SSE clients. At the end one line a figure, and exit status 1 when a message was
lost, repeated or reordered, memory is not flat, or snapshots or index are not bounded. Loopback only; it stops what it
started.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.harness import Deployment, Stage, at_most, token
from tests.e2e.kafka_client import read_all
from tests.kafka.cluster import KafkaCluster
from tests.soak.faults import Faults
from tests.soak.figures import Memory, folder_mb
from tests.soak.load import Load
from tests.soak.readers import SocketReader, StreamReader
from tests.soak.subject import Findings, Reading, Subject

SHARDS = 6
WORKERS = 4
TOPICS_OF_A_WORKER = 2
SOCKETS = 4
STREAMS = 4
HEAL_S = 120.0
SNAPSHOTS_MB = 48.0  # of all shards, beside the ids in their windows
BASES = 4 * 1.5  # of a shard: three are kept, one is under way, each with deltas of half its size
ID_BYTES = 24  # in a snapshot
INDEX_RATIO = 4.0  # bytes of index files to bytes of the messages that the log holds
INDEX_SLACK_MB = 96.0


@dataclass
class Soak:
    """Everything of a run."""

    deployment: Deployment
    cluster: KafkaCluster
    seed: int
    found: Findings = field(default_factory=Findings)
    subjects: list[Subject] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    sockets: list[SocketReader] = field(default_factory=list)
    streams: list[StreamReader] = field(default_factory=list)

    def is_done(self) -> bool:
        """Whether every reader has seen all there is."""
        return all(reading.is_done for reading in self.readings())

    def readings(self) -> Iterator[Reading]:
        """Yields every reader's view of every topic."""
        for reader in self.sockets:
            yield from reader.readings.values()
        for stream in self.streams:
            yield stream.reading


async def _run(soak: Soak, minutes: float) -> tuple[Memory, Faults]:
    deployment = soak.deployment
    for worker in range(WORKERS):
        own = [Subject(f"soak.{worker}.{n}") for n in range(TOPICS_OF_A_WORKER)]
        soak.subjects += own
        urls = [role.url for role in deployment.ingests]
        soak.loads.append(Load(f"w{worker}", urls, token(f"w{worker}", service=True), own, soak.seed))
    memory = Memory(deployment.roles, lambda: sum(load.acked for load in soak.loads))
    stop, healed = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        loads = [tasks.create_task(load.run(stop)) for load in soak.loads]
        await asyncio.gather(*(load.began.wait() for load in soak.loads))
        await _subscribe(soak, stack)
        sampling = tasks.create_task(memory.run())
        faults = Faults(deployment, soak.cluster, soak.sockets, soak.seed)
        inflicting = tasks.create_task(faults.run(healed))
        retaining = tasks.create_task(faults.retain(stop))
        await asyncio.sleep(minutes * 60)
        healed.set()
        await inflicting
        stop.set()
        await asyncio.gather(*loads, retaining)
        await at_most(HEAL_S, soak.is_done)
        sampling.cancel()
    for reading in soak.readings():
        if not reading.is_done:
            soak.found.note("lost", f"never came: {reading.where()}")
    return memory, faults


async def _subscribe(soak: Soak, stack: AsyncExitStack) -> None:
    urls = [role.url for role in soak.deployment.gateways]
    for n in range(SOCKETS):
        own = {s.topic_id: s for s in soak.subjects[n % 2 :: 2]}
        turned = urls[n % len(urls) :] + urls[: n % len(urls)]
        reader = SocketReader(f"socket{n}", turned, own, token(f"s{n}", service=True), soak.found)
        soak.sockets.append(await stack.enter_async_context(reader))
    for n in range(STREAMS):
        subject = soak.subjects[n % len(soak.subjects)]
        bearer = token(f"e{n}", service=True)
        stream = StreamReader(f"stream{n}", urls[n % len(urls)], subject, bearer, soak.found)
        soak.streams.append(await stack.enter_async_context(stream))


async def _disk(soak: Soak) -> tuple[list[str], bool]:
    prefix = soak.deployment.prefix
    snapshots = await read_all(soak.cluster.bootstrap, f"{prefix}.snapshots")
    messages = await read_all(soak.cluster.bootstrap, f"{prefix}.messages")
    snapshots_mb = sum(len(r.value or b"") for r in snapshots) / 1e6
    messages_mb = sum(len(r.value or b"") for r in messages) / 1e6
    index_mb = [folder_mb(soak.deployment.index(role)) for role in soak.deployment.dispatchers]
    most = SNAPSHOTS_MB + BASES * ID_BYTES * sum(load.acked for load in soak.loads) / 1e6
    bounded = snapshots_mb <= most and max(index_mb) <= INDEX_RATIO * messages_mb + INDEX_SLACK_MB
    each = ", ".join(f"{mb:.0f}" for mb in index_mb)
    lines = [
        f"log: {messages_mb:.0f} MB of messages kept; snapshots {snapshots_mb:.1f} MB (at most {most:.0f}) in "
        f"{len(snapshots)} chunks; index files {each} MB{'' if bounded else '  NOT BOUNDED'}"
    ]
    return lines, bounded


async def _soak(minutes: float, seed: int, folder: Path, cluster: KafkaCluster) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    stage = Stage(folder)
    try:
        deployment = Deployment(stage, cluster.bootstrap, "soak", ingests=2, dispatchers=3, gateways=2)
        await deployment.start(SHARDS)
        soak = Soak(deployment, cluster, seed)
        began = time.monotonic()
        memory, faults = await _run(soak, minutes)
        took = time.monotonic() - began
        memory_lines, flat = memory.lines()
        disk_lines, bounded = await _disk(soak)
        tracebacks = stage.tracebacks()
    finally:
        stage.close()
    acked = sum(load.acked for load in soak.loads)
    readers: list[SocketReader | StreamReader] = [*soak.sockets, *soak.streams]
    seen = sum(reader.seen for reader in readers)
    answers = sum((load.answers for load in soak.loads), start=type(soak.loads[0].answers)())
    lives = sum(subject.life for subject in soak.subjects)
    counts = {kind: soak.found.counts[kind] for kind in ("lost", "repeated", "reordered", "gaps")}
    print(
        f"soak of {took:.0f} s, seed {seed}: {acked} messages acknowledged, {seen} delivered, {lives} lives of topics"
    )
    print(f"answers: {dict(sorted(answers.items()))}")
    print(f"faults: {dict(sorted(faults.counts.items()))}")
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    print(*memory_lines, *disk_lines, *soak.found.witnesses, *tracebacks[:10], sep="\n")
    return flat and bounded and not any(counts.values()) and not tracebacks


def main() -> int:
    """Runs it; the exit status says whether every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--keep", type=Path, help="a folder for what the processes write; by default it is deleted")
    options = parser.parse_args()
    with KafkaCluster(3) as cluster, tempfile.TemporaryDirectory(prefix="headgate-soak-") as folder:
        good = asyncio.run(_soak(options.minutes, options.seed, options.keep or Path(folder), cluster))
    print("every promise kept" if good else "NOT every promise kept", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
