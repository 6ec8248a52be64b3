"""Which member of a consumer group a message is for: by its key, with rendezvous hashing.

Every owner computes the same. A member that comes or goes changes the member of those keys only that it gets or had.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

_PLACE: Final = re.compile(
    rb'"message_id":("[^"]*")(?:,"publisher_id":"(?:[^"\\]|\\.)*"(?:,"key":("(?:[^"\\]|\\.)+"))?)?'
)
_MIX: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def key_in(frame: bytes) -> bytes:
    """Returns the key of a message as JSON text, its `message_id` where it has none, b"" of a frame with neither.

    The frame is not parsed: all before the payload is the server's.
    """
    found = _PLACE.search(frame)
    return b"" if found is None else found[2] or found[1]


def hash_of(data: bytes) -> int:
    """Returns the number of a key, or of a member's name: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def member_of(key: int, members: Iterable[tuple[int, str]]) -> str | None:
    """Returns the member for the number of a key; `members` are (number, name). None where there is none."""
    best, found = -1, None
    for number, name in members:
        mixed = (key ^ number) * _MIX & _MASK
        mixed = (mixed ^ mixed >> 29) * _MIX & _MASK
        if mixed > best:
            best, found = mixed, name
    return found
