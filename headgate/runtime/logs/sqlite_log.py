"""The durable embedded log: one SQLite file with all logs, committed by one thread.

Appends of a loop tick, and those that arrive while a commit is under way, make the next commit; futures end after it
(`synchronous=FULL`: the disk has it). The loop never waits for the disk, except for short reads of recent pages.
"""

import asyncio
import contextlib
import functools
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from headgate.core.wire.records import Appended, Batch, Bounds, LogName
from headgate.runtime.logs.embedded import (
    KEEP_MS,
    RECORD_OVERHEAD,
    EmbeddedLog,
    Place,
    counter_of,
    fail,
    failed,
    record_bytes,
    resolve,
)
from headgate.runtime.logs.sqlite_file import CommitUnknown, SqliteFile, Write
from headgate.runtime.ports import AppendUnknown, Clock, LogUnavailable, OffsetGone, Rng

QUEUE_BYTES: Final = 64 << 20  # waiting while a commit is under way; above it appends are refused

_P = ParamSpec("_P")
_R = TypeVar("_R")
Pending = tuple[Write, "asyncio.Future[Appended]"]


class SqliteLog(EmbeddedLog):
    """One process's handle of a log file; implements the port `Log`."""

    durable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock,
        rng: Rng,
        shards: int | None = None,
        keep_ms: Mapping[LogName, int] = KEEP_MS,
    ) -> None:
        super().__init__(f"sqlite:{os.fspath(path)}", keep_ms)
        self._clock = clock
        self._rng = rng
        self._wanted_shards = shards
        self._file = SqliteFile(Path(path))
        self._thread = _Worker()
        self._open_batch: list[Pending] = []
        self._queued_bytes = 0
        self._committing = False
        self._ship_scheduled = False
        self._idle = asyncio.Event()
        self._waiters: dict[Place, list[asyncio.Future[None]]] = {}

    async def open(self) -> None:
        """Opens or creates the file. Raises LogInUse, LogUnavailable, SettingsConflict."""
        self._file.open(self._wanted_shards, self._rng, self._clock.wall_ms())
        self._thread.start(asyncio.get_running_loop())
        self._idle.set()
        self._opened = True

    async def close(self) -> None:
        """Commits what was handed over and closes the file."""
        if not self._opened:
            return
        self._opened = False
        await self._idle.wait()
        for place in list(self._waiters):
            self._wake(place)
        await self._thread.call(self._file.close)
        self._thread.stop()

    @property
    def shards(self) -> int:
        """The number of parts of the message log."""
        return self._file.shards

    @property
    def cluster_id(self) -> str:
        """The identity of the file."""
        return self._file.cluster_id

    def above_limit(self) -> bool:
        """Always False: the disk bounds this log."""
        return False

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Hands one record to the next commit; see the port."""
        self._file.bounds((log, shard))  # a part that does not exist is the caller's error
        size = record_bytes(key, value)
        refused = self._refusal(log, size)
        if refused is not None:
            return failed(refused)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Appended] = loop.create_future()
        self._open_batch.append((Write((log, shard), key, value), future))
        self._queued_bytes += size + RECORD_OVERHEAD
        self._idle.clear()
        if not self._ship_scheduled and not self._committing:
            self._ship_scheduled = True
            loop.call_soon(self._ship)
        return future

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> "SqliteReader":
        """Opens a position."""
        self.check_open()
        return SqliteReader(self, self._file, (log, shard), offset, counter_of(log, background=background))

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns the offsets that a part holds. Raises LogUnavailable."""
        self.check_open()
        return self._file.bounds((log, shard))

    async def truncate_before(self, log: LogName, shard: int, offset: int) -> None:
        """Forgets all records of a part before `offset` and frees their pages, in steps that let appends pass.

        Raises LogUnavailable.
        """
        self.check_open()
        try:
            while await self._thread.call(self._file.truncate_step, (log, shard), offset):
                pass
            while await self._thread.call(self._file.shrink_step):
                pass
        except (sqlite3.Error, CommitUnknown) as error:
            raise LogUnavailable(f"{self.address}: {error}") from error

    async def ready(self, place: Place, offset: int, wait_s: float) -> None:
        """Waits until the end of a part has moved beyond `offset`, the time is over, or the log was closed."""
        if self._file.bounds(place).end != offset or wait_s <= 0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(place, [])
        waiters.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=wait_s)
        finally:
            with contextlib.suppress(ValueError):
                waiters.remove(waiter)

    # Private.

    def _full(self, log: LogName) -> LogUnavailable | None:
        if self._queued_bytes <= QUEUE_BYTES:
            return None
        return LogUnavailable(f"{self.address}: over {QUEUE_BYTES} bytes wait for the disk")

    def _ship(self) -> None:
        self._ship_scheduled = False
        batch, self._open_batch = self._open_batch, []
        self._queued_bytes = 0
        self._committing = True
        writes = [write for write, _ in batch]
        done = self._thread.call(self._file.commit, writes, self._clock.wall_ms())
        done.add_done_callback(lambda committed: self._committed(batch, committed))

    def _committed(self, batch: list[Pending], committed: "asyncio.Future[list[Appended]]") -> None:
        error = committed.exception()
        if error is None:
            for (_, future), place in zip(batch, committed.result(), strict=True):
                resolve(future, place)
            for touched in {write.place: None for write, _ in batch}:
                self._wake(touched)
        else:
            verdict = AppendUnknown if isinstance(error, CommitUnknown) else LogUnavailable
            for _, future in batch:
                fail(future, verdict(f"{self.address}: {error}"))
        self._committing = False
        if self._open_batch:
            self._ship()
        else:
            self._idle.set()

    def _wake(self, place: Place) -> None:
        for waiter in self._waiters.pop(place, ()):
            if not waiter.done():
                waiter.set_result(None)


class SqliteReader:
    """A position in one part."""

    def __init__(self, log: SqliteLog, file: SqliteFile, place: Place, offset: int, counter: str) -> None:
        self._counter = counter
        self._log = log
        self._file = file
        self._place = place
        self._offset = offset

    async def read(self, max_records: int, wait_s: float) -> Batch:
        """Returns the next records; see the port."""
        self._log.check_open()
        self._check_offset()
        await self._log.ready(self._place, self._offset, wait_s)
        self._log.check_open()
        end = self._check_offset().end
        try:
            records = self._file.read(self._place, self._offset, max_records)
        except sqlite3.Error as error:
            raise LogUnavailable(f"{self._log.address}: {error}") from error
        self._log.records_read[self._counter] += len(records)
        if records:
            self._offset = records[-1].offset + 1
        return Batch(records, self._offset, end)

    async def close(self) -> None:
        """Gives up the position."""

    def _check_offset(self) -> Bounds:
        bounds = self._file.bounds(self._place)
        if not bounds.first <= self._offset <= bounds.end:
            raise OffsetGone(bounds.first, bounds.end)
        return bounds


class _Worker:
    """One thread that runs calls in order and ends their futures on the loop."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the thread. It never keeps a process alive: acknowledged records are committed."""
        self._loop = loop
        threading.Thread(target=self._run, name="headgate-sqlite", daemon=True).start()

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> "asyncio.Future[_R]":
        """Hands the thread a call; the future ends with its result or error."""
        assert self._loop is not None
        loop = self._loop
        future: asyncio.Future[_R] = loop.create_future()

        def job() -> None:
            try:
                end = functools.partial(_succeed, future, function(*args, **kwargs))
            except Exception as error:  # the caller gets it, on the loop
                end = functools.partial(_fail, future, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(end)

        self._jobs.put(job)
        return future

    def stop(self) -> None:
        """Ends the thread after the calls it has."""
        self._jobs.put(None)

    def _run(self) -> None:
        for job in iter(self._jobs.get, None):
            job()


def _succeed(future: "asyncio.Future[_R]", result: _R) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[_R]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
