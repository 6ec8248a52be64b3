"""The first topics and users of all shards served here, for operators: of the last hour, made anew now and then."""

import asyncio
from typing import Final

from dispatcher.dispatcher import Dispatcher
from headgate.core.wire.link_stats import TopLists
from headgate.core.wire.top_lists import merged

EVERY_S: Final = 5.0  # from the end of a round to the next


class NodeTops:
    """The lists of a node, of at most `size` entries each. `run` is its task."""

    def __init__(self, dispatcher: Dispatcher, size: int) -> None:
        self._dispatcher = dispatcher
        self._size = size

    async def run(self) -> None:
        """Makes the lists of one shard a loop turn, until cancelled."""
        while True:
            for owner in list(self._dispatcher.owners.values()):
                owner.tallies.tops.count_hour()
                await asyncio.sleep(0)
            await asyncio.sleep(EVERY_S)

    def lists(self) -> TopLists:
        """Returns the lists of all shards together, as they were found last."""
        return merged([owner.tallies.tops.lists for owner in self._dispatcher.owners.values()], self._size)
