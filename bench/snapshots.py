"""What a shard's snapshots cost: CPU, longest slices, memory, and bytes a message on disk. `python -m bench.snapshots`

One core, no log: `--topics` rows and `--ids` ids in the duplicate window, then the disk of many snapshots by load.
"""

import argparse
import random
import time
from collections.abc import Generator, Iterator
from typing import Any

from headgate.core.sequencer.pairs import NoPairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import Chunk, name_of, read_chunk, restoring
from headgate.core.sequencer.snapshot_check import BaseCheck
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from headgate.core.wire.control import Config

CONFIG = Config(cluster_id="bench", generation=1, shards=1, shard=0)
DELTA = 20_000  # messages
IDS_AN_OFFSET = 50


def shard_of(topics: int, ids: int) -> tuple[Shard, dict[bytes, Row]]:
    """A shard as it is after many snapshots: older ids are packed."""
    shard, rows, rng = Shard(), dict[bytes, Row](), random.Random(1)
    shard.config = CONFIG
    before = resident()
    for n in range(topics):
        name = f"topic-{n:06}"
        rows[name.encode()] = Row(
            name, (1 << 44) | n, n, f"name {n}", "PUBLIC", f"owner{n % 1000}", 1_700_000_000_000, {}
        )
    between = resident()
    messages(shard, rng, ids)
    for _ in range(ids // 4_096 + 1):
        shard.window.enter(1_000, CONFIG)
    print(
        f"{(between - before) / max(topics, 1):.0f} bytes a topic, {(resident() - between) / max(ids, 1):.0f} an id; "
        f"{len(shard.window)} ids"
    )
    return shard, rows


def messages(shard: Shard, rng: random.Random, count: int) -> None:
    """Adds so many ids."""
    for n in range(count):
        if n % DELTA == 0:
            shard.window.saved(shard.window.mark())
        if n % IDS_AN_OFFSET == 0:
            shard.next_offset += 1
            shard.window.enter(1_000, CONFIG)
        shard.window.add(rng.getrandbits(128), n + 1, True, shard.next_offset - 1, 1_000)
    shard.changes += count


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def run(what: str, steps: Iterator[Any] | Generator[Any, None, Any]) -> tuple[list[bytes], Any]:
    """Runs slices; prints CPU seconds and the longest slice, returns the values and the result."""
    found: list[bytes] = []
    slices: list[float] = []
    result = None
    while True:
        started = time.thread_time()
        try:
            value = next(steps)
        except StopIteration as done:
            result = done.value
            break
        finally:
            slices.append(time.thread_time() - started)
        if value:
            found.append(value)
    size = f", {len(found)} chunks of {sum(map(len, found)) / 1e6:.1f} MB" if found else ""
    print(f"{what:8} {sum(slices):5.2f} s CPU, longest slice {max(slices) * 1e3:5.1f} ms of {len(slices)}{size}")
    return found, result


def placed(values: list[bytes]) -> list[Chunk]:
    """Chunks as read from a log that begins with them."""
    return [chunk for at, value in enumerate(values) if (chunk := read_chunk(at, value)) is not None]


def one_of_each(topics: int, ids: int) -> None:
    """A base, its check, a delta, a restore."""
    shard, rows = shard_of(topics, ids)
    writer = SnapshotWriter()
    base, _ = run("base", writer.base(shard, rows, 0))
    check = BaseCheck([name_of(value) for value in base], writer.mark, shard, rows, writer)
    run("check", (step for chunk in reversed(placed(base)) for step in check.taking(chunk)))
    run("check", check.finishing())
    for n in range(DELTA):
        writer.touch(f"topic-{n % topics:06}".encode())
    messages(shard, random.Random(2), DELTA)
    delta, _ = run("delta", writer.delta(shard, rows))
    _, (again, _) = run("restore", restoring(placed([*base, *delta]), NoPairs()))
    assert len(again.window) == len(shard.window)


def disk(topics: int, written: int, count: int) -> None:
    """Bytes a message of all snapshots of a shard, while `written` of its topics are written to."""
    shard, rows = shard_of(topics, CONFIG.dedup_max_ids)
    writer, rng, total, bases = SnapshotWriter(), random.Random(3), 0, 0
    list(writer.base(shard, rows, 0))
    for at in range(0, count, DELTA):
        messages(shard, rng, DELTA)
        for n in range(min(DELTA, written)):
            writer.touch(f"topic-{(at + n) % written:06}".encode())
        base = writer.wants_base
        steps = writer.base(shard, rows, 0) if base else writer.delta(shard, rows)
        total += sum(len(value) for value in steps if value)
        bases += base
    print(f"{topics} topics, {written} written to: {total / count:.0f} bytes a message on disk ({bases} bases)")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.snapshots", description=__doc__)
    parser.add_argument("--topics", type=int, default=100_000)
    parser.add_argument("--ids", type=int, default=1_000_000)
    options = parser.parse_args()
    one_of_each(options.topics, options.ids)
    disk(1_000, 100, 2_000_000)
    disk(100_000, 100, 2_000_000)
    disk(100_000, 100_000, 2_000_000)


if __name__ == "__main__":
    main()
