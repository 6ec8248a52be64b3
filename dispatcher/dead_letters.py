"""Writes the dead letters of a shard, and tells when they are in the log.

They are those of records that could not be used. Deliveries that were given up are written by `letter_log.py`, in the
same format.

No dead letter is dropped because many wait. Instead the shard reads no further while too much waits (`room`), and a
snapshot waits for the letters before it (`safe`). Records are kept as they are and are turned into letters, a few at a
time, when they are handed to the log. The letter of an event has no value: its message may be redacted, the letter not.
"""

import asyncio
from collections import OrderedDict
from typing import Final, NamedTuple

import structlog

from headgate.core.delivery.dead_letter_record import LetterAdded, RefusedRecord, encode_letter, refused_letter
from headgate.core.sequencer.effects import Unusable
from headgate.core.wire.envelope import is_event
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.ports import Log, LogError, RecordTooLarge

logger = structlog.get_logger("dispatcher")

KEY_BYTES: Final = 256
VALUE_BYTES: Final = 512 * 1024  # of the record; a letter has `cut` where the value was longer
RETRY_S: Final = 1.0
WAITING_BYTES: Final = 8 << 20  # of records whose letters are not in the log yet; at it the shard reads no further
WAITING_LETTERS: Final = 10_000
FLYING_BYTES: Final = 1 << 20  # handed to the log and not acknowledged: letters are a third larger than records
SLICE_BYTES: Final = 256 * 1024  # made into letters in one loop turn: about a millisecond


class _Waiting(NamedTuple):
    """A record that was refused, and why."""

    record: Record
    letter: Unusable

    @property
    def size(self) -> int:
        return KEY_BYTES + min(len(self.record.value or b""), VALUE_BYTES)


class DeadLetters:
    """The dead letters of one shard, one a record. After a crash one may be written again, with the same `id`."""

    def __init__(self, log: Log, number: int) -> None:
        self._log = log
        self._number = number
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()  # by offset, until the log has them
        self._bytes = 0
        self._queue: OrderedDict[int, None] = OrderedDict()  # of those, the offsets to hand to the log
        self._flying = 0  # bytes
        self._timer: asyncio.Handle | None = None
        self._closed = False
        self._moved = asyncio.Event()

    def add(self, record: Record, letter: Unusable) -> None:
        """Adds a refused record; its letter is written later, from the event loop."""
        waiting = _Waiting(record, letter)
        self._waiting[record.offset] = waiting
        self._bytes += waiting.size
        self._queue[record.offset] = None
        if self._timer is None and not self._flying:
            self._timer = asyncio.get_running_loop().call_soon(self._write)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no further records should be read."""
        return self._bytes >= WAITING_BYTES or len(self._waiting) >= WAITING_LETTERS

    async def room(self) -> None:
        """Waits while `is_full`."""
        while self.is_full:
            await self._change()

    async def safe(self) -> None:
        """Waits until the letters of all records so far are in the log: no snapshot may end behind a missing letter."""
        if not self._waiting:
            return
        last = next(reversed(self._waiting))
        while self._waiting and next(iter(self._waiting)) <= last:
            await self._change()

    def close(self) -> None:
        """Writes no more: the shard's next owner makes again what is not in the log."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    async def _change(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _write(self) -> None:
        """Hands letters to the log: at most SLICE_BYTES a turn and FLYING_BYTES at once."""
        self._timer = None
        written = 0
        while self._queue and self._flying < FLYING_BYTES:
            if written >= SLICE_BYTES:
                self._timer = asyncio.get_running_loop().call_soon(self._write)
                return
            offset, _ = self._queue.popitem(last=False)
            waiting = self._waiting[offset]
            written += waiting.size
            self._flying += waiting.size
            key = (waiting.record.key or b"")[:KEY_BYTES]
            future = self._log.append(LogName.DEAD_LETTERS, self._number, key, self._encode(waiting))
            future.add_done_callback(lambda done, waiting=waiting: self._done(waiting, done))  # type: ignore[misc]

    def _encode(self, waiting: _Waiting) -> bytes:
        record, letter = waiting
        value = record.value
        shown = None if value is None or is_event(value) else value[:VALUE_BYTES]
        refused = RefusedRecord(
            shard=self._number,
            offset=record.offset,
            items=letter.items,
            key=(record.key or b"")[:KEY_BYTES],
            value=shown,
            cut=value is not None and len(value) > len(shown or b""),
        )
        return encode_letter(LetterAdded(refused_letter(refused, letter.reason, letter.detail, record.ts)))

    def _done(self, waiting: _Waiting, done: "asyncio.Future[Appended]") -> None:
        self._flying -= waiting.size
        offset = waiting.record.offset
        error = None if done.cancelled() else done.exception()
        if isinstance(error, RecordTooLarge) or not (done.cancelled() or isinstance(error, LogError)):
            if error is not None:  # it would fail for ever, and stop every snapshot
                logger.error("a dead letter cannot be written", shard=self._number, offset=offset, why=str(error))
            del self._waiting[offset]
            self._bytes -= waiting.size
            self._moved.set()
            self._continue(0.0)
            return
        self._queue[offset] = None
        self._queue.move_to_end(offset, last=False)
        self._continue(RETRY_S)

    def _continue(self, delay_s: float) -> None:
        """Continues after `delay_s` seconds: 0, or more when the log has just refused."""
        if self._timer is None and self._queue and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay_s, self._write) if delay_s else loop.call_soon(self._write)
