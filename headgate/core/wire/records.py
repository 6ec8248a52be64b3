"""The values of the log port: names of logs, records, places."""

import enum
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

SLICE_RECORDS: Final = 200  # about 2 ms of applying and routing, then others have the loop
SLICE_BYTES: Final = 64 * 1024  # bundles: one of 1,000 small messages takes 12 ms


class LogName(enum.StrEnum):
    """The logs. Each has one part (in Kafka a partition) for each shard."""

    MESSAGES = "messages"
    INBOX = "inbox"
    SNAPSHOTS = "snapshots"
    OWNERSHIP = "ownership"
    DEAD_LETTERS = "dead-letters"
    REVOCATIONS = "revocations"


class Record(NamedTuple):
    """A record: `offset` in its part, `ts` its append time in Unix milliseconds, raw `key` and `value`.

    `trace` is the header `traceparent` that it carries, as it came.
    """

    offset: int
    ts: int
    key: bytes | None
    value: bytes | None
    trace: bytes | None = None


class LastRecord(NamedTuple):
    """The newest record that was taken from a part, by which the part is known again: its offset and checksum."""

    offset: int
    checksum: bytes


NO_RECORD: Final = LastRecord(-1, b"")


def last_record_of(record: Record) -> LastRecord:
    """Returns the offset of a record, and a checksum of its key and value."""
    key, value = record.key or b"", record.value or b""
    return LastRecord(record.offset, blake2b(key + b"\0" + value, digest_size=16).digest())


class Appended(NamedTuple):
    """The place of an acknowledged record: `offset`, and `ts`, its append time in Unix milliseconds."""

    offset: int
    ts: int


class Bounds(NamedTuple):
    """The bounds of a part of a log: `first` is the oldest offset kept, `end` the offset of the next append."""

    first: int
    end: int


class Batch(NamedTuple):
    """One read: `records` ascending by offset (gaps are possible), `next_offset` to read next, `end` as in Bounds.

    `stable` is the offset up to which can be read now: below `end` while a transaction is open. None: not known.
    """

    records: Sequence[Record]
    next_offset: int
    end: int
    stable: int | None = None


def slices(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cuts a read into pieces of a few milliseconds of work each."""
    start, size = 0, 0
    for at, record in enumerate(records, 1):
        size += len(record.value or b"")
        if at - start >= SLICE_RECORDS or size >= SLICE_BYTES or at == len(records):
            yield records[start:at]
            start, size = at, 0
