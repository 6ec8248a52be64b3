"""Bodies of control records: JSON, so that an operator can read them in Kafka. `apply` decides what they do."""

from typing import Any, Final

import msgspec

from headgate.core.wire.errors import CorruptRecord

CONFIG_KEY: Final = b"hg:config"
PROBE_KEY: Final = b"hg:probe"
BODY_BYTES: Final = 65_536  # of a control record: the topic it creates must fit into a chunk of a snapshot
LOGIC: Final = 1  # the newest version of the rules in `apply` that this code knows


class Config(msgspec.Struct, frozen=True, tag_field="op", tag="config", omit_defaults=True):
    """The first record of each shard: everything `apply` depends on that is not in the record itself.

    `dedup_*` bound the duplicate window: ids with a client_msg_id leave it after `dedup_keyed_ms` of log time and
    `dedup_unkeyed_ids` newer keyed ones, in any case when `dedup_max_ids` newer ones exist; others after
    `dedup_unkeyed_ms` and `dedup_unkeyed_ids` newer unkeyed ones, in any case when twice as many exist.
    `payload_bytes` is the largest payload accepted from a foreign producer.
    """

    cluster_id: str
    generation: int
    shards: int
    shard: int
    dedup_max_ids: int = 1_000_000
    dedup_keyed_ms: int = 86_400_000
    dedup_unkeyed_ms: int = 120_000
    dedup_unkeyed_ids: int = 100_000
    payload_bytes: int = 65_536


class CreateTopic(msgspec.Struct, frozen=True, tag_field="op", tag="create", omit_defaults=True):
    """Creates the topic unless it exists. `settings` holds only what differs from the defaults."""

    topic_id: str
    name: str
    permissions: str
    owner_id: str
    settings: dict[str, Any] = {}


class DeleteTopic(msgspec.Struct, frozen=True, tag_field="op", tag="delete"):
    """Deletes the topic whose epoch the record's header names."""

    topic_id: str


class Probe(msgspec.Struct, frozen=True, tag_field="op", tag="probe"):
    """Ignored by `apply`. Ingest appends one a second while its circuit for the shard is open."""


Control = Config | CreateTopic | DeleteTopic | Probe

_decoder: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)
_encoder = msgspec.json.Encoder()


def encode_body(control: Control) -> bytes:
    """Returns the JSON body of a control record."""
    return _encoder.encode(control)


def decode_body(body: bytes) -> Control:
    """Reads the JSON body of a control record. Raises CorruptRecord."""
    if len(body) > BODY_BYTES:
        raise CorruptRecord(f"a control record of {len(body)} bytes, at most {BODY_BYTES} are taken")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"control record: {error}") from None
