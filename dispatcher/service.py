"""Builds the dispatcher's objects and starts its tasks; the one place that does either."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from dispatcher.assignment import Assignment
from dispatcher.dispatcher import Counters, Dispatcher
from dispatcher.folder import IndexFolder
from dispatcher.index import FRAME_BYTES
from dispatcher.peer import Peer
from dispatcher.retention import Retention
from dispatcher.shard import ShardOwner
from dispatcher.shard_runner import ShardRunner
from headgate.core.publish.token_buckets import Rate, TokenBuckets
from headgate.core.sequencer.claims import Claim
from headgate.core.wire.control import Config, CreateTopic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.records import Appended, LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.logs.shard_config import find_config
from headgate.runtime.ports import Clock, Link, Log, LogError, Rng

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 1.0
SWEEP_S: Final = 60.0
AWAY_LOG_S: Final = 60.0  # one line a minute while the log cannot be reached


class DispatcherOptions(NamedTuple):
    """`node` and `address` (host:port of its links) are its identity; `folder` holds index files (None: memory).

    `frame_bytes` bounds the frames in each index file. A user's subscriptions make at most `creations_per_user_per_min`
    topics a minute here (`topics.auto_create`).
    """

    node: str
    address: str
    folder: Path | None
    frame_bytes: int = FRAME_BYTES
    creations_per_user_per_min: float = 60


class DispatcherService:
    """A dispatcher: `run` serves until cancelled, `drain` hands the shards over first.

    Raises OSError where another process uses the index folder.
    """

    def __init__(self, options: DispatcherOptions, log: Log, clock: Clock, rng: Rng, counters: Counters) -> None:
        self._options = options
        self._folder = IndexFolder(options.folder) if options.folder is not None else None
        self._log = log
        self._clock = clock
        self._rng = rng
        self._creations = TokenBuckets()
        self.dispatcher = Dispatcher(options.node, options.address, clock, counters, self._create_topic)
        self.ready = asyncio.Event()
        self._ownership: Assignment | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._why = "starting"

    async def run(self) -> None:
        """Serves until cancelled. Keeps trying while the log is away or not initialised."""
        try:
            await self._serve()
        finally:
            if self._folder is not None:
                self._folder.release()

    async def _serve(self) -> None:
        config = await self._config()
        dispatcher = self.dispatcher
        dispatcher.shards, dispatcher.cluster_id = config.shards, config.cluster_id
        dispatcher.generation = config.generation
        group = self._log.group(self._options.node)
        incarnation = self._rng.entropy(8).hex()
        mine = Claim(self._options.node, incarnation, self._options.address)
        ownership = self._ownership = Assignment(self._log, group, mine, dispatcher, self._new_runner)
        await self._retry(group.start)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                dispatcher.start_pump = self._start_pump
                for session in list(dispatcher.sessions):  # those that said HELLO while this node was joining
                    self._start_pump(session)
                for shard in range(config.shards):
                    tasks.create_task(ownership.watch(shard), name=f"claims-{shard}")
                tasks.create_task(ownership.run(tasks), name="ownership")
                tasks.create_task(ownership.keep_lease(), name="lease")
                tasks.create_task(ownership.announce_marks(), name="marks")
                tasks.create_task(Retention(self._log, dispatcher, self._clock).run(), name="retention")
                if self._folder is not None:
                    tasks.create_task(self._sweep(self._folder), name="index-files")
                self.ready.set()
        finally:
            dispatcher.start_pump = lambda session: None
            with contextlib.suppress(LogError):
                await group.stop()

    async def _config(self) -> Config:
        """Reads the log's config record; waits for the log and for `headgate init`, saying so once a minute."""
        said = -AWAY_LOG_S
        while True:
            try:
                config = await find_config(self._log, 0)
                if config is not None:
                    return config
                self._why = f"{self._log.address} has no config record: run `headgate init`"
            except LogError as error:
                self._why = str(error)
            if self._clock.now() - said >= AWAY_LOG_S:
                said = self._clock.now()
                logger.warning("waiting for the log", address=self._log.address, why=self._why)
            await asyncio.sleep(RETRY_S)

    async def _retry(self, start: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await start()
                return
            except LogError as error:
                self._why = str(error)
                await asyncio.sleep(RETRY_S)

    def _new_runner(self, shard: int, epoch: int) -> ShardRunner:
        folder, frame_bytes = self._options.folder, self._options.frame_bytes
        return ShardRunner(shard, epoch, self._log, folder, self.dispatcher, self._clock, frame_bytes)

    async def _sweep(self, folder: IndexFolder) -> None:
        """Deletes the index files of shards that this node has not had for a while."""
        while True:
            await asyncio.sleep(SWEEP_S)
            used = {*self.dispatcher.owners, *self.dispatcher.restoring}
            try:
                for path in folder.sweep(used, self._clock.now()):
                    logger.info("index file of a shard of others deleted", path=str(path))
            except OSError as error:
                logger.warning("index files cannot be looked through", why=str(error))

    def _start_pump(self, session: Peer) -> None:
        if self._tasks is not None:
            self._tasks.create_task(session.pump(), name="pump")

    def accept(self, wire: Link) -> Peer:
        """Takes the far end of a new link."""
        return self.dispatcher.accept(wire)

    async def drain(self) -> None:
        """Final snapshots, shards released, group left. `run` goes on serving links until it is cancelled."""
        if self._ownership is not None:
            await self._ownership.drain()

    # -- probes and metrics

    def not_ready(self) -> str | None:
        """Returns None when it owns its share and is caught up, else one sentence."""
        return self._ownership.not_live() if self._ownership is not None else self._why

    def index_fault(self) -> str | None:
        """Returns None while every index file works, else one sentence; live delivery goes on without."""
        owners = self.dispatcher.owners.values()
        faults = [f"shard {o.number}: {o.history.why}; live delivery goes on" for o in owners if o.history.why]
        return f"{faults[0]} (and {len(faults) - 1} more)" if len(faults) > 1 else faults[0] if faults else None

    def shards_without_index(self) -> int:
        """Returns how many shards are served without their index file."""
        return sum(1 for owner in self.dispatcher.owners.values() if owner.history.why)

    def shards_filling(self) -> int:
        """Returns how many shards cannot answer yet for all that the log holds."""
        return sum(1 for owner in self.dispatcher.owners.values() if not owner.history.complete)

    def lag(self) -> int:
        """Returns the records that stand in the log and are not applied yet."""
        return self._ownership.lag() if self._ownership is not None else 0

    def snapshot_age(self) -> float:
        """Returns for how many seconds the oldest change that no snapshot holds has waited."""
        return self._ownership.snapshot_age() if self._ownership is not None else 0.0

    def window_ids(self) -> int:
        """Returns the ids in the duplicate windows of the shards served here."""
        return self._ownership.window_ids() if self._ownership is not None else 0

    # -- topics made by a subscriber

    def _create_topic(self, owner: ShardOwner, topic_id: str, caller: Caller) -> None:
        """Appends the create record of a topic that somebody subscribed to (`topics.auto_create`).

        Raises Refusal `rate_limited`.
        """
        self._charge(caller)
        key = topic_key(topic_id)
        control = CreateTopic(topic_id=topic_id, name=topic_id, permissions="PUBLIC", owner_id=caller.user_id)
        value = encode_control(encode_body(control), 0, random_id(key, self._rng.entropy(12)))

        def done(append: "asyncio.Future[Appended]") -> None:
            if not append.cancelled() and append.exception() is not None:
                owner.not_made(topic_id)

        self._log.append(LogName.MESSAGES, owner.number, key, value).add_done_callback(done)

    def _charge(self, caller: Caller) -> None:
        if caller.service:
            return
        per_min, now = self._options.creations_per_user_per_min, self._clock.now()
        rate = Rate(per_min / 60, per_min)
        wait = self._creations.wait(caller.user_id, rate, now)
        if wait:
            raise Refusal("rate_limited", "this user creates topics too fast", retry_after_ms=int(wait * 1_000) + 1)
        self._creations.take(caller.user_id, rate, now)
