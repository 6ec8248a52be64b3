"""Lets requests wait until everything that is in the log when they are made has been applied.

A position above the head is wrong only if the log does not have it either: an owner that has just taken over a shard
may not have read yet what the owner before it has sent.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from dispatcher.history import Asker
from headgate.core.wire.errors import Refusal
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Log, LogError

APPLIED_S: Final = 10.0  # a request that waits longer is refused; it may be repeated
RETRY_S: Final = 0.5
LOOK_S: Final = 10.0  # a shard that is held back reads nothing, and so hears of no new end
RETRY_MS: Final = 1_000
MAX_WAITING: Final = 10_000

Again = Callable[[bool], None]


def refuse_late(asker: object, request: object) -> None:
    """Handles a request for which applying the log took too long. Raises Refusal."""
    raise Refusal("not_ready", "this shard is behind the end of its log", retry_after_ms=RETRY_MS)


class _Request(NamedTuple):
    asker: Asker
    again: Again


class LogEnd:
    """The end of the log of one shard, and the requests that wait for it. `run` is their task.

    `end` is where the log ends, as far as this node has seen.
    """

    def __init__(self, log: Log, number: int, end: int) -> None:
        self.end = end
        self._log = log
        self._number = number
        self._next_offset = -1
        self._moved = asyncio.Event()
        self._waiting: deque[_Request] = deque()
        self._asked = asyncio.Event()

    def seen(self, end: int) -> None:
        """Notes the end that a read of the log has told."""
        self.end = max(self.end, end)

    def applied(self, next_offset: int) -> None:
        """Notes that everything below the offset is applied."""
        self._next_offset = next_offset
        self._moved.set()

    def wait(self, asker: Asker, again: Again) -> bool:
        """Calls back with True once all that the log holds now is applied, with False if that takes too long.

        Returns False when too many wait already.
        """
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(_Request(asker, again))
        self._asked.set()
        return True

    async def run(self) -> None:
        """Calls back those who wait, and looks at the end of the log now and then, until cancelled."""
        while True:
            if not await self._is_asked():
                await self._look()
                continue
            self._asked.clear()
            waiting = list(self._waiting)
            is_applied = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(APPLIED_S):
                    await self._all_applied()
                    is_applied = True
            for request in waiting:
                self._waiting.popleft()
                if request.asker.open:
                    request.again(is_applied)

    async def _is_asked(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._asked.wait()
        return self._asked.is_set()

    async def _look(self) -> None:
        with contextlib.suppress(LogError):
            self.end = max(self.end, (await self._log.bounds(LogName.MESSAGES, self._number)).end)

    async def _all_applied(self) -> None:
        end = await self._end()
        while self._next_offset < end:
            self._moved.clear()
            await self._moved.wait()

    async def _end(self) -> int:
        while True:
            try:
                return (await self._log.bounds(LogName.MESSAGES, self._number)).end
            except LogError:
                await asyncio.sleep(RETRY_S)
