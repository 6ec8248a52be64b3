"""Reads the dead-letter log of one shard, and writes what happens to the letters of deliveries.

The letters change only by records that were read back, so a new owner has the same ones. Its own task reads them: while
the log cannot be read, messages are delivered all the same, and questions about letters wait.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Final, Protocol

import msgspec
import structlog

from dispatcher.letter_checks import LetterChecks
from dispatcher.log_follower import FollowerActions, LogFollower
from dispatcher.ports import DispatcherMetrics
from dispatcher.shard_time import ShardTime
from headgate.core.delivery.dead_letter_record import DeadLetter, DeadLetterRecord, LetterAdded, encode_letter
from headgate.core.delivery.dead_letter_store import DeadLetterStore
from headgate.core.delivery.open_letters import OFFSET_KEY, OpenLetters
from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.ids import topic_key
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.logging import Reminder
from headgate.runtime.ports import Log, LogError, LogUnavailable, OffsetGone, RecordTooLarge, Shell

logger = structlog.get_logger("dispatcher")

RETRY_S: Final = 2.0  # not sooner: readers of other logs share a consumer with this one
WAITING: Final = 10_000  # records that are not read back yet

Outcome = Callable[[bool | None], None]  # whether the log has the record; None: it may have it
LetterAddedListener = Callable[[DeadLetter, bool], None]  # with whether it is new, or was there when the shard came


class LetterListener(Protocol):
    """Is told of the records of deliveries, in the order of the log, once all of them have been read."""

    def __call__(self, record: DeadLetterRecord) -> None: ...


class LetterLog:
    """The letters of one shard, kept up to date by `follow_log`, which is a task of its own.

    It is read once the shard's message log has been (`live`).
    """

    def __init__(
        self,
        log: Log,
        number: int,
        letters: OpenLetters,
        writer: SnapshotWriter,
        live: asyncio.Event,
        checks: LetterChecks,
        time: ShardTime,
        shell: Shell[DispatcherMetrics],
        added: LetterAddedListener,
    ) -> None:
        """`added` is called once for each letter that was written, however often it is read."""
        self.letters = letters
        do = FollowerActions(self._take, self._applied, self._complete)
        self.follower = LogFollower(log, LogName.DEAD_LETTERS, number, live, letters, do, RETRY_S)
        self.listener: LetterListener | None = None
        self._log = log
        self._number = number
        self._writer = writer
        self._live = live
        self._checks = checks
        self._time = time
        self._metrics = shell.metrics
        self._reminder = Reminder(shell.clock.now)
        self._added = added
        self._written: list[tuple[int, int, Outcome]] = []  # a heap by offset: in the log, not read back yet
        self._appends = 0
        self._flying = 0
        self._evicted = 0

    @property
    def store(self) -> DeadLetterStore:
        """The letters."""
        return self.letters.store

    # -- who asks

    @property
    def is_complete(self) -> bool:
        """Whether questions about letters can be answered."""
        return self.follower.is_complete

    def hold(self, again: Callable[[], None]) -> bool:
        """Calls `again` once complete, in the order of the calls. Returns False when too many wait."""
        return self.follower.hold(again)

    @property
    def is_crowded(self) -> bool:
        """Whether as many records are on their way as may."""
        return self._flying + len(self._written) >= WAITING

    def append(self, record: DeadLetterRecord, outcome: Outcome) -> None:
        """Writes a record; `outcome` is called once it is applied here, or when the log has not acknowledged it."""
        topic = record.letter.topic if isinstance(record, LetterAdded) else record.topic
        self._flying += 1
        future = self._log.append(LogName.DEAD_LETTERS, self._number, topic_key(topic), encode_letter(record))
        future.add_done_callback(partial(self._appended, outcome))

    def _appended(self, outcome: Outcome, done: "asyncio.Future[Appended]") -> None:
        self._flying -= 1
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            outcome(False if isinstance(error, LogUnavailable | RecordTooLarge) else None)
        elif done.result().offset < self.letters.next_offset:
            outcome(True)
        else:
            self._appends += 1
            heappush(self._written, (done.result().offset, self._appends, outcome))

    # -- what happens to messages

    def deleted(self, topic_id: str, epoch: int) -> None:
        """A topic was deleted: its letters go."""
        self._drop([letter for letter in self.letters.store.of_topic(topic_id) if letter.epoch == epoch])

    def redacted(self, event: Deliver, target: int) -> None:
        """A message was redacted, and with it its edits: what their receivers said of them goes."""
        if self.store.of_topic(event.topic_id):
            seqs = self._checks.with_edits(event.epoch, target)
            self._touch(self.letters.blank(event.topic_id, event.epoch, seqs))

    def checked(self, letter: DeadLetter) -> DeadLetter:
        """Returns a letter, without what a receiver said of a message that is redacted."""
        if not letter.last_error or not self._checks.is_redacted(letter):
            return letter
        self._touch(self.letters.blank(letter.topic, letter.epoch, (letter.seq,)))
        return msgspec.structs.replace(letter, last_error="")

    # -- the log

    async def follow_log(self) -> None:
        """Applies the log's records as they come, until cancelled."""
        while True:
            try:
                await self._follow()
            except (LogError, OffsetGone) as error:  # of a log that retention has cut: go on where it begins now
                if self._reminder.is_due():
                    logger.warning("dead letters cannot be read now", shard=self._number, why=str(error))
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        await self._live.wait()  # the topics of the letters are known then: each is counted in its topic's row
        letters, bounds = self.letters, await self._log.bounds(LogName.DEAD_LETTERS, self._number)
        if not letters.restored or not bounds.first <= letters.next_offset <= bounds.end:
            letters.next_offset, letters.restored = bounds.first, True
        letters.settle()
        await self.follower.follow()

    def _applied(self) -> None:
        """Some records were taken, and perhaps transaction markers passed."""
        self._expire()
        while self._written and self._written[0][0] < self.letters.next_offset:
            heappop(self._written)[2](True)

    def _take(self, records: Sequence[Record]) -> None:
        self._touch([OFFSET_KEY] if records else [])  # of the instant of what is counted: a letter is counted once
        for record in records:
            try:
                applied = self.letters.apply(record)
            except CorruptRecord as error:
                logger.warning("dead letter skipped", shard=self._number, offset=record.offset, why=str(error))
                continue
            if applied is None:
                continue
            found, changed = applied
            self._touch(changed)
            self._count_evicted()
            if isinstance(found, LetterAdded) and changed:
                self._added(found.letter, self.follower.end is not None and record.offset >= self.follower.end)
                self._check(found.letter)
            if self.listener is not None and changed and self.is_complete:
                self.listener(found)

    def _check(self, letter: DeadLetter) -> None:
        if self._checks.is_deleted(letter):
            self._drop([letter])
        else:
            self.checked(letter)

    def _count_evicted(self) -> None:
        evicted = self.letters.store.evicted
        if evicted != self._evicted:
            self._metrics.letters_evicted(evicted - self._evicted)
            self._evicted = evicted

    def _complete(self) -> None:
        for topic in self.letters.store.topics():
            self._drop([letter for letter in self.letters.store.of_topic(topic) if self._checks.is_deleted(letter)])

    def _expire(self) -> None:
        """Forgets letters that the log keeps no longer."""
        since_ms = self._time.ms() - self._log.keep_ms[LogName.DEAD_LETTERS]
        gone = self.letters.store.older(since_ms / 1_000, self._time.latest_ms() / 1_000)
        if gone:
            self._touch(self.letters.drop(gone))

    def _drop(self, letters: Sequence[DeadLetter]) -> None:
        self._touch(self.letters.drop(letter.id for letter in letters))

    def _touch(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self._writer.touch(PairKey(key))
