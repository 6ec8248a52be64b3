"""The record envelope, version 1: the bytes of a value in the message log.

Byte layout, big endian:

    0      4        5      6       8             24            32
    | magic | version | kind | flags | id (16)     | topic epoch | body ...
      ff 48 47 00

No UTF-8 text begins with the first byte, so a foreign producer's JSON is never mistaken for ours. The topic epoch is
the one that ingest knew; 0 means any epoch. Bodies:

* MESSAGE: the tail of the client's JSON frame, from `"message_id"` to the closing brace.
* BUNDLE: items of one topic, each `id (16) | flags (2) | length (4) | tail`; a position is (offset, index).
* CONTROL: JSON of one of the structs in `headgate.core.wire.control`.
* EVENT: a change of one message, `headgate.core.wire.message_changes`.
"""

import enum
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from headgate.core.wire.errors import CorruptRecord, UnknownVersion

MAGIC: Final = b"\xffHG\x00"
VERSION: Final = 1
HEADER: Final = struct.Struct(">4sBBH16sQ")
HEADER_BYTES: Final = HEADER.size
ITEM: Final = struct.Struct(">16sHI")
ITEM_BYTES: Final = ITEM.size
MAX_ITEMS: Final = 1024  # an index has ten bits in a history position; a batch has at most 1,000


class Kind(enum.IntEnum):
    """The kind of the body."""

    MESSAGE = 1
    BUNDLE = 2
    CONTROL = 3
    EVENT = 4


_MESSAGE: Final = Kind.MESSAGE  # global names are faster than Kind.MESSAGE, which every record would look up
_BUNDLE: Final = Kind.BUNDLE
KEYED: Final = 1  # flag: the id is the hash of a client_msg_id, so a client may repeat it
LOW: Final = 2  # flag: priority LOW
REPLY: Final = 8  # flag: the tail has a parent_message_id
UNMETERED: Final = 4  # flag: published by a caller without rates; of a BUNDLE in its header, for all its items
NO_ID: Final = bytes(16)
_KIND_AT: Final = 5
_FLAGS_AT: Final = 7  # the low byte of a record's flags in its value


class Item(NamedTuple):
    """One message in a record: 16-byte id, flags, and the tail of the client's frame."""

    id: bytes
    flags: int
    tail: bytes


class Envelope(NamedTuple):
    """A decoded record of ours. `items` is empty for CONTROL and EVENT, `body` for the others."""

    kind: Kind
    flags: int
    id: bytes
    epoch: int
    items: Sequence[Item]
    body: bytes


def encode_message(item: Item, epoch: int) -> bytes:
    """Returns the value of a MESSAGE record."""
    return HEADER.pack(MAGIC, VERSION, Kind.MESSAGE, item.flags, item.id, epoch) + item.tail


def encode_bundle(items: Sequence[Item], epoch: int, flags: int = 0) -> bytes:
    """Returns the value of a BUNDLE record of 1 to MAX_ITEMS messages of one topic. Raises ValueError.

    `flags` are those of the whole record: UNMETERED or none.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        raise ValueError(f"a bundle has 1 to {MAX_ITEMS} items, not {len(items)}")
    parts = [HEADER.pack(MAGIC, VERSION, Kind.BUNDLE, flags, NO_ID, epoch)]
    for item in items:
        parts.append(ITEM.pack(item.id, item.flags, len(item.tail)))
        parts.append(item.tail)
    return b"".join(parts)


def encode_control(body: bytes, epoch: int, record_id: bytes = NO_ID) -> bytes:
    """Returns the value of a CONTROL record."""
    return HEADER.pack(MAGIC, VERSION, Kind.CONTROL, 0, record_id, epoch) + body


def is_ours(value: bytes) -> bool:
    """Returns whether a value begins with the magic."""
    return value[:4] == MAGIC


def is_event(value: bytes) -> bool:
    """Returns whether a value says that it changes a message."""
    return value[:4] == MAGIC and value[_KIND_AT : _KIND_AT + 1] == bytes((Kind.EVENT,))


def is_metered(value: bytes) -> bool:
    """Returns whether the messages of a value count against their topic's rate.

    Those of callers without rates do not, nor those of foreign producers, which no ingest could slow down.
    """
    return value[:4] == MAGIC and len(value) > _FLAGS_AT and not value[_FLAGS_AT] & UNMETERED


def decode(value: bytes) -> Envelope:
    """Reads a value that begins with the magic. Raises UnknownVersion (park) or CorruptRecord (dead letter)."""
    if len(value) > 4 and value[4] != VERSION:
        raise UnknownVersion(f"record version {value[4]}, this code reads {VERSION}")
    if len(value) < HEADER_BYTES:
        raise CorruptRecord(f"header of {len(value)} bytes, expected {HEADER_BYTES}")
    _, _, kind, flags, record_id, epoch = HEADER.unpack_from(value)
    if kind == _MESSAGE:
        item = Item(record_id, flags, value[HEADER_BYTES:])
        return Envelope(_MESSAGE, flags, record_id, epoch, (item,), b"")
    if kind == _BUNDLE:
        return Envelope(_BUNDLE, flags, record_id, epoch, _items(value), b"")
    if kind == Kind.CONTROL:
        return Envelope(Kind.CONTROL, flags, record_id, epoch, (), value[HEADER_BYTES:])
    if kind == Kind.EVENT:
        return Envelope(Kind.EVENT, flags, record_id, epoch, (), value[HEADER_BYTES:])
    raise CorruptRecord(f"record kind {kind}, expected 1, 2, 3 or 4")


def _items(value: bytes) -> list[Item]:
    items: list[Item] = []
    at, end, unpack = HEADER_BYTES, len(value), ITEM.unpack_from
    while at < end:
        if end - at < ITEM_BYTES or len(items) == MAX_ITEMS:
            raise CorruptRecord(f"bundle broken at byte {at}")
        record_id, flags, length = unpack(value, at)
        at += ITEM_BYTES
        if end - at < length:
            raise CorruptRecord(f"bundle item of {length} bytes at {at} runs over the end")
        items.append(Item(record_id, flags, value[at : at + length]))
        at += length
    if not items:
        raise CorruptRecord("a bundle without items")
    return items
