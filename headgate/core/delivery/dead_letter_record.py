"""Records of the dead-letter log, as JSON an operator can read: one format for whatever was given up.

A server writes deliveries that it gave up and records that it could not use, the in-process broker its deliveries. Each
is a DeadLetter in a LetterAdded; later records say what became of it. Writers write this format only. Readers also take
what earlier releases wrote: a broker's `buried` and `removed`, and a dispatcher's records without `op`.
"""

from typing import Any, Final

import msgspec

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.ids import foreign_id, id_text, keyed_id, topic_key

NO_ATTEMPTS_LEFT: Final = "max_attempts"  # the `reason` of a delivery that failed in its last attempt

REPLAYED: Final = "replayed"  # why a letter ended: a broker delivers it again
DONE: Final = "done"  # the replay was acknowledged
PURGED: Final = "purged"
GONE: Final = "gone"  # it was being replayed, and the log has lost its message


class RefusedRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of the message log that could not be used, with its `items` messages; bytes are base64 in JSON.

    `cut`: the value was longer than what is here. That of an event is not here at all: its message may be redacted.
    """

    shard: int
    offset: int
    items: int = 1
    key: bytes = b""
    value: bytes | None = None
    cut: bool = False


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was given up: a delivery of a server (`seq` above 0), one of a broker (`subscriber`), or a `record`.

    `id` is UUID text that begins with the hash of the topic's key. `at` and `created_ts` are seconds on the clock of
    the writer: Unix time of a server. `message_id` is UUID text of a server's message, a number of a broker's. A
    server's letter has no payload: its message is read from the history. `user_id` and `device_id` are "" for a
    consumer group.
    """

    id: str
    topic: str
    reason: str
    at: float
    message_id: int | str = ""
    attempts: int = 0
    last_error: str = ""
    epoch: int = 0
    seq: int = 0
    user_id: str = ""
    device_id: str = ""
    group: str | None = None
    subscriber: str = ""
    created_ts: float = 0.0
    payload: Any = None
    key: str | None = None
    record: RefusedRecord | None = None


class LetterAdded(msgspec.Struct, frozen=True, tag_field="op", tag="added"):
    """Something was given up, or again after a replay."""

    letter: DeadLetter


class LetterReplayed(msgspec.Struct, frozen=True, tag_field="op", tag="replayed"):
    """A server delivers the message again: the letter is open no more, and ends when that was acknowledged."""

    id: str
    topic: str


class LetterEnded(msgspec.Struct, frozen=True, tag_field="op", tag="ended"):
    """A letter is gone; `why` tells the reason."""

    id: str
    topic: str
    why: str


DeadLetterRecord = LetterAdded | LetterReplayed | LetterEnded


class _BuriedLetter(msgspec.Struct):
    topic: str
    message_id: int | str
    subscriber: str
    attempts: int
    reason: str
    last_error: str
    at: float
    created_ts: float
    payload: Any
    key: str | None = None
    group: str | None = None


class _Buried(msgspec.Struct, tag_field="op", tag="buried"):
    letter: _BuriedLetter


class _Removed(msgspec.Struct, tag_field="op", tag="removed"):
    topic: str
    message_id: int | str
    subscriber: str
    why: str


class _Unusable(msgspec.Struct):
    """A dispatcher's record; `at` is Unix milliseconds."""

    shard: int
    offset: int
    items: int
    at: int
    reason: str
    detail: str
    key: bytes
    value: bytes | None
    cut: bool


_Tagged = LetterAdded | LetterReplayed | LetterEnded | _Buried | _Removed
_decoder: msgspec.json.Decoder[_Tagged] = msgspec.json.Decoder(_Tagged)
_untagged: msgspec.json.Decoder[_Unusable] = msgspec.json.Decoder(_Unusable)
_encoder = msgspec.json.Encoder()


def encode_letter(record: DeadLetterRecord) -> bytes:
    """Returns the value of a dead-letter record. Raises TypeError for a payload that JSON cannot carry."""
    return _encoder.encode(record)


def decode_letter(value: bytes | None) -> DeadLetterRecord:
    """Reads the value of a dead-letter record, of an earlier release too. Raises CorruptRecord."""
    try:
        return _present(_decoder.decode(value or b""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            return LetterAdded(_refused(_untagged.decode(value or b"")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise CorruptRecord(f"dead-letter record: {error}") from None


def _present(found: _Tagged) -> DeadLetterRecord:
    """Returns a record as it is written today."""
    if isinstance(found, _Removed):
        letter_id = broker_letter_id(found.topic, found.message_id, found.subscriber)
        return LetterEnded(letter_id, found.topic, found.why)
    if not isinstance(found, _Buried):
        return found
    old = found.letter
    letter_id = broker_letter_id(old.topic, old.message_id, old.subscriber)
    return LetterAdded(DeadLetter(id=letter_id, **msgspec.structs.asdict(old)))


def _refused(old: _Unusable) -> DeadLetter:
    record = RefusedRecord(old.shard, old.offset, old.items, old.key, old.value, old.cut)
    return refused_letter(record, old.reason, old.detail, old.at)


def refused_letter(record: RefusedRecord, reason: str, detail: str, at_ms: int) -> DeadLetter:
    """Returns the letter of a record that could not be used; `at_ms` is its append time in Unix milliseconds."""
    topic = record.key.rpartition(b"/")[2].decode(errors="replace")
    letter_id = id_text(foreign_id(record.key, record.shard, record.offset))
    return DeadLetter(id=letter_id, topic=topic, reason=reason, at=at_ms / 1_000, last_error=detail, record=record)


def broker_letter_id(topic: str, message_id: int | str, subscriber: str) -> str:
    """Returns the id of the letter of a broker's message for a subscriber."""
    return id_text(keyed_id(topic_key(topic), subscriber, str(message_id)))


def delivery_letter_id(topic_id: str, place: tuple[int, int], receiver: tuple[str, str, str]) -> str:
    """Returns the id of the letter of a server's message, at (epoch, seq), for (user id, device id, group)."""
    whom = "".join(f"{len(part)}:{part}" for part in receiver)
    return id_text(keyed_id(topic_key(topic_id), whom, f"{place[0]}:{place[1]}"))
