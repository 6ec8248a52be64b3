"""Fills the gaps of a shard's history from the log in the background, newest first.

Snapshots hold the seqs of the messages between them, so the messages in a stretch of the log get their numbers without
being applied again. Where no snapshot has the numbers, the log is applied from the newest state before the stretch.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final

import structlog

from dispatcher.history import ANY_TOPIC, BATCH_BYTES, History
from dispatcher.node import Node
from dispatcher.numbers import Numbers, Part, numbers_back
from dispatcher.recent import RecentMessage, recent_of
from dispatcher.recovery import restore_in_slices
from dispatcher.retry_delay import RetryDelay
from headgate.core.sequencer.apply import apply_many, event_in, foreign_item
from headgate.core.sequencer.effects import Deliver, MessageChanged, TopicDeleted
from headgate.core.sequencer.message_events import deliver_event
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.window import SEQ_UNKNOWN, window_key
from headgate.core.wire.control import Config, DeleteTopic, decode_body
from headgate.core.wire.envelope import Envelope, Item, Kind, decode, is_ours
from headgate.core.wire.errors import CorruptRecord, HeadgateError
from headgate.core.wire.frames import message_frame
from headgate.core.wire.message_changes import MessageChange
from headgate.core.wire.records import LogName, Record, slices
from headgate.runtime.logs.chunks import newest_chain
from headgate.runtime.logs.shard_config import first_record, parse_config
from headgate.runtime.ports import LogError, LogUnavailable, OffsetGone

READ_RECORDS: Final = 1_000
EMPTY_READS: Final = 5  # of a second each
NEWEST_MESSAGES: Final = 4_096  # of the first turn: after a fail-over readers ask for new messages, of every shard
LATER_MESSAGES: Final = 65_536
LOG_RETRY_MAX_S: Final = 30.0  # while the log or the index is away
RETRY_MAX_S: Final = 600.0  # a broken snapshot stays broken, and each try reads all snapshots above it
GROWTH: Final = 2  # a turn takes this many times the messages of the turn before

logger = structlog.get_logger("dispatcher")

Take = Callable[[Record], None]


class Stretch:
    """The offsets [low, high) of the log, and what was found there: messages to write, topics deleted and touched."""

    def __init__(self, low: int, high: int, batch: int) -> None:
        self.low = low
        self.high = high
        self._batch = batch  # messages that are written at a time
        self.entries: list[RecentMessage] = []
        self.bytes = 0
        self.deleted: list[int] = []  # epochs
        self.touched: set[int] = set()  # epochs

    def add(self, entry: RecentMessage) -> None:
        """Adds a message."""
        self.entries.append(entry)
        self.bytes += len(entry.frame)
        self.touched.add(entry.epoch)

    @property
    def is_full(self) -> bool:
        """Whether it is time to write."""
        return len(self.entries) >= self._batch or self.bytes >= BATCH_BYTES

    def clear(self, low: int) -> None:
        """Everything below `low` is written."""
        self.low, self.bytes = low, 0
        self.entries, self.deleted = [], []


class Numbering:
    """Gives the messages of a stretch the seqs that a snapshot holds. The first record of an id is the message.

    Where the log begins inside the snapshot's range, the log may have a repeat and have lost its message. Then the seqs
    of the topic do not follow each other up to the newest, and the messages that were taken wrongly are taken back.
    """

    def __init__(self, history: History, rows: Mapping[bytes, Row], config: Config, part: Part) -> None:
        self._history = history
        self._rows = rows
        self._config = config
        self._seqs = part.seqs
        self._cut = history.first > part.start
        self._runs: dict[int, tuple[int, int]] = {}
        self._topics: dict[int, Row] = {}

    def finish(self) -> None:
        """Takes back messages that do not join the newer ones; to be called when the stretch is written."""
        for epoch, (first, last) in self._runs.items():
            if last != self._topics[epoch].seq and not self._history.has(epoch, last + 1):
                self._history.take_back(epoch, first, last)

    def take(self, stretch: Stretch, record: Record) -> None:
        """Takes the messages of one record."""
        value = record.value or b""
        row = self._rows.get(record.key or b"")
        try:
            envelope = decode(value) if is_ours(value) else None
        except CorruptRecord:
            return
        if envelope is not None and envelope.kind is Kind.CONTROL:
            self._control(stretch, row, envelope)
        elif row is None or row.ephemeral:
            return
        elif envelope is None:
            self._foreign(stretch, row, record)
        elif envelope.epoch == row.epoch:
            if envelope.kind is Kind.EVENT:
                self._event(stretch, row, record, envelope)
            for number, item in enumerate(envelope.items):
                self._item(stretch, row, record, number, item)

    def _control(self, stretch: Stretch, row: Row | None, envelope: Envelope) -> None:
        try:
            deletes = isinstance(decode_body(envelope.body), DeleteTopic)
        except CorruptRecord:
            return
        if deletes and (row is None or row.epoch != envelope.epoch):
            stretch.deleted.append(envelope.epoch)

    def _foreign(self, stretch: Stretch, row: Row, record: Record) -> None:
        try:
            item = foreign_item(record, self._config)
        except ValueError:
            return
        self._item(stretch, row, record, 0, item)

    def _item(self, stretch: Stretch, row: Row, record: Record, number: int, item: Item) -> None:
        seq = self._seq_of(stretch, row, record, item.id)
        if seq is not None:
            frame = message_frame(row.topic_id, seq, record.ts, item.tail)
            message = Deliver(row.topic_id, row.epoch, seq, record.ts, item.id, number, frame, item.flags)
            stretch.add(recent_of(record.offset, message))

    def _event(self, stretch: Stretch, row: Row, record: Record, envelope: Envelope) -> None:
        told = event_in(record)
        seq = None if told is None else self._seq_of(stretch, row, record, envelope.id)
        if told is not None and seq is not None:
            event = deliver_event(row, seq, record, envelope, told)
            stretch.add(recent_of(record.offset, event, told.change))

    def _seq_of(self, stretch: Stretch, row: Row, record: Record, record_id: bytes) -> int | None:
        """Returns the seq that a snapshot has for the first record of an id; SEQ_UNKNOWN stands for a refused event."""
        seq = self._seqs.pop(window_key(record_id, row.epoch), None)
        if seq is None or seq == SEQ_UNKNOWN or record.offset < stretch.low:
            return None
        if self._cut and not self._follows(stretch, row.epoch, seq):
            return None
        self._topics[row.epoch] = row
        return seq

    def _follows(self, stretch: Stretch, epoch: int, seq: int) -> bool:
        first, last = self._runs.get(epoch, (seq, seq - 1))
        if seq <= last:
            return False
        if seq > last + 1:
            stretch.entries = [e for e in stretch.entries if e.epoch != epoch]
            self._history.take_back(epoch, first, last)
            first = seq
        self._runs[epoch] = (first, seq)
        return True


class Rebuild:
    """One shard's rebuild. `run` is its task. The shards of a node take turns by stretch."""

    def __init__(self, node: Node, config: Config, history: History, rows: Mapping[bytes, Row]) -> None:
        self._log = node.log
        self._number = config.shard
        self._config = config
        self._history = history
        self._rows = rows
        self._options = node.options
        self._turn = node.rebuilding
        self._worked = node.shell.metrics.worked
        self._now = asyncio.get_running_loop().time
        self._walk: AsyncGenerator[Numbers, None] | None = None
        self._numbers: Numbers | None = None
        self._below = 0  # the numbers that the walk has not given yet end here
        self._messages = NEWEST_MESSAGES  # of the next turn
        self._delay = RetryDelay(node.options.retry_s)

    async def run(self) -> None:
        """Fills gaps as they appear, until cancelled. Tries again after a failure, each time after twice as long."""
        try:
            while True:
                await self._history.has_gaps.wait()
                await self._take_turn()
                await asyncio.sleep(0)
        finally:
            await self._restart()

    async def _take_turn(self) -> None:
        try:
            async with self._turn:
                await self._fill_one()
        except Exception as error:  # the task's root: a fault of history must not end delivery
            await self._restart()
            if isinstance(error, OffsetGone) and error.first > self._history.first:
                self._history.log_begins(error.first)
            else:
                await asyncio.sleep(self._failed(error))
        else:
            self._delay.worked()

    def _failed(self, error: Exception) -> float:
        """Logs a failure; returns after how many seconds to try again."""
        if isinstance(error, HeadgateError):
            logger.warning("history cannot be filled now", shard=self._number, why=str(error))
        else:
            logger.exception("history cannot be filled", shard=self._number)
        return self._delay.failed(LOG_RETRY_MAX_S if isinstance(error, LogError) else RETRY_MAX_S)

    async def _restart(self) -> None:
        walk, self._walk, self._numbers = self._walk, None, None
        self._messages = NEWEST_MESSAGES
        if walk is not None:
            await walk.aclose()

    async def _fill_one(self) -> None:
        """Fills the newest part of the newest gap."""
        gaps = self._history.gaps()
        if not gaps or self._history.file is None:
            return
        low, high = gaps[-1]
        batch = self._options.history.batch
        numbers = await self._numbers_below(high)
        if numbers is not None and numbers.offset >= high:
            part = numbers.newest(max(low, numbers.since), high, self._messages)
            self._messages = min(self._messages * GROWTH, LATER_MESSAGES)
            stretch = Stretch(part.low, part.high, batch)
            numbering = Numbering(self._history, self._rows, self._config, part)
            await self._read(stretch, max(part.start, self._history.first), lambda r: numbering.take(stretch, r))
            if self._history.whole_from < high:  # else the newer messages are missing too
                numbering.finish()
        else:
            await self._apply(Stretch(low if numbers is None else max(low, numbers.offset), high, batch))
        if not self._history.gaps():
            logger.info("history rebuilt", shard=self._number)
            await self._restart()

    async def _numbers_below(self, high: int) -> Numbers | None:
        """Returns the numbers of the newest snapshot that reach below an offset, None where none are left."""
        if self._walk is None or high > self._below:
            await self._restart()
            self._walk = numbers_back(self._log, self._number)
        self._below = high
        while self._numbers is None or self._numbers.since >= high:
            self._numbers = await anext(self._walk, None)
            if self._numbers is None:
                return None
        return self._numbers

    async def _read(self, stretch: Stretch, start: int, take: Take) -> None:
        """Reads from `start` to the stretch's end, calls `take` with each record, and writes the stretch in slices."""
        reader = await self._log.reader(LogName.MESSAGES, self._number, start, background=True)
        empty = 0
        try:
            offset = start
            while offset < stretch.high:
                batch = await reader.read(READ_RECORDS, 1.0)
                empty = empty + 1 if batch.next_offset <= offset else 0
                if empty >= EMPTY_READS:
                    raise LogUnavailable(f"{self._log.address}: messages {self._number} give nothing at {offset}")
                offset = min(batch.next_offset, stretch.high)
                await self._take_batch(stretch, [r for r in batch.records if r.offset < stretch.high], take)
            self._write(stretch, stretch.high)
        finally:
            await reader.close()
        self._history.release([*stretch.touched, ANY_TOPIC])

    async def _take_batch(self, stretch: Stretch, batch: Sequence[Record], take: Take) -> None:
        for records in slices(batch):
            started = self._now()
            for record in records:
                take(record)
            if stretch.is_full:
                self._write(stretch, records[-1].offset + 1)
            self._worked("rebuild", self._now() - started)
            await asyncio.sleep(0)

    def _write(self, stretch: Stretch, end: int) -> None:
        if end <= stretch.low:
            return
        if not self._history.fill(stretch.entries, stretch.low, end, stretch.deleted):
            raise LogUnavailable(f"shard {self._number}: {self._history.why or 'the index is away'}")
        stretch.clear(end)

    async def _apply(self, stretch: Stretch) -> None:
        """Fills a stretch whose numbers no snapshot has, by applying the log again from the newest state before it."""
        chain = await newest_chain(self._log, self._number, at_most=stretch.low)
        if chain and chain[-1].offset >= self._history.first:
            shard, rows = await restore_in_slices(chain)
        else:
            first = await first_record(self._log, self._number)
            if first is None or parse_config(first) is None:
                logger.error("history is lost: no snapshot numbers it", shard=self._number, to=stretch.high)
                self._write(stretch, stretch.high)
                return
            shard, rows = Shard(), {}
            shard.next_offset = first.offset

        def take(record: Record) -> None:
            for _, applied in apply_many(shard, rows, (record,)):
                for effect in applied.effects:
                    self._take(stretch, record, effect)

        await self._read(stretch, shard.next_offset, take)

    def _take(self, stretch: Stretch, record: Record, effect: object) -> None:
        if record.offset < stretch.low:
            return
        if isinstance(effect, TopicDeleted):
            stretch.deleted.append(effect.epoch)
        elif isinstance(effect, Deliver):
            self._add(stretch, record, effect)
        elif isinstance(effect, MessageChanged):
            self._add(stretch, record, effect.event, effect.change)

    def _add(self, stretch: Stretch, record: Record, message: Deliver, change: MessageChange | None = None) -> None:
        row = self._rows.get(record.key or b"")
        if row is not None and row.epoch == message.epoch:
            stretch.add(recent_of(record.offset, message, change))
