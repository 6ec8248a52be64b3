"""One node and one shard's runner, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dispatcher.dispatcher import Dispatcher
from dispatcher.dispatcher_options import ShardOptions
from dispatcher.index_space import IndexSpace
from dispatcher.node import Node
from dispatcher.recovery import RecoveredShard, pairs_of
from dispatcher.shard import ShardOwner, TopicListener
from dispatcher.shard_runner import ShardRunner
from dispatcher.topic_creations import TopicCreator
from dispatcher.topic_list import TopicList
from headgate.core.delivery.open_letters import OpenLetters
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.rows import Shard
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from headgate.core.wire.control import Config
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Clock, Log, Shell
from headgate.runtime.system import SystemClock, SystemRng

CLOCK = SystemClock()
CONFIG = Config(cluster_id="c", generation=1, shards=1, shard=0)


def shell_of(clock: Clock = CLOCK, metrics: Metrics | None = None) -> Shell[Metrics]:
    return Shell(clock, SystemRng(), metrics if metrics is not None else Metrics({"dispatcher"}))


def dispatcher_of(shell: Shell[Metrics], log: Any = None, name: str = "n") -> Dispatcher:
    """A dispatcher whose subscribers create topics on the log; without a log they must not."""
    creator = TopicCreator(log, shell.clock, shell.rng, 60)
    return Dispatcher(name, f"{name}:1", shell, creator)


def node_of(
    log: Any,
    dispatcher: Dispatcher,
    shell: Shell[Metrics],
    options: ShardOptions | None = None,
    space: IndexSpace | None = None,
) -> Node:
    space = IndexSpace() if space is None else space
    return Node(log, dispatcher.lease, shell, options or ShardOptions(), asyncio.Semaphore(1), space)


def runner_of(
    log: Log,
    options: ShardOptions | None = None,
    shell: Shell[Metrics] | None = None,
    space: IndexSpace | None = None,
) -> ShardRunner:
    """The runner of shard 0 on a node of its own."""
    shell = shell or shell_of()
    dispatcher = dispatcher_of(shell, log)
    return ShardRunner(0, 1, node_of(log, dispatcher, shell, options, space), dispatcher)


def empty_shard(end: int = 0) -> RecoveredShard:
    """Shard 0 of a log without records up to the offset `end`."""
    users = UserTopics()
    letters = OpenLetters()
    writer = SnapshotWriter(pairs_of(users, letters))
    return RecoveredShard(0, CONFIG, Shard(), {}, TopicList(), users, writer, 0, end, letters)


def configured_shard(end: int = 0) -> RecoveredShard:
    """Shard 0, with its config record applied, of a log that ends at the offset `end`."""
    found = empty_shard(end)
    found.shard.config = CONFIG
    return found


def _nobody(topic_id: str, user_id: str = "") -> None:
    """Takes no notice of changed topics."""


class _NoLog:
    """A log that nobody may use."""

    own_clock = False


def owner_of(
    found: RecoveredShard, options: ShardOptions | None = None, log: Any = None, changed: TopicListener = _nobody
) -> ShardOwner:
    """An owner without links; by default its log does not exist."""
    shell = shell_of()
    node = node_of(_NoLog() if log is None else log, dispatcher_of(shell), shell, options)
    return ShardOwner(found, 1, node, changed, None)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Polls a condition."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def owning(
    log: Log,
    options: ShardOptions | None = None,
    clock: Clock = CLOCK,
    *,
    final: bool = False,
    space: IndexSpace | None = None,
) -> AsyncIterator[ShardRunner]:
    """Runs shard 0 until it is live or parked, then meanwhile; with `final` it ends with a drain."""
    runner = runner_of(log, options, shell_of(clock), space)
    if final:
        runner.drain()
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.life.state in (ShardState.LIVE, ShardState.PARKED), 20)
    try:
        yield runner
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert runner.life.state is ShardState.RELEASED


def owner_in(runner: ShardRunner) -> ShardOwner:
    """The owner, which has to be there."""
    assert runner.owner is not None
    return runner.owner
