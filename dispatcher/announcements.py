"""The gateways that still have to announce which topics they host of a shard that has just become live here."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

G = TypeVar("G")

WAIT_S: Final = 5.0
ASK_AGAIN_S: Final = 0.1
HELD: Final = 1_000  # requests that wait; ephemeral messages are at most 64 KiB each
HELD_BYTES: Final = 4 << 20


class Announcements(Generic[G]):
    """Complete once every gateway that is linked, and one at least, has announced; or WAIT_S seconds after the start.

    Until then the number of subscribers is unknown, and requests that need it are held. The time does not end while
    `may_answer` returns False: after a pause a node does not know whether it still owns the shard.
    """

    def __init__(self, gateways: Iterable[G], may_answer: Callable[[], bool] = lambda: True) -> None:
        self._missing = set(gateways)
        self._may_answer = may_answer
        self._any = False
        self._held: list[Callable[[], None]] = []
        self._held_bytes = 0
        self.complete = False
        self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._end)

    def expect(self, gateway: G) -> None:
        """A gateway has linked: it has to announce too."""
        self._missing.add(gateway)

    def heard(self, gateway: G) -> None:
        """A gateway has announced everything."""
        self._any = True
        self.left(gateway)

    def left(self, gateway: G) -> None:
        """A gateway has closed its link: nobody waits for it any longer."""
        self._missing.discard(gateway)
        if self._any and not self._missing:
            self._end()

    def hold(self, again: Callable[[], None], size: int) -> bool:
        """Calls `again` once complete, in the order of the calls. Returns False when too much is held already."""
        if len(self._held) >= HELD or self._held_bytes + size > HELD_BYTES:
            return False
        self._held.append(again)
        self._held_bytes += size
        return True

    def close(self) -> None:
        """The shard is released: held requests are forgotten."""
        self._timer.cancel()
        self._held.clear()

    def _end(self) -> None:
        self._timer.cancel()
        if not self._may_answer():
            self._timer = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._end)
            return
        self.complete = True
        held, self._held = self._held, []
        for again in held:
            again()
