"""A timing wheel: the deadlines of very many connections with one timer in the shell."""

from typing import Final, Generic, Protocol, TypeVar

TICK_S: Final = 0.25
SLOTS: Final = 256  # 64 s; an item due later is visited once a turn of the wheel and put back

T = TypeVar("T")


class Visited(Protocol):
    """Something with a deadline."""

    def visit(self, now: float) -> float | None:
        """Does what is due at `now` and returns when to come again, None for never. Both in monotonic seconds."""


class Wheel(Generic[T]):
    """Slots of a quarter second. Nothing is ever taken out: whoever visits an item knows whether it still matters."""

    def __init__(self, now: float) -> None:
        self._slots: list[list[T]] = [[] for _ in range(SLOTS)]
        self._tick = int(now / TICK_S)

    def add(self, item: T, due: float) -> None:
        """Plans a visit at the first tick that is not before `due`."""
        ticks = int(due / TICK_S) + 1 - self._tick
        self._slots[(self._tick + min(max(ticks, 1), SLOTS - 1)) % SLOTS].append(item)

    def advance(self, now: float) -> list[T]:
        """Moves to `now` and returns what may be due; an item due beyond the wheel's turn comes early."""
        due: list[T] = []
        target = int(now / TICK_S)
        for tick in range(max(self._tick + 1, target - SLOTS + 1), target + 1):
            slot = tick % SLOTS
            due += self._slots[slot]
            self._slots[slot] = []
        self._tick = max(self._tick, target)
        return due
