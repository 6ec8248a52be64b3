"""A loop whose time jumps to the next timer when nothing is ready; seeded twins of Clock and Rng; no threads."""

import asyncio
import random
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

BEGIN_S: Final = 1_000.0
WALL_MS: Final = 1_700_000_000_000
TURNS: Final = 2_000_000  # loop turns of one run; above it the run is a livelock


class Stuck(RuntimeError):
    """Everybody waits and no timer is set, or the run goes on without end."""


class _Selector(selectors.BaseSelector):
    """Watches nothing: waiting moves the clock. The loop registers its self-pipe here, which nobody writes to."""

    def __init__(self) -> None:
        self.now = BEGIN_S
        self.turns = 0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if timeout is None:
            raise Stuck("everybody waits and no timer is set")
        if self.turns > TURNS:
            raise Stuck(f"no end after {TURNS} turns of the loop")
        if timeout > 0:
            self.now += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]


class SimLoop(asyncio.SelectorEventLoop):
    """Also the port `Clock`. What a callback or a task raises and nobody takes is kept in `complaints`."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.complaints: list[str] = []
        self.wall_rate = 1.0  # above 1: log time runs ahead of the loop's, a month in an hour
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._virtual.now

    def now(self) -> float:
        """Returns virtual seconds."""
        return self._virtual.now

    def wall_ms(self) -> int:
        """Returns virtual Unix milliseconds."""
        return WALL_MS + int(self._virtual.now * 1000 * self.wall_rate)

    @property
    def turns(self) -> int:
        """How often the loop has turned: the measure of a run's length."""
        return self._virtual.turns

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complain(str(context.get("message")), context.get("exception"))

    def complain(self, message: str, error: BaseException | None) -> None:
        """Keeps what went wrong without anybody's knowledge, and where."""
        where = ""
        if error is not None and error.__traceback__ is not None:
            trace = error.__traceback__
            while trace.tb_next is not None:
                trace = trace.tb_next
            where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        self.complaints.append(f"{message}: {error!r}{where}")


class SimRng(random.Random):
    """The port `Rng`. Seeded by a text, so that each part of a run has its own stream (no hash order in it)."""

    def entropy(self, count: int) -> bytes:
        """Returns `count` bytes of the stream."""
        return self.randbytes(count)


def run(loop: SimLoop, main: Coroutine[Any, Any, _T]) -> _T:
    """Runs to the end, cancels what is left, closes the loop."""
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in sorted(left, key=lambda t: t.get_name()):
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
