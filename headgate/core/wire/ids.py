"""Topic keys, shards and message ids: every node computes the same ones from the same names."""

import re
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import Final

from headgate.core.wire.errors import Refusal

TOPIC_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
RESERVED_PREFIXES: Final = ("hg:", "dm:")
PRINTABLE_ASCII: Final = re.compile(r"[\x20-\x7e]{1,128}")
EPOCH_OFFSET_BITS: Final = 44
MAX_INTEGER: Final = (1 << 53) - 1  # the largest that every JSON reader takes exactly (RFC 8259 section 6)
FOREIGN_PUBLISHER: Final = "kafka"
_UUID8: Final = (0x8 << 76) | (0b10 << 62)  # version and variant
_UUID_FREE: Final = ((1 << 128) - 1) ^ (0xF << 76) ^ (0b11 << 62)
_WORDS: Final = [Struct(f"<{words}I").unpack_from for words in range(33)]  # of a topic id or user id: 128 bytes


def murmur2(data: bytes) -> int:
    """Returns Kafka's murmur2 hash of `data` as an unsigned 32-bit integer (org.apache.kafka.common.utils.Utils)."""
    length = len(data)
    words = length >> 2
    m = 0x5BD1E995
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    unpack = _WORDS[words] if words < len(_WORDS) else Struct(f"<{words}I").unpack_from
    for word in unpack(data):
        k = (word * m) & 0xFFFFFFFF
        h = ((h * m) ^ ((k ^ (k >> 24)) * m)) & 0xFFFFFFFF
    if length & 3:
        h = ((h ^ int.from_bytes(data[words << 2 :], "little")) * m) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * m) & 0xFFFFFFFF
    return h ^ (h >> 15)


def shard_of(key: bytes, shards: int) -> int:
    """Returns the shard of a topic key or user id: Kafka's Java-compatible default partitioner."""
    return (murmur2(key) & 0x7FFFFFFF) % shards


def user_shard(user_id: str, shards: int) -> int:
    """Returns the shard of a user."""
    return shard_of(user_id.encode(), shards)


def shard_of_id(message_id: bytes, shards: int) -> int:
    """Returns the shard of a message: its id begins with the hash of its topic's key."""
    return (int.from_bytes(message_id[:4], "big") & 0x7FFFFFFF) % shards


def topic_key(topic_id: str, tenant: str = "") -> bytes:
    """Returns the key of a topic in the log. A topic id has no `/`, so `tenant/topic` is unambiguous."""
    return f"{tenant}/{topic_id}".encode() if tenant else topic_id.encode()


def check_topic_id(topic_id: object, *, create: bool = False) -> str:
    """Returns a valid topic id. Raises Refusal `invalid_topic_id`; with `create` also for the reserved prefixes."""
    if not isinstance(topic_id, str) or TOPIC_ID.fullmatch(topic_id) is None:
        raise Refusal(
            "invalid_topic_id",
            "a topic id is 1 to 128 of letters, digits, '.', '_', ':' and '-', and begins with a letter or digit",
        )
    if create and topic_id.startswith(RESERVED_PREFIXES):
        raise Refusal("invalid_topic_id", "ids that begin with 'hg:' or 'dm:' belong to the server; choose another")
    return topic_id


def make_epoch(generation: int, offset: int) -> int:
    """Returns (generation << 44) | offset: below 2**53, so that it is exact in JavaScript."""
    return (generation << EPOCH_OFFSET_BITS) | offset


@lru_cache(16_384)
def _hash_of(key: bytes) -> bytes:
    """Returns the 4 bytes that the ids of a topic's messages begin with."""
    return murmur2(key).to_bytes(4, "big")


def _uuid8(prefix: bytes, rest: bytes) -> bytes:
    """Returns 16 bytes of RFC 9562 UUIDv8: `prefix`, then the 12 bytes of `rest` with version and variant set."""
    return (int.from_bytes(prefix + rest, "big") & _UUID_FREE | _UUID8).to_bytes(16, "big")


def keyed_id(key: bytes, publisher: str, client_msg_id: str) -> bytes:
    """Returns the id of a publish with a `client_msg_id`: a pure hash, so a retry anywhere has the same one."""
    user, own = publisher.encode(), client_msg_id.encode()
    lengths = len(key).to_bytes(4, "big"), len(user).to_bytes(4, "big"), len(own).to_bytes(4, "big")
    text = b"%b%b%b%b%b%b" % (lengths[0], key, lengths[1], user, lengths[2], own)
    return _uuid8(_hash_of(key), blake2b(text, digest_size=12).digest())


def random_id(key: bytes, entropy: bytes) -> bytes:
    """Returns the id of a publish without a `client_msg_id`; `entropy` is 12 random bytes."""
    return _uuid8(_hash_of(key), entropy)


def foreign_id(key: bytes, shard: int, offset: int) -> bytes:
    """Returns the id of a record of a foreign producer, from its place in the log."""
    place = shard.to_bytes(4, "big") + offset.to_bytes(8, "big")
    return _uuid8(_hash_of(key), blake2b(place, digest_size=12).digest())


def id_text(raw: bytes) -> str:
    """Returns the UUID text, lower case, of a 16-byte id."""
    h = raw.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def id_bytes(text: str) -> bytes:
    """Returns the 16 bytes of UUID text. Raises Refusal `bad_request`."""
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        raw = b""
    if len(raw) != 16 or id_text(raw) != text:
        raise Refusal("bad_request", "a message_id is UUID text in lower case")
    return raw
