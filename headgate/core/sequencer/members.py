"""A topic's members in the order of their user ids: about 110 bytes each, id included; a page costs what it holds.

A topic whose only member ever was its creator has no `Members`: a million of such topics pay nothing for it.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from headgate.core.wire.member_roles import Role

CHUNK: Final = 512  # members moved at most by one insertion
ROLES: Final = tuple(Role)  # a member's role is kept as its place here
_NUMBERS: Final = 3  # joined_seq, joined_n, joined_at


class Membership(NamedTuple):
    """A user's membership. `joined_seq` is the topic's seq at the join, `joined_n` its count of messages then.

    `joined_at` is the append time of the record in Unix milliseconds. A change of role keeps all three.
    """

    role: Role
    joined_seq: int
    joined_n: int
    joined_at: int


class _Chunk:
    """Members next to each other, as columns."""

    __slots__ = ("numbers", "roles", "users")

    def __init__(self) -> None:
        self.users: list[str] = []
        self.roles = bytearray()
        self.numbers: array[int] = array("Q")

    def at(self, index: int) -> Membership:
        numbers = self.numbers[index * _NUMBERS : (index + 1) * _NUMBERS]
        return Membership(ROLES[self.roles[index]], *numbers)

    def insert(self, index: int, user_id: str, found: Membership) -> None:
        self.users.insert(index, user_id)
        self.roles.insert(index, ROLES.index(found.role))
        self.numbers[index * _NUMBERS : index * _NUMBERS] = array("Q", found[1:])

    def delete(self, index: int) -> None:
        del self.users[index], self.roles[index], self.numbers[index * _NUMBERS : (index + 1) * _NUMBERS]

    def split(self) -> "_Chunk":
        """Moves the upper half into a chunk of its own."""
        half = len(self.users) // 2
        upper = _Chunk()
        upper.users, self.users = self.users[half:], self.users[:half]
        upper.roles, self.roles = self.roles[half:], self.roles[:half]
        upper.numbers, self.numbers = self.numbers[half * _NUMBERS :], self.numbers[: half * _NUMBERS]
        return upper


class Members:
    """The members of one topic in one epoch; `owners` counts those who are owners."""

    __slots__ = ("_chunks", "_lasts", "count", "epoch", "owners")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.count = 0
        self.owners = 0
        self._chunks: list[_Chunk] = []
        self._lasts: list[str] = []  # the greatest user id of each chunk

    def get(self, user_id: str) -> Membership | None:
        """Returns a user's membership, None for one who is no member."""
        at = bisect_left(self._lasts, user_id)
        if at == len(self._chunks):
            return None
        chunk = self._chunks[at]
        index = bisect_left(chunk.users, user_id)
        return chunk.at(index) if index < len(chunk.users) and chunk.users[index] == user_id else None

    def put(self, user_id: str, membership: Membership) -> None:
        """Makes somebody a member, or gives a member another membership."""
        at = min(bisect_left(self._lasts, user_id), max(len(self._chunks) - 1, 0))
        if not self._chunks:
            self._chunks, self._lasts = [_Chunk()], [user_id]
        chunk = self._chunks[at]
        index = bisect_left(chunk.users, user_id)
        if index < len(chunk.users) and chunk.users[index] == user_id:
            self.owners -= chunk.at(index).role is Role.OWNER
            self.count -= 1
            chunk.delete(index)
        chunk.insert(index, user_id, membership)
        self.count += 1
        self.owners += membership.role is Role.OWNER
        if len(chunk.users) > CHUNK:
            upper = chunk.split()
            self._chunks.insert(at + 1, upper)
            self._lasts.insert(at + 1, upper.users[-1])
        self._lasts[at] = chunk.users[-1]

    def remove(self, user_id: str) -> None:
        """Ends the membership of a member; nothing happens for anybody else."""
        found = self.get(user_id)
        if found is None:
            return
        at = bisect_left(self._lasts, user_id)
        chunk = self._chunks[at]
        chunk.delete(bisect_left(chunk.users, user_id))
        self.count -= 1
        self.owners -= found.role is Role.OWNER
        if chunk.users:
            self._lasts[at] = chunk.users[-1]
        else:
            del self._chunks[at], self._lasts[at]

    def above(self, after: str, limit: int) -> list[tuple[str, Membership]]:
        """Returns at most `limit` members whose ids are above `after`, ascending."""
        page: list[tuple[str, Membership]] = []
        first = bisect_right(self._lasts, after)
        for at in range(first, len(self._chunks)):
            chunk = self._chunks[at]
            begin = bisect_right(chunk.users, after) if at == first else 0
            for index in range(begin, len(chunk.users)):
                if len(page) == limit:
                    return page
                page.append((chunk.users[index], chunk.at(index)))
        return page

    def __iter__(self) -> Iterator[tuple[str, Membership]]:
        """Yields all of them, ascending. Nothing may change meanwhile."""
        for chunk in self._chunks:
            for index, user_id in enumerate(chunk.users):
                yield user_id, chunk.at(index)
