"""The publishers that wait for room in a full topic (policy `block`)."""

import asyncio
from collections import deque
from typing import Final

from headgate.broker.topic import Topic
from headgate.core.wire.errors import HeadgateError

MAX_WAITING: Final = 1_000  # publishers of a topic that may wait for room; the next one is refused


class WaitingPublishers:
    """The waiting publishers of each topic, in the order of their calls. Each has its place before it wakes up."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def is_full(self, topic: Topic) -> bool:
        """Returns whether MAX_WAITING publishers of a topic wait already."""
        return len(self._waiting.get(topic.name, ())) >= MAX_WAITING

    async def wait(self, topic: Topic) -> None:
        """Waits for a place in a topic's queue and reserves it. Raises HeadgateError when the broker is closed."""
        waiting = self._waiting.setdefault(topic.name, deque())
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(waiter)
        self.let_in(topic)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it got its place at the moment it gave up
                topic.reserved -= 1
            elif waiter in waiting:
                waiting.remove(waiter)
            self.let_in(topic)
            raise

    def let_in(self, topic: Topic) -> None:
        """Reserves the free places of a topic for the publishers that have waited longest."""
        waiting = self._waiting.get(topic.name)
        while waiting and topic.queued + topic.reserved < topic.pressure.max_queue_size:
            waiter = waiting.popleft()
            if not waiter.done():
                topic.reserved += 1
                waiter.set_result(None)
        if waiting is not None and not waiting:
            del self._waiting[topic.name]

    def close(self) -> None:
        """Ends every wait with an error."""
        for waiter in [one for waiting in self._waiting.values() for one in waiting]:
            if not waiter.done():
                waiter.set_exception(HeadgateError("the broker was closed"))
        self._waiting.clear()
