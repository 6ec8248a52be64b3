"""Work that is done in steps, one step in a loop turn, so that nobody else waits for a long one."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Final, TypeVar

import structlog

from headgate.core.wire.errors import Refusal

logger = structlog.get_logger("dispatcher")

MAX_WAITING: Final = 1_000  # long answers of a shard that are under way
ACTIVE: Final = 8  # of them that have begun: one has a list of all topics of its user
RETRY_MS: Final = 1_000
ANSWER_S: Final = 3.0  # an ingest waits no longer for an answer: what is made later nobody gets

P = TypeVar("P")
Failed = Callable[[Refusal], None]


class SlicedWork:
    """What is under way of one shard."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], bool], Failed]] = deque()  # one step of each; True: it was the last
        self._handle: asyncio.Handle | None = None

    def begin(
        self,
        steps: Generator[None, None, P],
        done: Callable[[P], None],
        failed: Failed,
        within_s: float = math.inf,
    ) -> None:
        """Makes the first step in the next loop turn; calls `done` with the result, or `failed` after a fault of ours.

        What is not done `within_s` is given up: it failed. Raises Refusal `overloaded` where too much is under way.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Refusal("overloaded", "too many long answers of this shard are being made", retry_after_ms=RETRY_MS)
        until = asyncio.get_running_loop().time() + within_s
        self._waiting.append((partial(_step, steps, done, failed, until), failed))
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._go_on)

    def close(self, why: Refusal) -> None:
        """Ends all that is under way: it failed."""
        if self._handle is not None:
            self._handle.cancel()
        waiting, self._waiting = self._waiting, deque()
        for _, failed in waiting:
            failed(why)

    def _go_on(self) -> None:
        """Makes one step of the first, which is then the last of those that have begun."""
        first = self._waiting.popleft()
        if not first[0]():
            self._waiting.insert(ACTIVE - 1, first)
        self._handle = asyncio.get_running_loop().call_soon(self._go_on) if self._waiting else None


def refuse_overdue(until: float) -> None:
    """Raises Refusal `overloaded` where nobody waits for an answer any longer; `until` is in seconds of the loop."""
    if asyncio.get_running_loop().time() > until:
        raise Refusal("overloaded", "so much is asked of this shard that this took too long", retry_after_ms=RETRY_MS)


def _step(steps: Generator[None, None, P], done: Callable[[P], None], failed: Failed, until: float) -> bool:
    """Makes one step; returns whether it was the last."""
    try:
        refuse_overdue(until)
        try:
            next(steps)
        except StopIteration as end:
            done(end.value)
        else:
            return False
    except Refusal as refusal:
        failed(refusal)
    except Exception:  # the root of the loop's calls: one fault must not stop the others
        logger.exception("a long answer failed")
        failed(Refusal("internal", "the owner failed at this request"))
    return True
