"""How many messages wait unread in the inboxes of the users served here, and how much is kept of them, for operators.

The largest backlog is found by looking at all users in turn, a bounded part of them each second: see `TopBacklogs`.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from dispatcher.dispatcher import Dispatcher
from dispatcher.shard import ShardOwner
from headgate.core.inbox.top_backlogs import TOP, TopBacklogs
from headgate.core.wire.link_stats import TopEntry

EVERY_S: Final = 1.0
STEPS: Final = 10  # of all shards in that time, each of about a millisecond: 2,500 memberships a second


class _ShardBacklogs:
    """The backlogs of a shard, and the round that goes on."""

    def __init__(self, owner: ShardOwner) -> None:
        self.owner = owner
        self.size = owner.tallies.tops.size
        self.backlogs = TopBacklogs(owner.inbox.users, max(self.size, TOP))
        self.round: Iterator[None] | None = None

    def tell(self) -> None:
        """Puts the users who were found into the shard's lists."""
        first = self.backlogs.first(self.size)
        self.owner.tallies.tops.lists.backlogs = [TopEntry(user_id, count) for user_id, count in first]


class InboxBacklogs:
    """The inboxes of a node. `run` is its task."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._watched: dict[int, _ShardBacklogs] = {}

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self._look()
            for watched in self._watched.values():
                watched.tell()

    async def _look(self) -> None:
        """Makes at most STEPS steps; a shard whose round is over waits for the next second."""
        self._take_owners()
        open_rounds = list(self._watched.values())
        for watched in open_rounds:
            watched.round = watched.round or watched.backlogs.round()
        for _ in range(STEPS):
            if not open_rounds:
                return
            watched = open_rounds.pop(0)
            if watched.round is not None and next(watched.round, self) is self:
                watched.round = None
            else:
                open_rounds.append(watched)
            await asyncio.sleep(0)

    def _take_owners(self) -> None:
        """Forgets shards that are no longer served here, and begins with those that are new."""
        owners = {number: owner for number, owner in self._dispatcher.owners.items() if owner.inbox.is_complete}
        kept = {number: each for number, each in self._watched.items() if owners.get(number) is each.owner}
        self._watched = {number: kept.get(number) or _ShardBacklogs(owner) for number, owner in owners.items()}

    # -- gauges

    def most(self) -> int:
        """Returns the largest number of unread messages of one user, as it was when he was last looked at."""
        return max((each.backlogs.most for each in self._watched.values()), default=0)

    def memberships(self) -> int:
        """Returns the number of memberships of users of the shards served here."""
        return sum(len(owner.inbox.users.memberships) for owner in self._dispatcher.owners.values())

    def heads(self) -> int:
        """Returns the number of topics whose head these shards know."""
        return sum(len(owner.inbox.users.heads) for owner in self._dispatcher.owners.values())

    def marks(self) -> int:
        """Returns the number of read marks of these users."""
        return sum(len(owner.inbox.users.marks) for owner in self._dispatcher.owners.values())
