"""One owned shard in this process, for the benches: the production runner on a made log, without links."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from dispatcher.dispatcher import Dispatcher
from dispatcher.shard import ShardOwner
from dispatcher.shard_runner import ShardRunner
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock


@asynccontextmanager
async def owning(log: Log, folder: Path, *, final: bool) -> AsyncIterator[ShardRunner]:
    """Serves shard 0 meanwhile; with `final` it ends with a drain."""
    clock = SystemClock()
    dispatcher = Dispatcher("bench", "bench:1", clock, Metrics(frozenset({"dispatcher"})), lambda *_: None)
    runner = ShardRunner(0, 1, log, folder, dispatcher, clock)
    task = asyncio.create_task(runner.run(), name="runner")
    try:
        yield runner
    finally:
        runner.final_snapshot = final
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def reached(runner: ShardRunner, condition: Callable[[ShardOwner], bool]) -> ShardOwner:
    """Waits until the owner is there and a condition holds of it."""
    while runner.owner is None or not runner.owner.live.is_set() or not condition(runner.owner):
        await asyncio.sleep(0.02)
    return runner.owner
