"""Millions of batched messages through one shard. `python -m bench.owner [--messages 3000000] [--items 1000]`

The production owner with its index file and its snapshots, on a log that is made while it is read. Every tenth of the
way: messages a CPU second, resident memory, and the snapshots log, which stands in this process's memory too and is not
counted. Aims (exit status 1 else): memory flat within 10 % after the third tenth, and the last tenth's rate at least
0.8 of the first's.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import structlog

from bench.made_log import FIRST, MadeLog, Recipe
from bench.shard import owning, reached
from bench.slices import Slices, resident_mb

TOPICS: Final = 100
STEPS: Final = 10
FLAT: Final = 1.10
RATE: Final = 0.8


async def measure(messages: int, items: int, keyed: bool) -> bool:
    """Runs it; says whether the aims are met."""
    recipe = Recipe(TOPICS, messages // items, items, keyed)
    log = MadeLog(recipe)
    await log.open()
    rates: list[float] = []
    memory: list[float] = []
    slices = Slices()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, slices.watched():
        log.upto = FIRST + 1 + TOPICS
        async with owning(log, Path(folder), final=False) as runner:
            await reached(runner, lambda owner: owner.shard.next_offset >= log.upto)
            print("| messages | messages a CPU second | resident MB | snapshots log MB | longest steps |")
            print("|---|---|---|---|---|")
            for step in range(1, STEPS + 1):
                started = time.process_time() - log.making_s
                log.grow(FIRST + 1 + TOPICS + recipe.bundles * step // STEPS)
                await reached(runner, lambda owner: owner.shard.next_offset >= log.upto)
                rates.append(messages / STEPS / (time.process_time() - log.making_s - started))
                kept = log.snapshots_mb()
                memory.append(resident_mb() - kept)
                row = f"{messages * step // STEPS:,} | {rates[-1]:,.0f} | {memory[-1]:.0f} | {kept:.0f}"
                print(f"| {row} | {slices.take()} |", flush=True)
    flat, fast = max(memory[3:]) <= FLAT * max(memory[:4]), rates[-1] >= RATE * rates[0]
    print(f"memory {'flat' if flat else 'NOT FLAT'}; rate at the end {rates[-1] / rates[0]:.2f} of the beginning's")
    return flat and fast


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.owner", description=__doc__)
    parser.add_argument("--messages", type=int, default=3_000_000)
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--keyed", action="store_true", help="with client_msg_id: the window then holds a million")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    return 0 if asyncio.run(measure(options.messages, options.items, options.keyed)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
