"""The group coordinator of a shared memory log, on loop timers only.

It behaves like Kafka's: a member that sends no heartbeat for a session is removed, the others learn of a new
assignment with their next heartbeat, and a frozen member believes in its old one until it wakes up.
"""

import asyncio
from typing import Final

SESSION_S: Final = 6.0  # as in Kafka: the least that a broker allows with its defaults
HEARTBEAT_S: Final = 0.5


class Coordinator:
    """The members and the shards that each should own. Deterministic: members in the order they joined."""

    def __init__(self, shards: int, session_s: float = SESSION_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.heartbeat_s = heartbeat_s
        self.generation = 0  # rises with every rebalance
        self._shards = shards
        self._session_s = session_s
        self._assigned: dict[str, frozenset[int]] = {}
        self._expiry: dict[str, asyncio.TimerHandle] = {}

    def beat(self, node: str) -> frozenset[int]:
        """Adds a node, or notes that it lives; returns the shards it should own."""
        expiry = self._expiry.pop(node, None)
        if expiry is not None:
            expiry.cancel()
        self._expiry[node] = asyncio.get_running_loop().call_later(self._session_s, self.leave, node)
        if node not in self._assigned:
            self._assigned[node] = frozenset()
            self._rebalance()
        return self._assigned[node]

    def leave(self, node: str) -> None:
        """Removes a node; its shards go to the others. Nothing happens when it is no member."""
        expiry = self._expiry.pop(node, None)
        if expiry is not None:
            expiry.cancel()
        if self._assigned.pop(node, None) is not None:
            self._rebalance()

    def members(self) -> dict[str, frozenset[int]]:
        """Returns the shards that each member should own; for checks in tests."""
        return dict(self._assigned)

    def _rebalance(self) -> None:
        self.generation += 1
        if self._assigned:
            self._assigned = sticky(self._assigned, self._shards)


class MemoryGroup:
    """One node's membership; implements the port `OwnerGroup`."""

    def __init__(self, coordinator: Coordinator, node: str) -> None:
        self.changed = asyncio.Event()
        self._coordinator = coordinator
        self._node = node
        self._assigned: frozenset[int] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Joins."""
        self._tick()

    def assigned(self) -> frozenset[int] | None:
        """Returns the shards that this member believes it should own."""
        return self._assigned

    async def stop(self) -> None:
        """Leaves at once."""
        self._stop_heartbeats()
        self._coordinator.leave(self._node)
        self._assigned = None
        self.changed.set()

    def _stop_heartbeats(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._coordinator.heartbeat_s, self._tick)
        self._heartbeat()

    def _heartbeat(self) -> None:
        assigned = self._coordinator.beat(self._node)
        if assigned != self._assigned:
            self._assigned = assigned
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
