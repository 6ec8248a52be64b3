"""Direct topics: the talk of two users. Its id comes from the two alone, and who is in it never changes."""

from hashlib import blake2b
from typing import Final

from headgate.core.wire.control import CreateTopic, RemoveMember, SetMember, UpdateTopic
from headgate.core.wire.errors import CorruptRecord

PREFIX: Final = "dm:"
PERMISSIONS: Final = "PRIVATE"
_HASH_BYTES: Final = 20  # two pairs have the same one by chance once in 10^24 talks


def direct_topic_id(user_id: str, other_id: str) -> str:
    """Returns the id of the talk of two users, or of one with himself: the same from both sides, on every node."""
    digest = blake2b(digest_size=_HASH_BYTES)
    for name in sorted(each.encode("utf-8", "surrogatepass") for each in (user_id, other_id)):
        digest.update(len(name).to_bytes(4, "big") + name)  # with its length, so that no other pair reads the same
    return PREFIX + digest.hexdigest()


def is_direct(topic_id: str) -> bool:
    """Returns whether an id is that of a direct topic."""
    return topic_id.startswith(PREFIX)


def is_fixed(change: SetMember | RemoveMember | UpdateTopic) -> bool:
    """Returns whether a direct topic refuses a change whoever asks for it: of its members or its permissions."""
    return not isinstance(change, UpdateTopic) or change.permissions not in (None, PERMISSIONS)


def check_creation(control: CreateTopic) -> None:
    """Raises CorruptRecord where only one of the id and `peer_id` is a direct topic's, or they do not agree."""
    if control.peer_id is None:
        if is_direct(control.topic_id):
            raise CorruptRecord(f"topic {control.topic_id} is created without its second user")
        return
    if control.topic_id != direct_topic_id(control.owner_id, control.peer_id):
        raise CorruptRecord(f"topic {control.topic_id} is not the talk of the users that the record names")
    if control.permissions != PERMISSIONS:
        raise CorruptRecord(f"a direct topic is {PERMISSIONS}")
