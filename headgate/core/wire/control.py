"""Bodies of control records: JSON, so that an operator can read them in Kafka. `apply` decides what they do."""

from typing import Any, Final

import msgspec

from headgate.core.wire.errors import CorruptRecord

CONFIG_KEY: Final = b"hg:config"
LOGIC_KEY: Final = b"hg:logic"
PROBE_KEY: Final = b"hg:probe"
BODY_BYTES: Final = 65_536  # of a control record: what it makes must fit into a chunk of a snapshot
LOGIC: Final = 4  # the newest meaning of `apply` this code knows: 2 has members, 3 changes of messages, 4 more checks
MEMBERS_LOGIC: Final = 2  # from it on members and changes of topics mean something
MESSAGES_LOGIC: Final = 3  # from it on records of kind EVENT and direct topics mean something
CHECKS_LOGIC: Final = 4  # from it on who joins must be able to subscribe, and the actor of a deletion to administer


class Config(msgspec.Struct, frozen=True, tag_field="op", tag="config", omit_defaults=True):
    """The first record of each shard: everything `apply` depends on that is not in the record itself.

    `dedup_*` bound the duplicate window: ids with a client_msg_id leave it after `dedup_keyed_ms` of log time and
    `dedup_unkeyed_ids` newer keyed ones, in any case when `dedup_max_ids` newer ones exist; others after
    `dedup_unkeyed_ms` and `dedup_unkeyed_ids` newer unkeyed ones, in any case when twice as many exist.
    `payload_bytes` is the largest payload of a foreign producer that is taken. `logic` is the meaning of `apply` that a
    shard begins with; a Logic record raises it.
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
    logic: int = 1


class CreateTopic(msgspec.Struct, frozen=True, tag_field="op", tag="create", omit_defaults=True):
    """Creates the topic unless it exists. `settings` holds only what differs from the defaults.

    `peer_id` is the other user of a direct topic, a member of it from this record on; None in every other topic.
    """

    topic_id: str
    name: str
    permissions: str
    owner_id: str
    settings: dict[str, Any] = {}
    peer_id: str | None = None


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who makes a change. `given` are the rights of his token (`headgate.core.wire.member_roles.Right`).

    With `only` he has no others. They cannot change before the record is applied; the actor's role can, so
    `apply` looks it up.
    """

    user_id: str
    given: int = 0
    only: bool = False


class DeleteTopic(msgspec.Struct, frozen=True, tag_field="op", tag="delete", omit_defaults=True):
    """Deletes the topic whose epoch the record's header names. An ingest of an older version names no actor."""

    topic_id: str
    actor: Actor | None = None


class SetMember(msgspec.Struct, frozen=True, tag_field="op", tag="member"):
    """Makes a user a member of the topic whose epoch the header names, or changes the role of a member."""

    topic_id: str
    user_id: str
    role: str
    actor: Actor


class RemoveMember(msgspec.Struct, frozen=True, tag_field="op", tag="unmember"):
    """Ends a membership; what the topic lets anyone do the user still may."""

    topic_id: str
    user_id: str
    actor: Actor


class UpdateTopic(msgspec.Struct, frozen=True, tag_field="op", tag="update", omit_defaults=True):
    """Changes a topic at `version`; of another version it does nothing, so that no change overwrites an unseen one.

    `settings` is the whole of the topic's overrides as they are afterwards. None leaves a thing as it is.
    """

    topic_id: str
    version: int
    actor: Actor
    name: str | None = None
    permissions: str | None = None
    settings: dict[str, Any] | None = None


class Logic(msgspec.Struct, frozen=True, tag_field="op", tag="logic"):
    """From here on records mean what `level` says. Written once every dispatcher can read it, never lowered."""

    level: int


class Probe(msgspec.Struct, frozen=True, tag_field="op", tag="probe"):
    """Ignored by `apply`. Ingest appends one a second while its circuit for the shard is open."""


Control = Config | CreateTopic | DeleteTopic | SetMember | RemoveMember | UpdateTopic | Logic | Probe

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
