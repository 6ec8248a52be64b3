"""The life of one shard on one node, from its claim to its release, as a table.

Which shards a node claims and releases is decided by `claims.reconcile`, from the present state alone. This table only
orders what then happens to one shard.
"""

import enum
from collections.abc import Mapping
from typing import Final

from headgate.core.wire.errors import HeadgateError


class ShardState(enum.Enum):
    """The state of a shard on one node. Only in LIVE are requests answered and messages pushed."""

    CLAIMING = "claiming"  # assigned to this node; its claim has not been read back from the log
    RESTORING = "restoring"  # the newest snapshot is read
    CATCHING_UP = "catching up"  # the log is applied, up to its end at the claim
    LIVE = "live"
    WAITING = "waiting"  # the log cannot be reached; restored again soon
    PARKED = "parked"  # a fault that an operator may have to mend; restored again later
    DRAINING = "draining"  # released; what is not in the index and the snapshots is being written
    RELEASED = "released"


class ShardEvent(enum.Enum):
    """An event in the life of a shard."""

    CLAIM_READ = "claim read"
    RESTORED = "restored"
    CAUGHT_UP = "caught up"
    LOG_LOST = "log lost"
    FAULT = "fault"
    RETRY = "retry"
    RELEASE = "release"
    WRITTEN = "written"


_STATE, _EVENT = ShardState, ShardEvent
TRANSITIONS: Final[Mapping[ShardState, Mapping[ShardEvent, ShardState]]] = {
    _STATE.CLAIMING: {
        _EVENT.CLAIM_READ: _STATE.RESTORING,
        _EVENT.RELEASE: _STATE.RELEASED,
    },
    _STATE.RESTORING: {
        _EVENT.RESTORED: _STATE.CATCHING_UP,
        _EVENT.LOG_LOST: _STATE.WAITING,
        _EVENT.FAULT: _STATE.PARKED,
        _EVENT.RELEASE: _STATE.RELEASED,
    },
    _STATE.CATCHING_UP: {
        _EVENT.CAUGHT_UP: _STATE.LIVE,
        _EVENT.LOG_LOST: _STATE.WAITING,
        _EVENT.FAULT: _STATE.PARKED,
        _EVENT.RELEASE: _STATE.DRAINING,
    },
    _STATE.LIVE: {
        _EVENT.LOG_LOST: _STATE.WAITING,
        _EVENT.FAULT: _STATE.PARKED,
        _EVENT.RELEASE: _STATE.DRAINING,
    },
    _STATE.WAITING: {
        _EVENT.RETRY: _STATE.RESTORING,
        _EVENT.RELEASE: _STATE.RELEASED,
    },
    _STATE.PARKED: {
        _EVENT.RETRY: _STATE.RESTORING,
        _EVENT.RELEASE: _STATE.RELEASED,
    },
    _STATE.DRAINING: {
        _EVENT.WRITTEN: _STATE.RELEASED,
    },
    _STATE.RELEASED: {},
}


class IllegalShardEvent(HeadgateError):
    """An event that the table does not have in a state. Nothing was changed."""

    def __init__(self, state: ShardState, event: ShardEvent) -> None:
        super().__init__(f"event {event.value!r} in state {state.value!r} of a shard: the table has no such event")
        self.state = state
        self.event = event


class ShardLife:
    """The state of one shard, beginning with CLAIMING; changed by `step` only."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = ShardState.CLAIMING

    @property
    def state(self) -> ShardState:
        """The present state."""
        return self._state

    def step(self, event: ShardEvent) -> None:
        """Moves to the state that the table gives. Raises IllegalShardEvent, and then changes nothing."""
        after = TRANSITIONS[self._state].get(event)
        if after is None:
            raise IllegalShardEvent(self._state, event)
        self._state = after
