"""A timing wheel: what is due when, for very many connections and one timer in the shell; knows no loop."""

from typing import Final, Protocol

TICK_S: Final = 0.25
SLOTS: Final = 256  # 64 s; what is due later is looked at once a turn of the wheel and put back


class Visited(Protocol):
    """Something with a deadline."""

    def visit(self, now: float) -> float | None:
        """Does what is due at `now` and returns when to come again, None for never. Both in monotonic seconds."""


class Wheel:
    """Slots of a quarter second. Nothing is ever taken out: a visit tells whether it still matters."""

    def __init__(self, now: float) -> None:
        self._slots: list[list[Visited]] = [[] for _ in range(SLOTS)]
        self._tick = int(now / TICK_S)

    def add(self, item: Visited, due: float) -> None:
        """Plans a visit at the first tick that is not before `due`."""
        ticks = int(due / TICK_S) + 1 - self._tick
        self._slots[(self._tick + min(max(ticks, 1), SLOTS - 1)) % SLOTS].append(item)

    def advance(self, now: float) -> list[Visited]:
        """Moves to `now` and returns what may be due; an item due beyond the wheel's turn comes early."""
        due: list[Visited] = []
        target = int(now / TICK_S)
        for tick in range(max(self._tick + 1, target - SLOTS + 1), target + 1):
            slot = tick % SLOTS
            due += self._slots[slot]
            self._slots[slot] = []
        self._tick = max(self._tick, target)
        return due
