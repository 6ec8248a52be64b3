"""Reads frames that the index file has dropped from the log again, for the readers that need them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

import structlog

from dispatcher.history import Asker, History
from dispatcher.recent import ITEM_BITS
from dispatcher.retry_delay import RetryDelay
from headgate.core.sequencer.apply import event_in, items_of
from headgate.core.sequencer.message_events import event_frame
from headgate.core.sequencer.rows import Row
from headgate.core.wire.control import Config
from headgate.core.wire.frames import message_frame
from headgate.core.wire.records import LogName, Record
from headgate.runtime.ports import Log, LogError, OffsetGone

NEAR_OFFSETS: Final = 500  # records between two wanted ones that are read rather than skipped
RUNS: Final = 16  # places in the log that one page is read from; a page ends where there are more
READ_RECORDS: Final = 500
READ_S: Final = 2.0
RETRY_S: Final = 0.5
LOG_RETRY_MAX_S: Final = 5.0  # while the log is away, all who wait need it
RETRY_MAX_S: Final = 60.0  # of a request that fails by itself
MAX_WANTED: Final = 10_000

Position = tuple[int, int]  # pos, seq
logger = structlog.get_logger("dispatcher")


class Wanted(NamedTuple):
    """Frames of one topic that an asker waits for; `delay` is there after a failure."""

    topic_id: str
    absent: Sequence[Position]
    asker: Asker
    again: Callable[[], None]
    delay: RetryDelay | None = None


class LogPages:
    """One shard's dropped frames, at most `read_bytes` of them for one page.

    `run` is its task; each page is handed on before the next is read.
    """

    def __init__(self, log: Log, number: int, history: History, read_bytes: int) -> None:
        self._log = log
        self._number = number
        self._history = history
        self._read_bytes = read_bytes
        self._wanted: deque[Wanted] = deque()
        self._wake = asyncio.Event()
        self._put_off = 0  # requests that failed and are tried again later
        self._delay = RetryDelay(RETRY_S)

    @property
    def crowded(self) -> bool:
        """Whether as many requests wait as may."""
        return len(self._wanted) + self._put_off >= MAX_WANTED

    def want(self, row: Row, absent: Sequence[Position], asker: Asker, again: Callable[[], None]) -> None:
        """Calls back once the frames have been loaded into the history, or the log has lost them."""
        self._wanted.append(Wanted(row.topic_id, absent, asker, again))
        self._wake.set()

    async def run(self, config: Config) -> None:
        """Reads the wanted frames in turn, until cancelled. While the log cannot be reached, the askers wait.

        A request that fails by itself is tried again later, and holds no other up.
        """
        while True:
            if not self._wanted:
                self._wake.clear()
                await self._wake.wait()
            wanted = self._wanted.popleft()
            if not wanted.asker.open:
                continue
            try:
                await self._serve(wanted, config)
            except LogError as error:
                logger.warning("old messages cannot be read now", shard=self._number, why=str(error))
                self._wanted.append(wanted)
                await asyncio.sleep(self._delay.failed(LOG_RETRY_MAX_S))
            except Exception:  # the task's root: a fault of history must not end delivery
                logger.exception("old messages cannot be read", shard=self._number, topic=wanted.topic_id)
                self._retry_later(wanted)
            else:
                self._delay.worked()

    async def _serve(self, wanted: Wanted, config: Config) -> None:
        try:
            await self._read(wanted, config)
        except OffsetGone as gone:
            self._history.log_begins(gone.first)
        wanted.again()

    def _retry_later(self, wanted: Wanted) -> None:
        delay = wanted.delay or RetryDelay(RETRY_S)
        self._put_off += 1
        asyncio.get_running_loop().call_later(delay.failed(RETRY_MAX_S), self._retry, wanted._replace(delay=delay))

    def _retry(self, wanted: Wanted) -> None:
        self._put_off -= 1
        self._wanted.append(wanted)
        self._wake.set()

    async def _read(self, wanted: Wanted, config: Config) -> None:
        size = 0
        for run in _runs(sorted(wanted.absent)):
            positions = dict(run)
            async with aclosing(self._records(run[0][0] >> ITEM_BITS, run[-1][0] >> ITEM_BITS)) as records:
                async for record in records:
                    size += self._take(wanted.topic_id, record, positions, config)
                    if size >= self._read_bytes:
                        return

    async def _records(self, offset: int, last: int) -> AsyncGenerator[Record, None]:
        """Yields the records from an offset to another."""
        reader = await self._log.reader(LogName.MESSAGES, self._number, offset, background=True)
        try:
            while offset <= last:
                batch = await reader.read(READ_RECORDS, READ_S)
                for record in batch.records:
                    yield record
                if batch.next_offset <= offset:
                    return
                offset = batch.next_offset
                await asyncio.sleep(0)
        finally:
            await reader.close()

    def _take(self, topic_id: str, record: Record, positions: dict[int, int], config: Config) -> int:
        """Keeps the wanted frames of a record; returns their bytes."""
        first = record.offset << ITEM_BITS
        size = 0
        if (record.key or b"").rpartition(b"/")[2] != topic_id.encode():
            return size
        for number, item in enumerate(items_of(record, config)):
            seq = positions.get(first | number)
            if seq is not None:
                frame = message_frame(topic_id, seq, record.ts, item.tail)
                self._history.loaded(first | number, frame)
                size += len(frame)
        told, seq = event_in(record), positions.get(first)
        if told is not None and seq is not None:
            frame = event_frame(topic_id, seq, record.ts, told)
            self._history.loaded(first, frame)
            size += len(frame)
        return size


def _runs(absent: Sequence[Position]) -> Iterator[list[Position]]:
    """Cuts positions into runs that are near each other, at most RUNS of them."""
    run: list[Position] = []
    count = 0
    for position in absent:
        if run and (position[0] - run[-1][0]) >> ITEM_BITS > NEAR_OFFSETS:
            yield run
            run, count = [], count + 1
            if count == RUNS:
                return
        run.append(position)
    if run:
        yield run
