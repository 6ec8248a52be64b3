"""Builds the objects of a dispatcher and starts the tasks of the node; a ShardRunner starts those of its shard."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import structlog

from dispatcher.assignment import Assignment
from dispatcher.dispatcher import Cluster, Dispatcher
from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.folder import IndexFolder, shard_of_file
from dispatcher.inbox_backlogs import InboxBacklogs
from dispatcher.index_seal import seal, unseal
from dispatcher.index_space import IndexSpace
from dispatcher.load_meter import LoadMeter
from dispatcher.logic_raising import LogicRaising
from dispatcher.node import Node
from dispatcher.node_tops import NodeTops
from dispatcher.peer import Peer
from dispatcher.ports import DispatcherMetrics
from dispatcher.retention import Retention
from dispatcher.revocation_reader import RevocationReader
from dispatcher.shard_runner import ShardRunner
from dispatcher.throttling import Throttling
from dispatcher.topic_creations import TopicCreator
from dispatcher.topic_sizes import TopicSizes
from headgate.core.delivery.delivery_events import Listener
from headgate.core.sequencer.claims import Claim
from headgate.core.sequencer.heat import Heat
from headgate.core.wire.control import LOGIC, Config
from headgate.runtime.logging import Reminder
from headgate.runtime.logs.shard_config import find_config
from headgate.runtime.ports import Link, Log, LogError, Shell
from headgate.runtime.tracing import Tracing

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 1.0
SWEEP_S: Final = 60.0


class DispatcherService:
    """A dispatcher process: `run` serves until cancelled, `drain` hands the shards over before that.

    Six nouns, from the process down to the state: a DispatcherService has one Dispatcher (the registry of links and
    served shards) and one Assignment (decides which shards to serve). The Assignment has a ShardRunner for each shard
    that it has claimed (restores it, runs its tasks, drains it). The ShardRunner has a ShardOwner (reads and routes the
    records of a shard that is served), and that has a Shard (the state which `apply` changes).

    Raises OSError where another process uses the index folder.
    """

    def __init__(
        self,
        options: DispatcherOptions,
        log: Log,
        shell: Shell[DispatcherMetrics],
        event_listener: Listener | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """`event_listener` is called with the lifecycle events of all shards; `tracing` makes spans of records."""
        self._options = options
        self._folder = IndexFolder(options.folder) if options.folder is not None else None
        self._log = log
        self._shell = shell
        creator = TopicCreator(log, shell.clock, shell.rng, options.creations_per_user_per_min, options.profile)
        self.dispatcher = Dispatcher(options.node, options.address, shell, creator, options.listed)
        self.throttling = Throttling(self.dispatcher, shell.clock)
        self._load_meter = LoadMeter(self.dispatcher, shell.clock)
        self.backlogs = InboxBacklogs(self.dispatcher)
        self.sizes = TopicSizes(self.dispatcher)
        self.tops = NodeTops(self.dispatcher, options.top)
        rebuilding = asyncio.Semaphore(1)
        files = self._folder.sizes() if self._folder is not None else None
        self._index_space = space = IndexSpace(options.index_bytes, files)
        self._node = Node(log, self.dispatcher.lease, shell, options.shard, rebuilding, space, event_listener, tracing)
        self._revocations = RevocationReader(log, self.dispatcher.revoke, shell.clock)
        self.ready = asyncio.Event()
        self._assignment: Assignment | None = None  # until the log has been read
        self._why = "starting"

    async def run(self) -> None:
        """Serves until cancelled. Keeps trying while the log cannot be reached or is not initialised."""
        if self._folder is None:
            await self._serve()
            return
        try:
            _on_files(self._folder, unseal)
            await self._serve()
        finally:
            _on_files(self._folder, seal)
            self._folder.release()

    async def _serve(self) -> None:
        config = await self._config()
        await self._retry(self._revocations.catch_up)  # no link is accepted before
        self.dispatcher.log_was_read(Cluster(config.cluster_id, config.generation, config.shards))
        group = self._log.group(self._options.node)
        mine = Claim(self._options.node, self._shell.rng.entropy(8).hex(), self._options.address, LOGIC)
        assignment = self._assignment = Assignment(
            self._log, group, mine, self.dispatcher, self._new_runner, self._options.assignment
        )
        await self._retry(group.start)
        try:
            await self._run_tasks(assignment, config.shards)
        finally:
            with contextlib.suppress(LogError):
                await group.stop()

    async def _run_tasks(self, assignment: Assignment, shards: int) -> None:
        retention = Retention(self._log, self.dispatcher)
        logic = LogicRaising(self._log, self.dispatcher.owners, assignment.agreed_logic)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._start_pumps(tasks), name="pumps")
            for shard in range(shards):
                tasks.create_task(assignment.watch(shard), name=f"claims-{shard}")
            tasks.create_task(assignment.run(tasks), name="assignment")
            tasks.create_task(assignment.keep_lease(), name="lease")
            tasks.create_task(assignment.announce_marks(), name="marks")
            tasks.create_task(retention.run(), name="retention")
            tasks.create_task(self.throttling.run(), name="throttling")
            tasks.create_task(logic.run(), name="logic")
            tasks.create_task(self._load_meter.run(), name="load")
            tasks.create_task(self.dispatcher.unreachable.run(), name="unreachable")
            tasks.create_task(self.backlogs.run(), name="inbox-backlogs")
            tasks.create_task(self.sizes.run(), name="topic-sizes")
            tasks.create_task(self.tops.run(), name="top-lists")
            tasks.create_task(self._revocations.run(), name="revocations")
            if self._folder is not None:
                tasks.create_task(self._sweep(self._folder), name="index-files")
            self.ready.set()

    async def _config(self) -> Config:
        """Reads the log's config record; waits for the log and for `headgate init`, and logs that once a minute."""
        reminder = Reminder(self._shell.clock.now)
        while True:
            try:
                config = await find_config(self._log, 0)
                if config is not None:
                    return config
                self._why = f"{self._log.address} has no config record: run `headgate init`"
            except LogError as error:
                self._why = str(error)
            if reminder.is_due():
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
        return ShardRunner(shard, epoch, self._node, self.dispatcher)

    async def _start_pumps(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            peer = await self.dispatcher.next_peer()
            tasks.create_task(peer.pump(), name="pump")

    async def _sweep(self, folder: IndexFolder) -> None:
        """Deletes the index files of shards that this node has not served for a while."""
        while True:
            await asyncio.sleep(SWEEP_S)
            used = {runner.number for runner in self.runners()}  # live or not: a parked one will want its file again
            try:
                for path in folder.sweep(used, self._shell.clock.now()):
                    logger.info("index file of a shard of others deleted", path=str(path))
                    self._index_space.deleted(shard_of_file(path))
            except OSError as error:
                logger.warning("index files cannot be looked through", why=str(error))

    def accept(self, wire: Link) -> Peer:
        """Takes the far end of a new link."""
        return self.dispatcher.accept(wire)

    async def drain(self) -> None:
        """Writes final snapshots, releases the shards and leaves the group; `run` still serves links afterwards."""
        if self._assignment is not None:
            await self._assignment.drain()

    # -- probes and metrics

    def runners(self) -> list[ShardRunner]:
        """Returns the runners of the shards claimed by this node, live or not."""
        return self._assignment.runners() if self._assignment is not None else []

    def not_ready(self) -> str | None:
        """Returns None when it owns its share and has caught up, else one sentence."""
        return self._assignment.not_live() if self._assignment is not None else self._why

    def index_fault(self) -> str | None:
        """Returns None while every index file works, else one sentence; live delivery works without."""
        owners = self.dispatcher.owners.values()
        faults = [f"shard {o.number}: {o.history.why}; live delivery goes on" for o in owners if o.history.why]
        return f"{faults[0]} (and {len(faults) - 1} more)" if len(faults) > 1 else faults[0] if faults else None

    def shards_without_index(self) -> int:
        """Returns the number of shards that are served without their index file."""
        return sum(1 for owner in self.dispatcher.owners.values() if owner.history.why)

    def shards_filling(self) -> int:
        """Returns the number of shards whose history does not have all messages of the log yet."""
        return sum(1 for owner in self.dispatcher.owners.values() if not owner.history.complete)

    def open_letters(self) -> int:
        """Returns the number of dead letters of the shards served here that are not being replayed."""
        return sum(owner.letters.store.open_count for owner in self.dispatcher.owners.values())

    def topics(self, heat: Heat) -> int:
        """Returns how many topics of the shards served here are delivered in this way."""
        owners = self.dispatcher.owners.values()
        if heat is Heat.DIRECT:  # nothing is kept of most of them
            return sum(len(owner.rows) for owner in owners) - self.topics(Heat.PACED) - self.topics(Heat.INBOX)
        return sum(owner.heats.number_of(heat) for owner in owners)

    def lag(self) -> int:
        """Returns the number of records that are in the log and not applied yet."""
        return self._assignment.lag() if self._assignment is not None else 0

    def load(self) -> float:
        """Returns the load of this node; LOW messages are shed above `headgate.core.sequencer.load.SHED_ABOVE`."""
        return self.dispatcher.load.value

    def snapshot_age(self) -> float:
        """Returns for how many seconds the oldest change that is in no snapshot has waited."""
        return self._assignment.snapshot_age() if self._assignment is not None else 0.0

    def window_ids(self) -> int:
        """Returns the number of ids in the duplicate windows of the shards served here."""
        return self._assignment.window_ids() if self._assignment is not None else 0


def _on_files(folder: IndexFolder, do: Callable[[Iterable[Path]], None]) -> None:
    """Does something with all index files that waits for the disk; none is open, and nothing is served."""
    try:
        do(folder.files())
    except OSError as error:
        logger.warning("index files cannot be looked through", why=str(error))
