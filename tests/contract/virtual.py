"""A loop whose time passes only when everybody waits, so that minutes of timers run in milliseconds and repeat."""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class VirtualSelector(selectors.SelectSelector):
    """Instead of sleeping, moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits and no timer is set")
        if not ready:
            self.now += max(0.0, timeout or 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Also the port `Clock`."""

    def __init__(self) -> None:
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now

    def now(self) -> float:
        return self.virtual.now

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.virtual.now * 1000)


class SeededRng(random.Random):
    """The port `Rng`, repeatable."""

    def entropy(self, count: int) -> bytes:
        return self.randbytes(count)


def run(loop: VirtualLoop, main: Coroutine[Any, Any, _T]) -> _T:
    """Runs to the end on a virtual loop and closes it."""
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
