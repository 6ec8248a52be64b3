"""Bodies of records that change a message: an edit, a redaction, a reaction. Each takes a `seq` of its own.

Byte layout of the body, big endian:

    0                4
    | head's length | head: JSON of one of the structs | tail of the event's own frame, as in a message record |
"""

import struct
from typing import Final, NamedTuple

import msgspec

from headgate.core.wire.control import Actor
from headgate.core.wire.envelope import HEADER, MAGIC, VERSION, Kind
from headgate.core.wire.errors import CorruptRecord

HEAD_BYTES: Final = 4_096
MAX_NAMES: Final = 50  # different reactions of one message
NAME_CHARACTERS: Final = 32
_LENGTH: Final = struct.Struct(">I")


class EditMessage(msgspec.Struct, frozen=True, tag_field="op", tag="edit"):
    """Replaces the payload of message `target_seq`, which stands at `target_pos`, if it is at `version`.

    `target_pos` is offset << 10 | item of the message in the log. The owner has checked that the actor published it.
    """

    target_seq: int
    target_pos: int
    version: int
    actor: Actor


class RedactMessage(msgspec.Struct, frozen=True, tag_field="op", tag="redact"):
    """Removes the payload of a message for ever. `own` says that the actor published it; else he has to be an admin."""

    target_seq: int
    target_pos: int
    own: bool
    actor: Actor


class ReactToMessage(msgspec.Struct, frozen=True, tag_field="op", tag="react"):
    """Adds the actor's reaction `name` to a message, or takes it back (`removed`)."""

    target_seq: int
    target_pos: int
    name: str
    removed: bool
    actor: Actor


MessageChange = EditMessage | RedactMessage | ReactToMessage
_decoder: msgspec.json.Decoder[MessageChange] = msgspec.json.Decoder(MessageChange)
_encode = msgspec.json.Encoder().encode


class ChangeRecord(NamedTuple):
    """What a record of kind EVENT holds: the change, and the tail of its own frame."""

    change: MessageChange
    tail: bytes


def encode_event(change: MessageChange, tail: bytes, epoch: int, record_id: bytes, flags: int = 0) -> bytes:
    """Returns the value of an EVENT record. `tail` runs from `"message_id"` to the closing brace."""
    head = _encode(change)
    header = HEADER.pack(MAGIC, VERSION, Kind.EVENT, flags, record_id, epoch)
    return b"".join((header, _LENGTH.pack(len(head)), head, tail))


def decode_event(body: bytes) -> ChangeRecord:
    """Reads the body of an EVENT record. Raises CorruptRecord."""
    if len(body) < _LENGTH.size:
        raise CorruptRecord(f"an event of {len(body)} bytes")
    (size,) = _LENGTH.unpack_from(body)
    head, tail = body[_LENGTH.size : _LENGTH.size + size], body[_LENGTH.size + size :]
    if size > HEAD_BYTES or len(head) < size or not tail:
        raise CorruptRecord(f"an event whose head has {size} bytes, in a body of {len(body)}")
    try:
        return ChangeRecord(_decoder.decode(head), tail)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"event: {error}") from None
