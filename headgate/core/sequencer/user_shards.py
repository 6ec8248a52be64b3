"""The shards in which the members of a topic are: to these its pointers go.

Exact for topics of at most EXACT_MEMBERS. The members of a larger one are in nearly all shards anyway.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from headgate.core.sequencer.members import Members
from headgate.core.sequencer.rows import Row
from headgate.core.wire.ids import user_shard

EXACT_MEMBERS: Final = 1_000
KEPT_TOPICS: Final = 10_000  # with more members than the creator; their shards are found again in up to 1 ms
KEPT_CREATORS: Final = 10_000
FOUND_AT_ONCE: Final = 100  # members of a topic that is gone: many may go in one slice


class _MemberShards:
    """The shards of a topic's members in an epoch, ascending."""

    __slots__ = ("epoch", "shards")

    def __init__(self, epoch: int, shards: Sequence[int]) -> None:
        self.epoch = epoch
        self.shards = shards


class UserShards:
    """Finds the shards of one log's users, of which there are `shards`. Topics are named by their keys."""

    def __init__(self, shards: int) -> None:
        self._all = range(shards)
        self._kept: OrderedDict[bytes, _MemberShards] = OrderedDict()
        self._of_user = lru_cache(KEPT_CREATORS)(lambda user_id: user_shard(user_id, shards))

    def cost(self, key: bytes, members: Members | None) -> int:
        """Returns how many users `of_topic` has to look at."""
        if members is None or members.count > EXACT_MEMBERS or key in self._kept:
            return 1
        return members.count

    def of_topic(self, key: bytes, row: Row, members: Members | None) -> Sequence[int]:
        """Returns the shards of a topic's members, ascending; `members` is None where its creator is the only one."""
        if members is None:
            return (self._of_user(row.owner_id),)
        if members.count > EXACT_MEMBERS:
            return self._all
        kept = self._kept.get(key)
        if kept is None or kept.epoch != members.epoch:
            kept = self._kept[key] = _MemberShards(members.epoch, self._find(members))
            if len(self._kept) > KEPT_TOPICS:
                self._kept.popitem(last=False)
        return kept.shards

    def of_gone(self, key: bytes, owner_id: str, members: Members | None) -> Sequence[int]:
        """Returns the shards of those who were the members of a topic that is gone, or all where they are not known."""
        if members is None:
            return (self._of_user(owner_id),)
        kept = self._kept.pop(key, None)
        if kept is not None and kept.epoch == members.epoch and members.count <= EXACT_MEMBERS:
            return kept.shards
        return self._find(members) if members.count <= FOUND_AT_ONCE else self._all

    def joined(self, key: bytes, user_id: str) -> None:
        """A user became a member, or has another role now."""
        kept = self._kept.get(key)
        if kept is not None:
            shard = user_shard(user_id, len(self._all))
            if shard not in kept.shards:
                kept.shards = sorted((*kept.shards, shard))

    def forget(self, key: bytes) -> None:
        """A member left: the topic's shards are found again when they are needed."""
        self._kept.pop(key, None)

    def _find(self, members: Members) -> Sequence[int]:
        found = sorted({user_shard(user_id, len(self._all)) for user_id, _ in members})
        return self._all if len(found) == len(self._all) else found
