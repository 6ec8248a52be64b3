"""Records of the inbox log, as JSON an operator can read in Kafka: key = user id, value = one of these.

They are outputs of a topic's owner: each names where it comes from, and may come twice or late. Whoever reads them
keeps the newest by source, so order and repeats do not matter.
"""

from typing import Final

import msgspec

from headgate.core.wire.errors import CorruptRecord

RECORD_BYTES: Final = 4_096  # far above the longest: ids have at most 128 characters


class MembershipRecord(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="membership", omit_defaults=True):
    """A user's membership of a topic in an epoch; without `role` he is no member any longer.

    `offset` is that of the record in the topic's shard that made it so; `joined_at` is when he joined or, without a
    role, left, in Unix milliseconds.
    """

    topic_id: str
    epoch: int
    offset: int
    role: str = ""
    joined_seq: int = 0
    joined_n: int = 0
    joined_at: int = 0


InboxRecord = MembershipRecord

_decoder: msgspec.json.Decoder[InboxRecord] = msgspec.json.Decoder(InboxRecord)
_encoder = msgspec.json.Encoder()


def encode_inbox(record: InboxRecord) -> bytes:
    """Returns the value of an inbox record."""
    return _encoder.encode(record)


def decode_inbox(value: bytes | None) -> InboxRecord:
    """Reads the value of an inbox record. Raises CorruptRecord."""
    if not value or len(value) > RECORD_BYTES:
        raise CorruptRecord(f"an inbox record of {len(value or b'')} bytes, expected 1 to {RECORD_BYTES}")
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"inbox record: {error}") from None
