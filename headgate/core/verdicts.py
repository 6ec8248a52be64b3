"""The verdicts of the newest offsets and who waits for later ones; knows neither links nor the index."""

from collections.abc import Callable, Sequence
from typing import Final

from headgate.core.apply import Verdict

KEPT_OFFSETS: Final = 100_000

Waiter = Callable[[Sequence[Verdict]], None]


class Verdicts:
    """Kept by offset for the newest KEPT_OFFSETS; a waiter is called once, when its offset has been applied."""

    def __init__(self, kept: int = KEPT_OFFSETS) -> None:
        self._kept = kept
        self._verdicts: dict[int, Sequence[Verdict]] = {}
        self._waiters: dict[int, list[Waiter]] = {}
        self._ready: list[tuple[Waiter, Sequence[Verdict]]] = []

    def put(self, offset: int, verdicts: Sequence[Verdict]) -> None:
        """Notes what was decided; waiters get it at the next `release`."""
        self._verdicts[offset] = verdicts
        if len(self._verdicts) > self._kept:
            del self._verdicts[next(iter(self._verdicts))]
        for waiter in self._waiters.pop(offset, ()):
            self._ready.append((waiter, verdicts))

    def get(self, offset: int) -> Sequence[Verdict] | None:
        """Returns the verdicts of a record, None where they are not kept (any more) or not given yet."""
        return self._verdicts.get(offset)

    def wait(self, offset: int, waiter: Waiter) -> None:
        """Has `waiter` called once the offset has been applied."""
        self._waiters.setdefault(offset, []).append(waiter)

    def release(self) -> None:
        """Calls the waiters whose verdict is there: after the messages that stand before it were sent."""
        ready, self._ready = self._ready, []
        for waiter, verdicts in ready:
            waiter(verdicts)
