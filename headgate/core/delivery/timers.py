"""A heap of deadlines: exact and in order, for retries. Its caller keeps one real timer, for `next_due`.

`headgate.core.fanout.wheel` is the coarse one, for the heartbeats of many connections.
"""

import heapq
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_TIDY_ABOVE: Final = 64  # cancelled timers that may lie in the heap before it is rebuilt without them


class Timer(Generic[T]):
    """A handle for `cancel`."""

    __slots__ = ("due", "item", "live")

    def __init__(self, due: float, item: T) -> None:
        self.due = due
        self.item = item
        self.live = True


class Timers(Generic[T]):
    """Deadlines in order of time, then of creation: the same calls give the same order."""

    __slots__ = ("_cancelled", "_created", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer[T]]] = []
        self._created = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """Returns the number of timers that will still fire."""
        return len(self._heap) - self._cancelled

    def at(self, due: float, item: T) -> Timer[T]:
        """Makes a timer for `due`, in seconds on the same clock as every `now`."""
        timer = Timer(due, item)
        self._created += 1
        heapq.heappush(self._heap, (due, self._created, timer))
        return timer

    def cancel(self, timer: Timer[T]) -> None:
        """Cancels a timer; nothing happens when it has fired or is cancelled already."""
        if not timer.live:
            return
        timer.live = False
        self._cancelled += 1
        if self._cancelled > _TIDY_ABOVE and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].live]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due(self) -> float | None:
        """Returns the time of the next timer, or None."""
        self._drop_cancelled()
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> T | None:
        """Removes the next timer that is due at `now` and returns its item, or None when none is due."""
        self._drop_cancelled()
        if not self._heap or self._heap[0][0] > now:
            return None
        timer = heapq.heappop(self._heap)[2]
        timer.live = False
        return timer.item

    def _drop_cancelled(self) -> None:
        while self._heap and not self._heap[0][2].live:
            heapq.heappop(self._heap)
            self._cancelled -= 1
