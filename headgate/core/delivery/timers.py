"""A heap of deadlines that takes `now`; knows no clock: the shell keeps one real timer, for `next_due`.

Exact and in order, for retries; `headgate.core.fanout.wheel` is the coarse one, for heartbeats of many connections.
"""

import heapq
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_TIDY_ABOVE: Final = 64  # cancelled timers that may lie in the heap before it is rebuilt without them


class Timer(Generic[T]):
    """A handle for `cancel`."""

    __slots__ = ("due", "live", "what")

    def __init__(self, due: float, what: T) -> None:
        self.due = due
        self.what = what
        self.live = True


class Timers(Generic[T]):
    """Deadlines in order of their time, then of their making: the same calls give the same order."""

    __slots__ = ("_cancelled", "_heap", "_made")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer[T]]] = []
        self._made = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """The number of timers that will still fire."""
        return len(self._heap) - self._cancelled

    def at(self, due: float, what: T) -> Timer[T]:
        """Makes a timer for `due` (seconds, of whatever clock `now` will be of)."""
        timer = Timer(due, what)
        self._made += 1
        heapq.heappush(self._heap, (due, self._made, timer))
        return timer

    def cancel(self, timer: Timer[T]) -> None:
        """Takes a timer back; nothing happens when it has fired or was cancelled before."""
        if not timer.live:
            return
        timer.live = False
        self._cancelled += 1
        if self._cancelled > _TIDY_ABOVE and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].live]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due(self) -> float | None:
        """Returns the time of the next timer, None without one."""
        self._drop_cancelled()
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> T | None:
        """Takes the next timer that is due at `now` and returns what it carries, None without one."""
        self._drop_cancelled()
        if not self._heap or self._heap[0][0] > now:
            return None
        timer = heapq.heappop(self._heap)[2]
        timer.live = False
        return timer.what

    def _drop_cancelled(self) -> None:
        while self._heap and not self._heap[0][2].live:
            heapq.heappop(self._heap)
            self._cancelled -= 1
