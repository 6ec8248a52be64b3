"""What filling a shard's history from the log costs, on an empty index file. `python -m bench.rebuild [COUNT]`

The log is in memory, the index a file; the numbers come from the snapshots the first owner left. Figures are of the
process's CPU, with everything an owner does beside it (it is idle).
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import structlog

from bench.shard import runner_of
from dispatcher.shard_runner import ShardRunner
from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_bundle, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, make_epoch, shard_of
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.system import SystemClock, SystemRng

COUNT = 200_000
TOPICS = 100
START = b'"message_id":"7f1ddbbd-e5e6-8f4d-96c8-a2ea4da39d30","publisher_id":"bench","payload":'
TAIL = START + b'{"n":123456}}'
TAIL_1KB = START + b'"%s"}' % (b"x" * 1_022)
CLOCK = SystemClock()


async def fill(log: MemoryLog, runner: ShardRunner, count: int, bundle: int, tail: bytes) -> None:
    """Publishes at the pace of the owner, so that snapshots are cut as in life."""
    epochs = {}
    for n in range(TOPICS):
        key = b"t%d" % n
        control = CreateTopic(topic_id=f"t{n}", name="n", permissions="PUBLIC", owner_id="o")
        at = await log.append(
            LogName.MESSAGES, 0, key, encode_control(encode_body(control), 0, keyed_id(key, "o", "1"))
        )
        epochs[key] = make_epoch(1, at.offset)
    for start in range(0, count // bundle, 5_000 // bundle):
        appends = []
        for n in range(start, min(start + 5_000 // bundle, count // bundle)):
            key = b"t%d" % (n % TOPICS)
            items = [Item(keyed_id(key, "p", f"{n}-{i}"), KEYED, tail) for i in range(bundle)]
            value = encode_message(items[0], epochs[key]) if bundle == 1 else encode_bundle(items, epochs[key])
            appends.append(log.append(LogName.MESSAGES, 0, key, value))
        done = await asyncio.gather(*appends)
        while runner.owner is None or runner.owner.shard.next_offset <= done[-1].offset:
            await asyncio.sleep(0.01)
        while runner.owner.writer.pending(runner.owner.shard) >= 20_000:
            await asyncio.sleep(0.01)


async def measure(name: str, count: int, bundle: int, tail: bytes) -> None:
    """Fills a log under one owner, then starts another without an index."""
    log = MemoryLog(MemoryStore(CLOCK, SystemRng(), 1, 4 << 30))
    await log.open()
    first = runner_of(log, None, Metrics({"dispatcher"}))
    task = asyncio.create_task(first.run())
    await fill(log, first, count, bundle, tail)
    task.cancel()
    await asyncio.wait({task})
    with tempfile.TemporaryDirectory() as folder:
        metrics = Metrics({"dispatcher"})
        second = runner_of(log, Path(folder), metrics)
        started, cpu = time.perf_counter(), time.process_time()
        task = asyncio.create_task(second.run())
        newest = None
        while second.owner is None or not (second.owner.caught_up.is_set() and second.owner.history.complete):
            owner = second.owner
            if newest is None and owner is not None and owner.caught_up.is_set():
                row = owner.rows[b"t0"]
                if owner.history.first_seq(row.epoch, row.seq) <= row.seq - 50:
                    newest = time.perf_counter() - started
            await asyncio.sleep(0.005)
        spent, passed = time.process_time() - cpu, time.perf_counter() - started
        assert second.owner.history.file is not None
        frames = second.owner.history.file.frame_bytes
        task.cancel()
        await asyncio.wait({task})
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    slices = metrics._slices._counts["rebuild",]
    print(
        f"{name:16} {count / spent:9,.0f} messages per CPU second ({passed:.1f} s), newest 50 after "
        f"{newest if newest is not None else passed:.2f} s, {size / count:.0f} bytes a message "
        f"({size / frames:.2f} times the frames), "
        f"slices above 20 ms: {sum(slices[5:])} of {sum(slices)}"
    )


def main() -> None:
    """Prints the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    assert shard_of(b"t0", 1) == 0
    for name, bundle, tail in (
        ("single records", 1, TAIL), ("bundles of 100", 100, TAIL), ("1 KB payloads", 1, TAIL_1KB),
    ):  # fmt: skip
        asyncio.run(measure(name, count, bundle, tail))


if __name__ == "__main__":
    main()
