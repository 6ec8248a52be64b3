"""The broker's messages and dead letters in a log, through the log port.

A message is an ordinary record of the message log (`headgate/core/wire/envelope.py`): its key is the topic, its body
the members of a client's frame. So a server on the same log can read a broker's messages, and a broker can replay
messages of a server or of any Kafka producer.

The dead-letter log has one format for all who write to it (`headgate/core/delivery/dead_letter_record.py`). A broker
skips the letters of a server.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple

import msgspec

from headgate.broker.message import NewMessage
from headgate.core.delivery.dead_letter_record import DeadLetterRecord, LetterAdded, decode_letter, encode_letter
from headgate.core.wire.envelope import KEYED, Item, Kind, decode, encode_message, is_ours
from headgate.core.wire.errors import CorruptRecord, UnknownVersion
from headgate.core.wire.ids import id_text, keyed_id, random_id, shard_of, topic_key
from headgate.core.wire.records import Appended, Batch, LogName, Record
from headgate.runtime.ports import Log, LogUnavailable

DEDUP_KEYS: Final = 100_000  # of a shard: records that are read at the start, keys that a replay remembers
_READ_RECORDS: Final = 500  # of one read: keeps the loop responsive during a replay
_READ_WAIT_S: Final = 5.0  # the records exist already, so a log without an answer is unavailable
_log = logging.getLogger("headgate.broker")


class JournalBody(msgspec.Struct, omit_defaults=True):
    """The body of a broker's message: members of a frame. Other members are ignored when it is read."""

    message_id: str
    payload: Any
    key: str | None = None
    dedup_key: str | None = None
    trace: str | None = None


class StoredMessage(NamedTuple):
    """A message that was read from the log; `ts` is its append time in Unix milliseconds."""

    topic: str
    offset: int
    ts: int
    message: NewMessage


class Journal:
    """Writes to the log and reads it back. Each append is acknowledged by the log, or its future fails."""

    def __init__(self, log: Log, entropy: Callable[[int], bytes], keep_records: int | None) -> None:
        self.log = log
        self.errors = 0  # the number of dead-letter records that the log did not take
        self._entropy = entropy
        self._keep_records = keep_records
        self._encode = msgspec.json.Encoder().encode
        self._trimmed: dict[int, int] = {}

    def append(self, topic: str, message: NewMessage) -> "asyncio.Future[Appended]":
        """Appends a message; see the port. Raises TypeError for a payload that JSON cannot carry."""
        key = topic_key(topic)
        keyed = message.dedup_key is not None
        raw = (
            keyed_id(key, "", message.dedup_key) if message.dedup_key is not None else random_id(key, self._entropy(12))
        )
        tail = self._encode(JournalBody(id_text(raw), message.payload, message.key, message.dedup_key, message.trace))[
            1:
        ]
        value = encode_message(Item(raw, KEYED if keyed else 0, tail), 0)
        return self.log.append(LogName.MESSAGES, self._shard(topic), key, value)

    def append_dead_letter(self, record: DeadLetterRecord) -> None:
        """Appends a change of the dead-letter store. A failure is logged and counted in `errors`."""
        topic = record.letter.topic if isinstance(record, LetterAdded) else record.topic
        future = self.log.append(LogName.DEAD_LETTERS, self._shard(topic), topic_key(topic), encode_letter(record))
        future.add_done_callback(self._dead_letter_appended)

    async def dead_letters(self) -> AsyncIterator[DeadLetterRecord]:
        """Yields the changes of the dead-letter store, and skips the letters of a server."""
        for shard in range(self.log.shards):
            async for record in self._records(LogName.DEAD_LETTERS, shard, None):
                try:
                    found = decode_letter(record.value)
                except CorruptRecord:
                    continue
                if not isinstance(found, LetterAdded) or found.letter.subscriber:
                    yield found

    async def messages(self, topic: str, since: int | None) -> AsyncIterator[StoredMessage]:
        """Yields a topic's messages from offset `since` (None: the oldest) to the end at the time of the call.

        A second record with the same dedup key is skipped: two publishers at the same moment can write one. Raises
        OffsetGone when the log no longer has `since`, and LogUnavailable.
        """
        key = topic_key(topic)
        used: OrderedDict[str, None] = OrderedDict()
        async for record in self._records(LogName.MESSAGES, self._shard(topic), since):
            for stored in read_record(topic, record) if record.key == key else ():
                if _is_first(stored.message.dedup_key, used):
                    yield stored

    async def keyed_messages(self) -> AsyncIterator[StoredMessage]:
        """Yields the messages with a dedup key among the newest DEDUP_KEYS records of each shard."""
        for shard in range(self.log.shards):
            bounds = await self.log.bounds(LogName.MESSAGES, shard)
            async for record in self._records(LogName.MESSAGES, shard, max(bounds.first, bounds.end - DEDUP_KEYS)):
                for stored in _keyed_of(record):
                    yield stored

    def needs_trim(self, topic: str, offset: int) -> bool:
        """Returns whether a topic's shard has grown a tenth beyond `keep_records` since the last trim."""
        keep = self._keep_records
        if keep is None:
            return False
        last = self._trimmed.setdefault(self._shard(topic), offset - keep)
        return offset - last > keep + keep // 10

    async def trim(self, topic: str, offset: int) -> None:
        """Deletes the messages of a topic's shard but the newest `keep_records`. A failure is left to a later call."""
        shard, first = self._shard(topic), offset - (self._keep_records or 0)
        self._trimmed[shard] = first
        try:
            await self.log.truncate_before(LogName.MESSAGES, shard, first)
        except LogUnavailable as error:
            _log.warning("messages before %d are still in the log: %s", first, error)

    def _shard(self, topic: str) -> int:
        return shard_of(topic_key(topic), self.log.shards)

    def _dead_letter_appended(self, future: "asyncio.Future[Appended]") -> None:
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


def read_record(topic: str, record: Record) -> list[StoredMessage]:
    """Returns the messages of a record: one, several (a bundle), or none (a control or unreadable record)."""
    value = record.value or b""
    try:
        if not is_ours(value):
            return [StoredMessage(topic, record.offset, record.ts, NewMessage(msgspec.json.decode(value)))]
        envelope = decode(value)
        items = () if envelope.kind is Kind.CONTROL else envelope.items
        bodies = [msgspec.json.decode(b"{" + item.tail, type=JournalBody) for item in items]
    except (CorruptRecord, UnknownVersion, msgspec.DecodeError):
        return []
    return [
        StoredMessage(topic, record.offset, record.ts, NewMessage(b.payload, b.key, b.dedup_key, b.trace))
        for b in bodies
    ]


def _before(end: int, batch: Batch) -> list[Record]:
    return [record for record in batch.records if record.offset < end]


def _keyed_of(record: Record) -> list[StoredMessage]:
    topic = (record.key or b"").decode(errors="replace")
    return [stored for stored in read_record(topic, record) if stored.message.dedup_key is not None]


def _is_first(dedup_key: str | None, used: OrderedDict[str, None]) -> bool:
    if dedup_key is None:
        return True
    if dedup_key in used:
        return False
    used[dedup_key] = None
    if len(used) > DEDUP_KEYS:
        used.popitem(last=False)
    return True
