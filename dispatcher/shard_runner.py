"""The life of one owned shard: restore, catch up, serve, hand over; knows no link."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import structlog

from dispatcher.dispatcher import Dispatcher
from dispatcher.folder import index_path
from dispatcher.index import FRAME_BYTES, LogIdentity
from dispatcher.index_keeper import IndexKeeper, IndexPlace
from dispatcher.rebuild import Rebuild
from dispatcher.recovery import ShardLost
from dispatcher.shard import ShardOwner
from dispatcher.snapshots import OLD_S, Snapshots
from headgate.core.sequencer.apply import NotConfigured
from headgate.core.wire.control import Config
from headgate.core.wire.errors import HeadgateError, NewerSnapshot, UnknownVersion
from headgate.runtime.logs.shard_config import first_config
from headgate.runtime.ports import Clock, Log, LogError, LogUnavailable, OffsetGone

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 1.0
PARKED_RETRY_S: Final = 15.0
OPENED_S: Final = 0.5  # how long a shard that is live waits for its index file, so that the first answers are whole
REBUILD_WAIT_S: Final = 0.5  # shards on their way to being live come first, but not for ever
REBUILD_POLL_S: Final = 0.05
PARKING: Final = (NotConfigured, UnknownVersion, OffsetGone, ShardLost, NewerSnapshot)


class ShardRunner:
    """One shard of this node, from claim to release. `run` is its task; cancelling it releases the shard.

    Index files stand in `folder` (None: in memory), each with at most `frame_bytes` of frames.
    """

    def __init__(
        self,
        number: int,
        epoch: int,
        log: Log,
        folder: Path | None,
        dispatcher: Dispatcher,
        clock: Clock,
        frame_bytes: int = FRAME_BYTES,
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.owner: ShardOwner | None = None
        self.final_snapshot = False
        self.snapshots: Snapshots | None = None
        self._log = log
        self._folder = folder
        self._dispatcher = dispatcher
        self._clock = clock
        self._frame_bytes = frame_bytes

    def snapshot_age(self) -> float:
        """Returns for how many seconds the oldest change of the shard has waited for a snapshot."""
        return self.snapshots.age() if self.snapshots is not None else 0.0

    def snapshot_is_old(self) -> str | None:
        """Returns one sentence where changes have waited too long for a snapshot."""
        age = self.snapshot_age()
        return f"shard {self.number}: no snapshot could be written for {age:.0f} s" if age > OLD_S else None

    async def run(self) -> None:
        """Serves the shard until cancelled; a fault parks it, is logged, and is tried again later."""
        while True:
            try:
                self._dispatcher.restoring.add(self.number)
                await self._serve()
            except PARKING as error:
                self._park(error)
                await asyncio.sleep(PARKED_RETRY_S)
            except LogError as error:
                logger.warning("shard waits for the log", shard=self.number, why=str(error))
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # the task's root: one shard's fault must not end its neighbours
                logger.exception("shard failed", shard=self.number)
                self._park(error)
                await asyncio.sleep(PARKED_RETRY_S)
            finally:
                self._dispatcher.restoring.discard(self.number)

    def _park(self, error: Exception) -> None:
        logger.error("shard parked", shard=self.number, why=str(error))
        if self.owner is not None:
            self.owner.park(str(error))

    async def _serve(self) -> None:
        owner = ShardOwner(self.number, self.epoch, self._log, self._dispatcher)
        self.owner = owner
        await owner.restore()
        config = owner.shard.config or await first_config(self._log, self.number)
        if config is None:
            raise NotConfigured(f"shard {self.number} has no config record; run `headgate init`")
        snapshots = self.snapshots = Snapshots(owner, self._clock, self._dispatcher)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(owner.tail(), name=f"tail-{self.number}")
                tasks.create_task(snapshots.run(), name=f"snapshots-{self.number}")
                self._start_history(tasks, owner, config)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            self._dispatcher.stop_serving(self.number)
            await self._release(owner, snapshots)

    def _start_history(self, tasks: asyncio.TaskGroup, owner: ShardOwner, config: Config) -> None:
        identity = LogIdentity(config.cluster_id, config.generation, self.number)
        place = IndexPlace(index_path(self._folder, self.number), identity, self._frame_bytes)
        worked, turn = self._dispatcher.worked, self._dispatcher.rebuilding
        keeper = IndexKeeper(self._log, self.number, owner.history, place, worked)
        rebuild = Rebuild(self._log, self.number, config, owner.history, owner.rows, turn, worked)
        tasks.create_task(keeper.run(), name=f"index-{self.number}")
        tasks.create_task(owner.pages.run(config), name=f"pages-{self.number}")
        tasks.create_task(owner.log_end.run(), name=f"log-end-{self.number}")
        tasks.create_task(self._announce(owner, keeper), name=f"announce-{self.number}")
        tasks.create_task(self._rebuild(owner, rebuild), name=f"rebuild-{self.number}")

    async def _release(self, owner: ShardOwner, snapshots: Snapshots) -> None:
        if self.final_snapshot and owner.live.is_set():
            try:
                await snapshots.final()
            except HeadgateError as error:  # the next owner then starts from an older one
                logger.warning("no final snapshot", shard=self.number, why=str(error))
        while owner.history.write():  # noqa: ASYNC110 - gives way between slices, waits for nothing
            await asyncio.sleep(0)
        owner.history.close()

    async def _announce(self, owner: ShardOwner, keeper: IndexKeeper) -> None:
        await owner.live.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPENED_S):
                await keeper.opened.wait()
        logger.info("shard live", shard=self.number, epoch=self.epoch, offset=owner.shard.next_offset)
        self._dispatcher.restoring.discard(self.number)
        self._dispatcher.serve(owner)

    async def _rebuild(self, owner: ShardOwner, rebuild: Rebuild) -> None:
        """After live delivery, of the node's other shards too, history follows."""
        await owner.live.wait()
        started = self._clock.now()
        while self._dispatcher.restoring and self._clock.now() - started < REBUILD_WAIT_S:  # noqa: ASYNC110 - many end it
            await asyncio.sleep(REBUILD_POLL_S)
        await rebuild.run()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Returns the first error that is not itself a group: the type alone decides what happens."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if not isinstance(error, LogUnavailable) else LogUnavailable(str(error))
