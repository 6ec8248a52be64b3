"""Bodies of records that change a message: an edit, a redaction, a reaction. Each takes a `seq` of its own.

Byte layout of the body, big endian:

    0                4
    | head's length | head: JSON of one of the structs | tail of the event's own frame, as in a message record |

The tail is exactly what `event_tail` makes: id and actor of the event, its payload (the new one of an edit, else null),
then what it does to which message. A record whose tail and head say different things is a dead letter.
"""

import re
import struct
from typing import Final, NamedTuple

import msgspec

from headgate.core.wire.control import Actor
from headgate.core.wire.envelope import HEADER, MAGIC, VERSION, Kind
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.ids import id_text
from headgate.core.wire.payload import read_foreign

HEAD_BYTES: Final = 4_096
MAX_NAMES: Final = 50  # different reactions of one message
NAME_CHARACTERS: Final = 32
NO_PAYLOAD: Final = b"null"
_LENGTH: Final = struct.Struct(">I")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,32}")


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


def is_reaction_name(name: str) -> bool:
    """Returns whether a text may be the name of a reaction: 1 to NAME_CHARACTERS characters, none of them a control."""
    return _NAME.fullmatch(name) is not None


def event_tail(record_id: bytes, change: MessageChange, payload: bytes = NO_PAYLOAD) -> bytes:
    """Returns the tail of an event's frame, from `"message_id"` to the closing brace; `payload` is that of an edit.

    The `version` of an edit is the one that the message has after it.
    """
    return _tail_begin(record_id, change) + payload + _tail_end(change)


def encode_event(change: MessageChange, tail: bytes, epoch: int, record_id: bytes, flags: int = 0) -> bytes:
    """Returns the value of an EVENT record; `tail` is from `event_tail`.

    `flags` is KEYED where `record_id` is the hash of an idempotency key, so that a client may repeat it.
    """
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


def check_event(record_id: bytes, record: ChangeRecord) -> None:
    """Raises CorruptRecord unless head and tail of an event agree, and what it names is within the bounds."""
    change, tail = record
    if isinstance(change, ReactToMessage) and not is_reaction_name(change.name):
        raise CorruptRecord(f"a reaction has 1 to {NAME_CHARACTERS} characters without control characters")
    begin, end = _tail_begin(record_id, change), _tail_end(change)
    if not tail.startswith(begin) or not tail.endswith(end) or len(begin) + len(end) >= len(tail):
        raise CorruptRecord("the tail of an event does not say what its head says")
    payload = tail[len(begin) : -len(end)]
    if isinstance(change, EditMessage):
        _check_payload(payload)
    elif payload != NO_PAYLOAD:
        raise CorruptRecord("only an edit has a payload")


def _check_payload(payload: bytes) -> None:
    try:
        if read_foreign(payload, len(payload)) != payload:
            raise CorruptRecord("the payload of an edit has whitespace between its tokens")
    except ValueError as error:
        raise CorruptRecord(f"the payload of an edit: {error}") from None


def _tail_begin(record_id: bytes, change: MessageChange) -> bytes:
    publisher = _encode(change.actor.user_id)
    return b'"message_id":"%b","publisher_id":%b,"payload":' % (id_text(record_id).encode(), publisher)


def _tail_end(change: MessageChange) -> bytes:
    if isinstance(change, EditMessage):
        return b',"kind":"edit","target_seq":%d,"version":%d}' % (change.target_seq, change.version + 1)
    if isinstance(change, RedactMessage):
        return b',"kind":"redact","target_seq":%d}' % change.target_seq
    removed = b"true" if change.removed else b"false"
    name = _encode(change.name)
    return b',"kind":"reaction","target_seq":%d,"name":%b,"removed":%b}' % (change.target_seq, name, removed)
