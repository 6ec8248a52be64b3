"""The users of a shard, their topics and cursors, built from the inbox log; merge-only: any order gives the same.

Of the records about a user and topic the newest by source wins.

A topic that a user left stays as a mark without a role: an older record that comes late must not bring the membership
back. `expire` ends the marks that are so old that none comes any more.
"""

from collections.abc import Iterator
from heapq import nsmallest
from typing import Final

import msgspec

from headgate.core.inbox.cursors import FAMILY, DeviceCursors, Expiry, IsHeld
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import CursorsRecord, MembershipRecord, decode_inbox
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import Record

SLICE_USERS: Final = 2_000  # a few milliseconds
SEPARATOR: Final = b"\0"  # between user id and topic id in a pair's key: neither has it


class UserTopic(msgspec.Struct, array_like=True, gc=False):
    """A topic of a user: his membership as the record at `offset` of the topic's shard made it.

    With `role` "" he left, at `joined_at` (Unix milliseconds).
    """

    epoch: int
    offset: int
    role: str
    joined_seq: int
    joined_n: int
    joined_at: int


_ROLES: Final = {str(role): str(role) for role in Role}
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[UserTopic] = msgspec.msgpack.Decoder(UserTopic)


class UserTopics:
    """Topics by user, and cursors. `next_offset` is that of the inbox log up to which everything was applied.

    `changes` counts the records that changed something, and the marks and cursors that ended.
    """

    def __init__(self) -> None:
        self.next_offset = 0
        self.changes = 0
        self.cursors = DeviceCursors()
        self._users: dict[str, dict[str, UserTopic]] = {}

    def apply(self, record: Record) -> list[bytes]:
        """Takes one record of the inbox log and returns the keys of the pairs that changed.

        Raises CorruptRecord; the offset is passed all the same.
        """
        self.next_offset = max(self.next_offset, record.offset + 1)
        found = decode_inbox(record.value)
        if isinstance(found, CursorsRecord):
            self.changes += 1
            return [self.cursors.merge(entry, record.ts) for entry in found.cursors]
        try:
            user_id = (record.key or b"").decode()
        except UnicodeDecodeError:
            raise CorruptRecord("the key of an inbox record is a user id in UTF-8") from None
        if not user_id or SEPARATOR in (record.key or b"") or "\0" in found.topic_id:
            raise CorruptRecord("the key of an inbox record is a user id")
        return self._merge(user_id, found)

    def _merge(self, user_id: str, found: MembershipRecord) -> list[bytes]:
        topics = self._users.setdefault(user_id, {})
        known = topics.get(found.topic_id)
        if known is not None and (known.epoch, known.offset) >= (found.epoch, found.offset):
            return []
        topics[found.topic_id] = UserTopic(
            found.epoch, found.offset, _shared(found.role), found.joined_seq, found.joined_n, found.joined_at
        )
        self.changes += 1
        return [pair_key(user_id, found.topic_id)]

    def membership(self, user_id: str, topic_id: str) -> UserTopic | None:
        """Returns the user's membership of a topic, None where he is no member."""
        topic = self._users.get(user_id, {}).get(topic_id)
        return topic if topic is not None and topic.role else None

    def count(self, user_id: str) -> int:
        """Returns of how many topics the user is a member."""
        return sum(topic.role != "" for topic in self._users.get(user_id, {}).values())

    def topics_of(self, user_id: str, after: str, limit: int) -> list[tuple[str, UserTopic]]:
        """Returns at most `limit` topics of which the user is a member, ids above `after`, ascending."""
        topics = self._users.get(user_id, {})
        found = nsmallest(limit, (topic_id for topic_id, topic in topics.items() if topic_id > after and topic.role))
        return [(topic_id, topics[topic_id]) for topic_id in found]

    def expire(self, before_ms: int) -> Iterator[list[bytes]]:
        """Forgets marks of topics that were left before a time; yields the keys a slice of users at a time."""
        users = list(self._users)
        for at in range(0, len(users), SLICE_USERS):
            gone = [
                pair_key(user_id, topic_id)
                for user_id in users[at : at + SLICE_USERS]
                for topic_id, topic in self._users.get(user_id, {}).items()
                if not topic.role and topic.joined_at < before_ms
            ]
            for key in gone:
                self.load(key, None)
            self.changes += len(gone)
            yield gone

    def expire_cursors(self, now_ms: int, keep_ms: int, is_held: IsHeld) -> Iterator[list[bytes]]:
        """Forgets cursors as `Expiry` says; yields the keys of what changed, a slice at a time."""
        for gone in self.cursors.expire(Expiry(now_ms, keep_ms, self._epoch_of, is_held)):
            self.changes += len(gone)
            yield gone

    def _epoch_of(self, user_id: str, topic_id: str) -> int:
        topic = self.membership(user_id, topic_id)
        return 0 if topic is None else topic.epoch

    # As pairs of a snapshot

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields the keys of all pairs, at most `size` at a time; anything may change between two of them."""
        yield from self.cursors.keys(size)
        some: list[bytes] = []
        for user_id in list(self._users):
            some += [pair_key(user_id, topic_id) for topic_id in self._users.get(user_id, ())]
            while len(some) >= size:
                yield some[:size]
                del some[:size]
        yield some

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a pair's value, None for one that is not there."""
        if key.startswith(FAMILY):
            return self.cursors.encoded(key)
        user_id, topic_id = _ids_of(key)
        topic = self._users.get(user_id, {}).get(topic_id)
        return None if topic is None else _encoder.encode(topic)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a pair of a snapshot; None takes it away. Raises CorruptRecord."""
        if key.startswith(FAMILY):
            self.cursors.load(key, value)
            return
        user_id, topic_id = _ids_of(key)
        if value is None:
            topics = self._users.get(user_id, {})
            topics.pop(topic_id, None)
            if not topics:
                self._users.pop(user_id, None)
            return
        try:
            topic = _decoder.decode(value)
            topic.role = _shared(topic.role)
            self._users.setdefault(user_id, {})[topic_id] = topic
        except msgspec.DecodeError as error:
            raise CorruptRecord(f"the snapshot's pair of {user_id}: {error}") from None


def _shared(role: str) -> str:
    """Returns a role as the one string that all memberships share."""
    return _ROLES.get(role, role)


def pair_key(user_id: str, topic_id: str) -> bytes:
    """Returns the key of a user's topic among the pairs of a snapshot."""
    return b"%b\0%b" % (user_id.encode(), topic_id.encode())


def _ids_of(key: bytes) -> tuple[str, str]:
    user_id, _, topic_id = key.partition(SEPARATOR)
    return user_id.decode(), topic_id.decode()
