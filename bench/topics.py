"""A shard of very many topics. `python -m bench.topics [--topics 200000] [--ids 1000000]`

Creates them, gives them `ids` keyed messages, drains with a final snapshot and recovers. Prints bytes a topic, base
and delta, recovery, a page of the topic list, and the longest step of each task.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import structlog

from bench.made_log import FIRST, MadeLog, Recipe
from bench.shard import owning, reached
from bench.slices import Slices, resident_mb
from dispatcher.announcements import Announcements
from dispatcher.shard import ShardOwner
from dispatcher.shard_api import ShardApi
from dispatcher.shard_presence import ShardPresence
from dispatcher.topic_creations import TopicCreator
from headgate.core.sequencer.load import Load
from headgate.core.sequencer.snapshot import read_chunk
from headgate.core.wire import link
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Log, Shell
from headgate.runtime.system import SystemClock, SystemRng

ITEMS: Final = 100
PAGE: Final = 100
PAGES: Final = 50


class _Session:
    """What a request answers to."""

    open = True
    congested = False

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def send(self, message: Any) -> None:
        self.answers.append(message)


def _page_ms(owner: ShardOwner, log: Log) -> float:
    """CPU of one page in the middle of the list."""
    announcements: Announcements[Any] = Announcements(())
    shell = Shell(SystemClock(), SystemRng(), Metrics(frozenset({"dispatcher"})))
    presence = ShardPresence(owner, shell.clock, announcements)
    api = ShardApi(owner, shell, TopicCreator(log, shell.clock, shell.rng, 60), announcements, presence, Load())
    caller, session = Caller("bench", admin=True, service=True), _Session()
    after = sorted(row.topic_id for row in list(owner.rows.values())[:1_000])[500]
    started = time.process_time()
    for req in range(PAGES):
        api.handle(session, link.AskTopics(req, 0, caller, "", after, PAGE))  # type: ignore[arg-type]  # it only sends
    took = (time.process_time() - started) / PAGES * 1e3
    assert len(session.answers[-1].topics) == PAGE
    return took


async def _snapshots(log: MadeLog) -> str:
    part = log._store.parts[LogName.SNAPSHOTS, 0]
    sizes = {True: [0, 0], False: [0, 0]}
    for record in part.slice(part.first, 1 << 30).records:
        chunk = read_chunk(record.offset, record.value)
        if chunk is not None:
            sizes[chunk.is_base][0] += 1
            sizes[chunk.is_base][1] += len(record.value or b"")
    bases, deltas = sizes[True], sizes[False]
    return (
        f"snapshots log: {bases[1] / 1e6:.1f} MB in {bases[0]} chunks of bases, "
        f"{deltas[1] / 1e6:.1f} MB in {deltas[0]} chunks of deltas"
    )


async def measure(topics: int, ids: int) -> None:
    """Runs it."""
    recipe = Recipe(topics, ids // ITEMS, ITEMS, keyed=True, ms=1)
    log = MadeLog(recipe)
    await log.open()
    log.upto = FIRST + 1
    slices = Slices()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, slices.watched():
        async with owning(log, Path(folder), final=True) as runner:
            await reached(runner, lambda owner: owner.shard.next_offset >= log.upto)
            gc.collect()
            before = resident_mb()
            log.grow(FIRST + 1 + topics)
            owner = await reached(runner, lambda owner: owner.shard.next_offset >= log.upto)
            gc.collect()
            print(f"{topics:,} topics: {(resident_mb() - before) * 2**20 / topics:,.0f} bytes a topic")
            log.grow(recipe.end)
            started = time.process_time()
            await reached(runner, lambda owner: owner.shard.next_offset >= log.upto)
            print(f"{ids:,} ids in {time.process_time() - started:.1f} CPU s; {resident_mb():.0f} MB resident")
            print(f"longest steps so far: {slices.take()}")
            await asyncio.sleep(35)
            print(f"with a snapshot by interval: {slices.take()}; {await _snapshots(log)}")
            print(f"a page of {PAGE} topics: {_page_ms(owner, log):.2f} ms CPU")
            started = time.process_time()
        print(f"drain with a base: {time.process_time() - started:.2f} CPU s; {slices.take()}; {await _snapshots(log)}")
        started, wall = time.process_time(), time.monotonic()
        async with owning(log, Path(folder), final=False) as runner:
            owner = await reached(runner, lambda owner: len(owner.rows) >= topics)
            took = f"{time.process_time() - started:.2f} CPU s, {time.monotonic() - wall:.2f} s"
            print(f"recovery until live: {took}; {resident_mb():.0f} MB resident; longest steps: {slices.take()}")


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.topics", description=__doc__)
    parser.add_argument("--topics", type=int, default=200_000)
    parser.add_argument("--ids", type=int, default=1_000_000)
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(measure(options.topics, options.ids))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
