"""How many members the largest topics served here have, and which these are, for operators.

All topics are looked at in turn, in slices. Those whose only member ever was their creator are not listed.
"""

import asyncio
from collections.abc import Iterator
from heapq import nlargest
from typing import Final

from dispatcher.dispatcher import Dispatcher
from dispatcher.shard import ShardOwner
from headgate.core.wire.link_stats import TopEntry

EVERY_S: Final = 10.0  # from the end of a round to the next
SLICE_TOPICS: Final = 5_000  # looked at in one turn of the loop: about a millisecond
LARGE: Final = 5_000  # more members than this: a large topic
_Size = tuple[int, bytes]  # members of a topic, and its key


class TopicSizes:
    """The sizes of the topics of a node, as the last whole round found them. `run` is its task."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.most = 0
        self.large = 0

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Looks at all topics once. Topics that come meanwhile wait for the next round."""
        most = large = 0
        for owner in list(self._dispatcher.owners.values()):
            size = owner.tallies.tops.size
            first: list[_Size] = []
            for sizes in _slices(owner):
                first = nlargest(size, (*first, *sizes))
                most = max([most, *(count for count, _ in sizes)])
                large += sum(count > LARGE for count, _ in sizes)
                await asyncio.sleep(0)
            owner.tallies.tops.lists.members = _entries(owner, first)
        self.most, self.large = most, large


def _slices(owner: ShardOwner) -> Iterator[list[_Size]]:
    """Yields the topics that have had others than their creator, with their members."""
    members = owner.shard.members
    keys = list(members)
    for at in range(0, len(keys), SLICE_TOPICS):
        part = keys[at : at + SLICE_TOPICS]
        yield [(found.count, key) for key in part if (found := members.get(key)) is not None]


def _entries(owner: ShardOwner, first: list[_Size]) -> list[TopEntry]:
    rows = [(owner.rows.get(key), count) for count, key in first]
    return [TopEntry(row.topic_id, count) for row, count in rows if row is not None]
