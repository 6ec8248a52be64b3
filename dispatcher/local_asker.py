"""A part of this process that asks a shard as the far end of a link would, without a link."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from dispatcher.shard import ShardOwner
from headgate.core.sequencer.routes import Route
from headgate.core.wire import link

_NO_BACKLOG: Final[Mapping[str, int]] = {}


class LocalAsker:
    """A `Destination` whose answers come to the callbacks of `ask`. Once closed it gets none."""

    version = link.VERSION_HIGH
    congested = False
    backlog = _NO_BACKLOG

    def __init__(self, name: str, handle: Callable[["LocalAsker", Any], None]) -> None:
        """`handle` takes a request and answers it, now or later: that of the shard's API."""
        self.name = name
        self.open = True
        self._handle = handle
        self._reqs = 0
        self._answers: dict[int, Callable[[Any], None]] = {}

    def ask(self, build: Callable[[int], link.Request], on_answer: Callable[[Any], None]) -> None:
        """Asks; `on_answer` is called once, with a refusal too, unless this is closed before."""
        self._reqs += 1
        self._answers[self._reqs] = on_answer
        self._handle(self, build(self._reqs))

    def tell(self, message: link.Message) -> None:
        """Tells the shard something that has no answer."""
        self._handle(self, message)

    def close(self) -> None:
        """Nothing is answered any more."""
        self.open = False
        self._answers.clear()

    # What a shard needs of a destination

    def send(self, message: link.Message) -> None:
        """Takes an answer."""
        on_answer = self._answers.pop(getattr(message, "req", 0), None)
        if on_answer is not None:
            on_answer(message)

    def later(self, answer: Callable[[], None]) -> bool:
        """Has `answer` called in the next loop turn: there is always room."""
        asyncio.get_running_loop().call_soon(answer)
        return True

    def fall_behind(self, owner: ShardOwner, route: Route[Any]) -> None:
        """Never needed: it hosts no topic."""
