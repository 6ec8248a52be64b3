"""Messages and dead letters in the project's log, through its port; knows neither queues nor which adapter it is.

A message is an ordinary record of the message log (`headgate.core.wire.envelope`): key = topic, body = the tail of a
client's frame. So a server on the same log can read what a broker wrote, and a broker can replay what a server or any
Kafka producer wrote. A dead letter is a JSON record of the dead-letter log: `headgate.core.delivery.dead_letters`.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple

import msgspec

from headgate.broker.message import Draft
from headgate.core.delivery.dead_letters import DeadLetterRecord, Removed
from headgate.core.wire.envelope import KEYED, Item, Kind, decode, encode_message, is_ours
from headgate.core.wire.errors import CorruptRecord, UnknownVersion
from headgate.core.wire.ids import id_text, keyed_id, random_id, shard_of, topic_key
from headgate.core.wire.records import Appended, Batch, LogName, Record
from headgate.runtime.ports import Log, LogUnavailable

DEDUP_KEYS: Final = 100_000  # of a shard: those read at the start, those remembered in a replay
_READ_RECORDS: Final = 500  # a slice of a replay: keeps the loop responsive
_READ_WAIT_S: Final = 5.0  # the records asked for are already there, so a log that waits is away
_log = logging.getLogger("headgate.broker")


class JournalBody(msgspec.Struct, omit_defaults=True):
    """The tail of a frame as a broker writes it; other members are ignored on reading."""

    message_id: str
    payload: Any
    key: str | None = None
    dedup_key: str | None = None
    trace: str | None = None


class Stored(NamedTuple):
    """A message as read back; `ts` is its append time in Unix milliseconds."""

    topic: str
    offset: int
    ts: int
    draft: Draft


class Journal:
    """Writes behind nobody's back: an append is acknowledged by the log, or its future fails."""

    def __init__(self, log: Log, entropy: Callable[[int], bytes], keep_records: int | None) -> None:
        self.log = log
        self.errors = 0  # dead-letter records that the log did not take
        self._entropy = entropy
        self._keep_records = keep_records
        self._encode = msgspec.json.Encoder().encode
        self._decode_letter = msgspec.json.Decoder(DeadLetterRecord).decode
        self._trimmed: dict[int, int] = {}

    def append(self, topic: str, draft: Draft) -> "asyncio.Future[Appended]":
        """Hands a message over; see the port. Raises TypeError for a payload that JSON cannot carry."""
        key = topic_key(topic)
        keyed = draft.dedup_key is not None
        raw = keyed_id(key, "", draft.dedup_key) if draft.dedup_key is not None else random_id(key, self._entropy(12))
        tail = self._encode(JournalBody(id_text(raw), draft.payload, draft.key, draft.dedup_key, draft.trace))[1:]
        value = encode_message(Item(raw, KEYED if keyed else 0, tail), 0)
        return self.log.append(LogName.MESSAGES, self._shard(topic), key, value)

    def note(self, record: DeadLetterRecord) -> None:
        """Writes a change of the dead-letter store."""
        topic = record.topic if isinstance(record, Removed) else record.letter.topic
        future = self.log.append(LogName.DEAD_LETTERS, self._shard(topic), topic_key(topic), self._encode(record))
        future.add_done_callback(self._noted)

    async def dead_letters(self) -> AsyncIterator[DeadLetterRecord]:
        """Yields what was noted; records of others in this log are passed over."""
        for shard in range(self.log.shards):
            async for record in self._records(LogName.DEAD_LETTERS, shard, None):
                try:
                    yield self._decode_letter(record.value or b"")
                except msgspec.DecodeError:
                    continue

    async def messages(self, topic: str, since: int | None) -> AsyncIterator[Stored]:
        """Yields a topic's messages from offset `since` (None: all that is kept) to the end at the time of the call.

        A second record with the same dedup key, which two quick publishers can write, is passed over.

        Raises OffsetGone where `since` is older than what is kept, and LogUnavailable.
        """
        key = topic_key(topic)
        used: OrderedDict[str, None] = OrderedDict()
        async for record in self._records(LogName.MESSAGES, self._shard(topic), since):
            for stored in read_record(topic, record) if record.key == key else ():
                if _is_first(stored.draft.dedup_key, used):
                    yield stored

    async def keyed(self) -> AsyncIterator[Stored]:
        """Yields messages with a dedup key among the newest DEDUP_KEYS records of each shard."""
        for shard in range(self.log.shards):
            bounds = await self.log.bounds(LogName.MESSAGES, shard)
            async for record in self._records(LogName.MESSAGES, shard, max(bounds.first, bounds.end - DEDUP_KEYS)):
                for stored in _keyed_of(record):
                    yield stored

    def needs_trim(self, topic: str, offset: int) -> bool:
        """Says whether a shard has grown a tenth beyond `keep_records` since it was last cut."""
        keep = self._keep_records
        if keep is None:
            return False
        last = self._trimmed.setdefault(self._shard(topic), offset - keep)
        return offset - last > keep + keep // 10

    async def trim(self, topic: str, offset: int) -> None:
        """Forgets a shard's messages but the newest `keep_records`; tried again later where the log is away."""
        shard, first = self._shard(topic), offset - (self._keep_records or 0)
        self._trimmed[shard] = first
        try:
            await self.log.truncate_before(LogName.MESSAGES, shard, first)
        except LogUnavailable as error:
            _log.warning("messages before %d are still in the log: %s", first, error)

    def _shard(self, topic: str) -> int:
        return shard_of(topic_key(topic), self.log.shards)

    def _noted(self, future: "asyncio.Future[Appended]") -> None:
        if not future.cancelled() and future.exception() is not None:
            self.errors += 1
            _log.error("a dead letter is in memory only: %s", future.exception())

    async def _records(self, log: LogName, shard: int, since: int | None) -> AsyncIterator[Record]:
        bounds = await self.log.bounds(log, shard)
        at = bounds.first if since is None else since
        if at >= bounds.end:
            return
        reader = await self.log.reader(log, shard, at)
        try:
            while at < bounds.end:
                batch = await reader.read(_READ_RECORDS, _READ_WAIT_S)
                if batch.next_offset == at:
                    raise LogUnavailable(f"{self.log.address} did not answer within {_READ_WAIT_S} s")
                for record in _before(bounds.end, batch):
                    yield record
                at = batch.next_offset
        finally:
            await reader.close()


def read_record(topic: str, record: Record) -> list[Stored]:
    """Returns the messages of a record: one, several (a bundle), or none (control records, what cannot be read)."""
    value = record.value or b""
    try:
        if not is_ours(value):
            return [Stored(topic, record.offset, record.ts, Draft(msgspec.json.decode(value)))]
        envelope = decode(value)
        items = () if envelope.kind is Kind.CONTROL else envelope.items
        bodies = [msgspec.json.decode(b"{" + item.tail, type=JournalBody) for item in items]
    except (CorruptRecord, UnknownVersion, msgspec.DecodeError):
        return []
    return [Stored(topic, record.offset, record.ts, Draft(b.payload, b.key, b.dedup_key, b.trace)) for b in bodies]


def _before(end: int, batch: Batch) -> list[Record]:
    return [record for record in batch.records if record.offset < end]


def _keyed_of(record: Record) -> list[Stored]:
    topic = (record.key or b"").decode(errors="replace")
    return [stored for stored in read_record(topic, record) if stored.draft.dedup_key is not None]


def _is_first(dedup_key: str | None, used: OrderedDict[str, None]) -> bool:
    if dedup_key is None:
        return True
    if dedup_key in used:
        return False
    used[dedup_key] = None
    if len(used) > DEDUP_KEYS:
        used.popitem(last=False)
    return True
