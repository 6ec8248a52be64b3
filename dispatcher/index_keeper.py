"""Writes a shard's index file behind delivery, and opens it again after a fault."""

import asyncio
import contextlib
from typing import Final

import structlog

from dispatcher.folder import index_path
from dispatcher.history import BATCH_BYTES, History
from dispatcher.index import HistoryIndex
from dispatcher.index_file import IndexFault, LogIdentity
from dispatcher.known_record import still_holds
from dispatcher.node import Node
from dispatcher.retry_delay import RetryDelay
from headgate.core.wire.control import Config
from headgate.core.wire.records import LogName
from headgate.runtime.ports import LogError

RETRY_MAX_S: Final = 30.0
GATHER_S: Final = 1.0  # messages of so long make one commit: large ones cost less a message
GATHERED_S: Final = 0.05  # between two looks whether there are enough for one before
IDLE_S: Final = 30.0
CROWDED_STEPS: Final = 2  # of housekeeping for each write while frames have to be dropped: more than one write adds

logger = structlog.get_logger("dispatcher")


class IndexKeeper:
    """The one writer of a shard's index file. `run` is its task; `tried` is set once it has tried to open the file."""

    def __init__(self, node: Node, config: Config, history: History) -> None:
        self.tried = asyncio.Event()
        self._log = node.log
        self._number = config.shard
        self._history = history
        self._options = node.options
        self._space = node.index_space
        self._identity = LogIdentity(config.cluster_id, config.generation, config.shard)
        self._worked = node.shell.metrics.worked
        self._now = asyncio.get_running_loop().time
        self._delay = RetryDelay(node.options.retry_s)

    async def run(self) -> None:
        """Works until cancelled. Tries a file that cannot be used again, each time after twice as long."""
        while True:
            try:
                await self._step()
            except Exception as error:  # the task's root: a fault of history must not end delivery
                logger.exception("the index file cannot be used", shard=self._number)
                self._history.fault(IndexFault(repr(error)))
            if self._history.file is None:
                await asyncio.sleep(self._delay.failed(RETRY_MAX_S))

    async def _step(self) -> None:
        try:
            is_open = self._history.file is not None or await self._open()
        finally:
            self.tried.set()
        if is_open and await self._work():
            self._delay.worked()

    async def _work(self) -> bool:
        """Does a slice of work, or waits for work; returns whether the file took messages."""
        started = self._now()
        wrote = self._history.write()
        steps = CROWDED_STEPS if self._history.crowded_file else 0 if wrote else 1
        tidied = [self._history.tidy() for _ in range(steps)]
        if wrote or any(tidied):
            self._worked("index", self._now() - started)
            await asyncio.sleep(0)
            return wrote
        if self._history.file is not None:
            self._history.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._history.changed.wait()
            await self._gather()
        return False

    async def _gather(self) -> None:
        """Waits until there are enough messages for a commit, or the first one has waited for GATHER_S."""
        recent, until = self._history.recent, self._now() + GATHER_S
        most = self._options.history.batch
        while len(recent) < most and recent.bytes < BATCH_BYTES and self._now() < until:  # noqa: ASYNC110 - and time
            await asyncio.sleep(GATHERED_S)

    async def _open(self) -> bool:
        try:
            file = await self._with_room(await self._checked(self._file()))
        except (IndexFault, OSError) as error:
            self._history.why = f"the index file: {error}"
            logger.error("the index file cannot be opened", shard=self._number, why=str(error))
            return False
        except LogError as error:
            self._history.why = f"the index cannot be compared with the log: {error}"
            return False
        self._history.opened(file)
        self._space.on_excess(self._number, self._history.changed.set)
        return True

    def _file(self) -> HistoryIndex:
        """Opens or creates the file. Raises IndexFault."""
        path = index_path(self._options.folder, self._number)
        return HistoryIndex(path, self._identity, self._options.frame_bytes, self._space)

    async def _with_room(self, file: HistoryIndex) -> HistoryIndex:
        """Returns the file, tidied first where the files of this node leave no room. Raises IndexFault."""
        try:
            while self._space.is_full and file.tidy(self._history.first):  # noqa: ASYNC110 - it gives way between slices
                await asyncio.sleep(0)
            file.check_space()
        except BaseException:
            file.close()
            raise
        return file

    async def _checked(self, file: HistoryIndex) -> HistoryIndex:
        """Returns the file, or a new one where it was made from another log. Raises IndexFault, LogError."""
        try:
            if await self._matches(file):
                return file
        except BaseException:
            file.close()  # it holds the file's lock
            raise
        logger.warning("the index is of another log and made anew", shard=self._number)
        file.delete()
        return self._file()

    async def _matches(self, file: HistoryIndex) -> bool:
        """Returns whether the file was made from this log: it compares the length and the newest record taken."""
        bounds = await self._log.bounds(LogName.MESSAGES, self._number)
        if file.ranges and file.ranges[-1][1] > bounds.end:
            return False
        return await still_holds(self._log, self._number, file.last, bounds.first)
