"""Writes a shard's dead letters and knows when they are safe; knows nothing of why a record died."""

import asyncio
import base64

import msgspec

from headgate.core.apply import Bury
from headgate.core.records import Appended, LogName, Record
from headgate.runtime.ports import Log, LogError, RecordTooLarge

KEY_BYTES = 256
VALUE_BYTES = 512 * 1024  # of the dead record; the letter says when it was cut
RETRY_S = 1.0
PENDING = 10_000  # letters waiting for the log; above, new ones are only counted

_encoder = msgspec.json.Encoder()


class Graveyard:
    """Dead letters of one shard. A replay after a crash writes one again under the same `id`: readers keep one."""

    def __init__(self, log: Log, number: int) -> None:
        self._log = log
        self._number = number
        self._waiting: dict[bytes, asyncio.Future[Appended]] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def bury(self, record: Record, bury: Bury) -> None:
        """Appends one letter."""
        value = record.value or b""
        letter = {
            "id": f"{self._number}:{record.offset}:{bury.item}",
            "shard": self._number,
            "offset": record.offset,
            "item": bury.item,
            "at": record.ts,
            "reason": bury.reason,
            "detail": bury.detail,
            "key": base64.b64encode((record.key or b"")[:KEY_BYTES]).decode(),
            "value": None if record.value is None else base64.b64encode(value[:VALUE_BYTES]).decode(),
            "cut": len(value) > VALUE_BYTES,
        }
        if len(self._waiting) < PENDING:
            self._append(record.key, _encoder.encode(letter))

    def _append(self, key: bytes | None, letter: bytes) -> None:
        if letter in self._waiting:
            return
        future = self._log.append(LogName.DEAD_LETTERS, self._number, (key or b"")[:KEY_BYTES], letter)
        self._waiting[letter] = future
        self._empty.clear()
        future.add_done_callback(lambda done: self._done(key, letter, done))

    def _done(self, key: bytes | None, letter: bytes, done: "asyncio.Future[Appended]") -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, LogError) and not isinstance(error, RecordTooLarge):
            loop = asyncio.get_running_loop()
            loop.call_later(RETRY_S, self._again, key, letter)
            return
        self._waiting.pop(letter, None)
        if not self._waiting:
            self._empty.set()

    def _again(self, key: bytes | None, letter: bytes) -> None:
        if self._waiting.pop(letter, None) is not None:
            self._append(key, letter)

    async def safe(self) -> None:
        """Waits until every letter so far is in the log: a snapshot must not pass one that is not."""
        await self._empty.wait()
