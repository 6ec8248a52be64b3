"""The memberships of a shard's users, by user and topic.

Of the records about a user and topic the newest by source wins. A topic that a user left stays as a row without a role:
an older record that comes late must not bring the membership back. Rows are packed, as a snapshot holds them as pairs;
their keys have no family, because no user id is empty.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from headgate.core.inbox.member_index import MemberIndex
from headgate.core.inbox.packed_rows import packed, user_topic_key, user_topic_of
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import MembershipRecord

FAMILY: Final = b""


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


class _TopicsOf(dict[str, bytes]):
    """The packed rows of one user; it has his id, so that all who name him share one string."""

    __slots__ = ("user_id",)

    def __init__(self, user_id: str) -> None:
        super().__init__()
        self.user_id = user_id


_decoder: msgspec.msgpack.Decoder[UserTopic] = msgspec.msgpack.Decoder(UserTopic)
_NOBODY: Final = _TopicsOf("")


class Memberships:
    """Rows by user and topic; the length is their number. `members` are the users with a role, by topic."""

    def __init__(self) -> None:
        self.members = MemberIndex()
        self._users: dict[str, _TopicsOf] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def merge(self, user_id: str, found: MembershipRecord) -> bytes | None:
        """Takes a membership; returns the key of its row where that changed."""
        known = self.row(user_id, found.topic_id)
        if known is not None and (known.epoch, known.offset) >= (found.epoch, found.offset):
            return None
        joined = found.joined_seq, found.joined_n, found.joined_at
        self._put(user_id, found.topic_id, UserTopic(found.epoch, found.offset, found.role, *joined))
        return pair_key(user_id, found.topic_id)

    def row(self, user_id: str, topic_id: str) -> UserTopic | None:
        """Returns a row, with or without a role; None for one that is not there."""
        value = self._users.get(user_id, _NOBODY).get(topic_id)
        return None if value is None else _decoder.decode(value)

    def topics(self, user_id: str, size: int) -> Iterator[list[str]]:
        """Yields the topics of a user's rows in no order, `size` at a time; rows may change between two of them."""
        topics = list(self._users.get(user_id, _NOBODY))
        for at in range(0, len(topics), size):
            yield topics[at : at + size]

    def size(self, user_id: str) -> int:
        """Returns how many rows a user has."""
        return len(self._users.get(user_id, _NOBODY))

    def users(self) -> list[str]:
        """Returns the users that have rows."""
        return list(self._users)

    def drop(self, user_id: str, topic_id: str) -> None:
        """Takes a row away."""
        topics = self._users.get(user_id)
        if topics is None or topics.pop(topic_id, None) is None:
            return
        self._count -= 1
        self.members.remove(topic_id, user_id)
        if not topics:
            del self._users[user_id]

    def _put(self, user_id: str, topic_id: str, row: UserTopic) -> None:
        topics = self._users.get(user_id)
        if topics is None:
            topics = self._users[user_id] = _TopicsOf(user_id)
        self._count += topic_id not in topics
        topics[topic_id] = packed(row)
        if row.role:
            self.members.add(topic_id, topics.user_id)
        else:
            self.members.remove(topic_id, user_id)

    # As pairs of a snapshot

    def places(self, size: int) -> Iterator[list[tuple[str, str]]]:
        """Yields users and topics of all rows, at most `size` at a time; anything may change between two of them."""
        each = ((user_id, topic_id) for user_id in self.users() for topic_id in list(self._users.get(user_id, _NOBODY)))
        while some := list(islice(each, size)):
            yield some

    def keys(self, size: int) -> Iterator[list[bytes]]:
        """Yields the keys of all rows, at most `size` at a time; anything may change between two of them."""
        for some in self.places(size):
            yield [pair_key(user_id, topic_id) for user_id, topic_id in some]

    def encoded(self, key: bytes) -> bytes | None:
        """Returns a row as bytes, None for one that is not there."""
        user_id, topic_id = user_topic_of(FAMILY, key)
        return self._users.get(user_id, _NOBODY).get(topic_id)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a row of a snapshot; None takes it away. Raises CorruptRecord."""
        user_id, topic_id = user_topic_of(FAMILY, key)
        if value is None:
            self.drop(user_id, topic_id)
            return
        try:
            row = _decoder.decode(value)
        except msgspec.DecodeError as error:
            raise CorruptRecord(f"the snapshot's pair of {user_id}: {error}") from None
        self._put(user_id, topic_id, row)


def pair_key(user_id: str, topic_id: str) -> bytes:
    """Returns the key of a user's topic among the pairs of a snapshot."""
    return user_topic_key(FAMILY, user_id, topic_id)
