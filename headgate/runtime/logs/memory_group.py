"""The group coordinator of a shared memory log, on loop timers only; it knows members and shards, no records.

It behaves like Kafka's: a member is out when it was silent for a session, the others learn of a new assignment with
their next heartbeat, and a frozen member keeps believing its old one until it wakes up.
"""

import asyncio
from typing import Final

SESSION_S: Final = 6.0  # as in Kafka (KAFKA.md section 5): the floor without touching the broker
HEARTBEAT_S: Final = 0.5


class Coordinator:
    """Who is a member and what each should own. Deterministic: members in the order they joined."""

    def __init__(self, shards: int, session_s: float = SESSION_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.heartbeat_s = heartbeat_s
        self.generation = 0  # rises with every rebalance
        self._shards = shards
        self._session_s = session_s
        self._assigned: dict[str, frozenset[int]] = {}
        self._expiry: dict[str, asyncio.TimerHandle] = {}

    def beat(self, node: str) -> frozenset[int]:
        """Joins a node or proves that it lives; returns what it should own."""
        expiry = self._expiry.pop(node, None)
        if expiry is not None:
            expiry.cancel()
        self._expiry[node] = asyncio.get_running_loop().call_later(self._session_s, self.leave, node)
        if node not in self._assigned:
            self._assigned[node] = frozenset()
            self._rebalance()
        return self._assigned[node]

    def leave(self, node: str) -> None:
        """Takes a node out; its shards go to the others. Nothing happens when it is no member."""
        expiry = self._expiry.pop(node, None)
        if expiry is not None:
            expiry.cancel()
        if self._assigned.pop(node, None) is not None:
            self._rebalance()

    def members(self) -> dict[str, frozenset[int]]:
        """Returns what each member should own; for checks in tests."""
        return dict(self._assigned)

    def _rebalance(self) -> None:
        self.generation += 1
        if self._assigned:
            self._assigned = sticky(self._assigned, self._shards)


class MemoryGroup:
    """One node's membership. `frozen` is a hook: while set, the node sends no heartbeat and learns nothing."""

    def __init__(self, coordinator: Coordinator, node: str) -> None:
        self.changed = asyncio.Event()
        self.frozen = False
        self._coordinator = coordinator
        self._node = node
        self._known: frozenset[int] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Joins."""
        self._beat()

    def assigned(self) -> frozenset[int] | None:
        """Returns what this member believes it should own."""
        return self._known

    async def stop(self) -> None:
        """Leaves at once."""
        self.vanish()
        self._coordinator.leave(self._node)
        self._known = None
        self.changed.set()

    def vanish(self) -> None:
        """Stops the heartbeats without leaving: what a crash does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._coordinator.heartbeat_s, self._beat)
        if self.frozen:
            return
        assigned = self._coordinator.beat(self._node)
        if assigned != self._known:
            self._known = assigned
            self.changed.set()


def sticky(before: dict[str, frozenset[int]], shards: int) -> dict[str, frozenset[int]]:
    """Spreads shards evenly over the members (at least one), moving as few as possible."""
    quota, extra = divmod(shards, len(before))
    after: dict[str, list[int]] = {}
    for node, old in before.items():
        kept = sorted(old)[: quota + (1 if extra > 0 else 0)]
        extra -= len(kept) > quota
        after[node] = kept
    taken = {shard for kept in after.values() for shard in kept}
    for shard in range(shards):
        if shard not in taken:
            min(after.values(), key=len).append(shard)
    return {node: frozenset(kept) for node, kept in after.items()}
