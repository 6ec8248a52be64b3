"""The life of one shard on this node: restore, catch up, serve, drain."""

import asyncio
import contextlib
from typing import Final

import structlog

from dispatcher.dispatcher import Dispatcher
from dispatcher.index_keeper import IndexKeeper
from dispatcher.node import Node
from dispatcher.rebuild import Rebuild
from dispatcher.recovery import ShardLost, recover
from dispatcher.shard import ShardOwner
from dispatcher.snapshots import Snapshots
from headgate.core.sequencer.apply import NotConfigured
from headgate.core.sequencer.shard_state import ShardEvent, ShardLife, ShardState
from headgate.core.wire.control import Config
from headgate.core.wire.errors import HeadgateError, NewerSnapshot, UnknownVersion
from headgate.core.wire.records import NO_RECORD
from headgate.runtime.ports import LogError, LogUnavailable, OffsetGone

logger = structlog.get_logger("dispatcher")

INDEX_WAIT_S: Final = (
    0.5  # how long a shard waits for its index file before it is live: the first answers are then whole
)
REBUILD_WAIT_S: Final = 0.5  # shards that are being restored come first, but a rebuild does not wait longer
REBUILD_POLL_S: Final = 0.05
PARKING: Final = (NotConfigured, UnknownVersion, OffsetGone, ShardLost, NewerSnapshot)


class ShardRunner:
    """One shard of this node from its claim, which gave it `epoch`, to its release.

    `run` is its task; cancelling it releases the shard. `owner` is there from the end of each recovery on, `life` has
    the state.
    """

    def __init__(self, number: int, epoch: int, node: Node, dispatcher: Dispatcher) -> None:
        self.number = number
        self.epoch = epoch
        self.owner: ShardOwner | None = None
        self.life = ShardLife()
        self._fault = ""
        self._drains = False
        self._taken = NO_RECORD  # the newest record that was applied here
        self._snapshots: Snapshots | None = None
        self._node = node
        self._dispatcher = dispatcher

    @property
    def why(self) -> str:
        """Why the shard is not served, as a word or a sentence for an operator; empty while it is."""
        if self.life.state is ShardState.PARKED:
            return self._fault
        return "" if self.life.state is ShardState.LIVE else "restoring"

    def snapshot_age(self) -> float:
        """Returns for how many seconds the oldest change of the shard has waited for a snapshot."""
        return self._snapshots.age() if self._snapshots is not None else 0.0

    def snapshot_overdue(self) -> str | None:
        """Returns one sentence where changes have waited too long for a snapshot."""
        return self._snapshots.overdue() if self._snapshots is not None else None

    def drain(self) -> None:
        """Asks for a final snapshot when the task is cancelled."""
        self._drains = True

    async def run(self) -> None:
        """Serves the shard until cancelled. A fault is logged and parks the shard, which is restored again later."""
        self.life.step(ShardEvent.CLAIM_READ)
        try:
            while not self._is_released:
                try:
                    await self._serve()
                except Exception as error:  # the task's root: one shard's fault must not end its neighbours
                    self._ended(error)
                    self._log_fault(error)
                await self._pause()
        finally:
            drained = self.life.state is ShardState.DRAINING
            self.life.step(ShardEvent.WRITTEN if drained else ShardEvent.RELEASE)

    @property
    def _is_released(self) -> bool:
        """Whether the task was cancelled, and the cancellation got lost in a fault while the rest was written."""
        return self.life.state is ShardState.DRAINING

    async def _pause(self) -> None:
        options, state = self._node.options, self.life.state
        if state in (ShardState.PARKED, ShardState.WAITING):
            await asyncio.sleep(options.parked_retry_s if state is ShardState.PARKED else options.retry_s)
            self.life.step(ShardEvent.RETRY)

    def _ended(self, error: BaseException) -> None:
        """Moves the shard out of service; a second call for the same end changes nothing."""
        if self.life.state not in (ShardState.RESTORING, ShardState.CATCHING_UP, ShardState.LIVE):
            return
        if not isinstance(error, Exception):
            self.life.step(ShardEvent.RELEASE)
        elif isinstance(error, LogError) and not isinstance(error, PARKING):
            self.life.step(ShardEvent.LOG_LOST)
        else:
            self._fault = str(error)
            self.life.step(ShardEvent.FAULT)

    def _log_fault(self, error: Exception) -> None:
        if self.life.state is ShardState.WAITING:
            logger.warning("shard waits for the log", shard=self.number, why=str(error))
            return
        if not isinstance(error, PARKING):
            logger.exception("shard failed", shard=self.number)
        logger.error("shard parked", shard=self.number, why=str(error))

    async def _serve(self) -> None:
        """Restores and serves the shard until a fault or a cancellation, which it raises."""
        node, dispatcher = self._node, self._dispatcher
        self.owner = None
        dispatcher.restoring.add(self.number)
        try:
            found = await recover(node.log, self.number, node.shell.metrics.worked, self._taken)
            mark = dispatcher.mark_of(self.number)
            owner = self.owner = ShardOwner(found, self.epoch, node, dispatcher.topic_changed, mark)
            snapshots = self._snapshots = Snapshots(owner, node)
            self.life.step(ShardEvent.RESTORED)
            await self._run_tasks(owner, snapshots, found.config)
        finally:
            dispatcher.restoring.discard(self.number)
            if self.owner is not None:
                self._taken = max(self._taken, self.owner.shard.last)

    async def _run_tasks(self, owner: ShardOwner, snapshots: Snapshots, config: Config) -> None:
        keeper = IndexKeeper(self._node, config, owner.history)
        rebuild = Rebuild(self._node, config, owner.history, owner.rows)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(owner.follow_log(), name=f"log-{self.number}")
                tasks.create_task(snapshots.run(), name=f"snapshots-{self.number}")
                tasks.create_task(owner.inbox.follow_log(), name=f"inbox-{self.number}")
                tasks.create_task(owner.letters.follow_log(), name=f"dead-letters-{self.number}")
                tasks.create_task(keeper.run(), name=f"index-{self.number}")
                tasks.create_task(owner.pages.run(config), name=f"pages-{self.number}")
                tasks.create_task(owner.log_end.run(), name=f"log-end-{self.number}")
                tasks.create_task(self._go_live(owner, keeper), name=f"announce-{self.number}")
                tasks.create_task(self._rebuild(owner, rebuild), name=f"rebuild-{self.number}")
        except BaseException as error:
            first = _first(error)
            self._ended(first)
            raise first from None
        finally:
            self._dispatcher.stop_serving(self.number)
            try:
                await self._write_rest(owner, snapshots)
            finally:
                for part in (owner.history, owner.outputs, owner.pointers, owner.dead_letters):
                    part.close()

    async def _write_rest(self, owner: ShardOwner, snapshots: Snapshots) -> None:
        """Writes the final snapshot of a drain, and the messages that are not in the index file."""
        if self._drains and owner.caught_up.is_set():
            try:
                await snapshots.final()
            except HeadgateError as error:  # the next owner then starts from an older one
                logger.warning("no final snapshot", shard=self.number, why=str(error))
        while owner.history.write():  # noqa: ASYNC110 - gives way between slices, waits for nothing
            await asyncio.sleep(0)

    async def _go_live(self, owner: ShardOwner, keeper: IndexKeeper) -> None:
        await owner.caught_up.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INDEX_WAIT_S):
                await keeper.tried.wait()
        logger.info("shard live", shard=self.number, epoch=self.epoch, offset=owner.shard.next_offset)
        self.life.step(ShardEvent.CAUGHT_UP)
        self._dispatcher.restoring.discard(self.number)
        owner.heats.begin()
        self._dispatcher.serve(owner)

    async def _rebuild(self, owner: ShardOwner, rebuild: Rebuild) -> None:
        """Rebuilds the history once this shard, and the others that are being restored, are live."""
        await owner.caught_up.wait()
        clock = self._node.shell.clock
        started = clock.now()
        while self._dispatcher.restoring and clock.now() - started < REBUILD_WAIT_S:  # noqa: ASYNC110 - many end it
            await asyncio.sleep(REBUILD_POLL_S)
        await rebuild.run()


def _first(error: BaseException) -> BaseException:
    """Returns the first error that is not itself a group: the type alone decides what happens."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if not isinstance(error, LogUnavailable) else LogUnavailable(str(error))
