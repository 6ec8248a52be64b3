"""What appends into one Kafka node cost the appender: rate and CPU. `python -m bench.appends [COUNT]`

Values of 100 bytes and of 1 KiB. The node shares the machine. WAITING records are under way at a time, over SHARDS
partitions.
"""

import asyncio
import sys
import time
from collections import deque
from typing import Final

from headgate.core.wire.records import Appended
from headgate.runtime.appender import Appender
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.system import SystemClock
from tests.kafka.cluster import KafkaCluster

COUNT: Final = 300_000
SHARDS: Final = 12
WAITING: Final = 20_000
STEP: Final = 1_000  # handed over between two looks at the answers


async def measure(appender: Appender, size: int, count: int) -> None:
    """Appends `count` records, each of which must have an answer, and prints the line."""
    value, waiting = b"x" * size, deque[asyncio.Future[Appended]]()
    started, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        waiting.append(appender.append(n % SHARDS, b"key", value))
        if n % STEP == 0:
            await asyncio.sleep(0)
            while len(waiting) > WAITING:
                await waiting.popleft()
    while waiting:
        await waiting.popleft()
    passed, spent = time.perf_counter() - started, time.process_time() - cpu
    print(f"{size:5} bytes {count / passed:9,.0f}/s, {spent / count * 1e6:5.1f} us of CPU an append", flush=True)


async def run(bootstrap: str, count: int) -> None:
    """Makes the logs and appends, both sizes after a warm-up."""
    options = LogOptions(f"kafka://{bootstrap}", "appends", shards=SHARDS)
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    appender = Appender(log, SystemClock())
    for size in (100, 100, 1_024, 1_024):
        await measure(appender, size, count)
    await log.close()


def main() -> None:
    """Reads the command line: the number of records."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with KafkaCluster() as cluster:
        asyncio.run(run(cluster.bootstrap, count))


if __name__ == "__main__":
    main()
