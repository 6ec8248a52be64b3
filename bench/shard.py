"""One owned shard in this process, for the benches: the production runner on a made log, without links."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from dispatcher.dispatcher import Dispatcher
from dispatcher.dispatcher_options import ShardOptions
from dispatcher.index_space import IndexSpace
from dispatcher.node import Node
from dispatcher.shard import ShardOwner
from dispatcher.shard_runner import ShardRunner
from dispatcher.topic_creations import TopicCreator
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Log, Shell
from headgate.runtime.system import SystemClock, SystemRng


def runner_of(log: Log, folder: Path | None, metrics: Metrics) -> ShardRunner:
    """Builds a node with the runner of its shard 0."""
    shell = Shell(SystemClock(), SystemRng(), metrics)
    dispatcher = Dispatcher("bench", "bench:1", shell, TopicCreator(log, shell.clock, shell.rng, 60))
    node = Node(log, dispatcher.lease, shell, ShardOptions(folder), asyncio.Semaphore(1), IndexSpace())
    return ShardRunner(0, 1, node, dispatcher)


@asynccontextmanager
async def owning(log: Log, folder: Path, *, final: bool) -> AsyncIterator[ShardRunner]:
    """Serves shard 0 meanwhile; with `final` it ends with a drain."""
    runner = runner_of(log, folder, Metrics(frozenset({"dispatcher"})))
    task = asyncio.create_task(runner.run(), name="runner")
    try:
        yield runner
    finally:
        if final:
            runner.drain()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def reached(runner: ShardRunner, condition: Callable[[ShardOwner], bool]) -> ShardOwner:
    """Waits until the owner is there and a condition holds of it."""
    while runner.owner is None or not runner.owner.caught_up.is_set() or not condition(runner.owner):
        await asyncio.sleep(0.02)
    return runner.owner
