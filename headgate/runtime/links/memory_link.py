"""The in-memory twin of a link: two ends on one loop; knows neither bytes on a wire nor authentication."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from headgate.core.wire.link import Message, Messages
from headgate.core.wire.linkcodec import Unsendable, decode_batch, encode, encode_batch

logger = structlog.get_logger("links")

FRAME_OVERHEAD: Final = 64  # bytes a message is counted for beside its frames


def _size(message: Message) -> int:
    return FRAME_OVERHEAD + (sum(map(len, message.frames)) if isinstance(message, Messages) else 0)


class MemoryLink:
    """One end. `codec` sends every batch through the wire format; `latency_s` is for the simulation."""

    def __init__(self, peer: str, *, codec: bool = False, latency_s: Callable[[], float] | None = None) -> None:
        self.on_messages: Callable[[list[Message]], None] = lambda messages: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.peer = peer
        self.role = ""  # nobody has to prove one within a process
        self.pending_bytes = 0
        self.closed = False
        self._far: MemoryLink = self
        self._codec = codec
        self._latency = latency_s
        self._out: list[Message] = []
        self._arrival = 0.0
        self._flying: deque[list[Message]] = deque()
        self._drained = asyncio.Event()

    def send(self, message: Message) -> None:
        """Queues a message; the far end gets the turn's batch at its next turn. One that cannot be sent is answered."""
        if self.closed:
            return
        try:
            if self._codec:
                encode(message)
        except Unsendable as fault:
            logger.error("a message was dropped", peer=self.peer, why=str(fault))
            self._answer(fault)
        else:
            self._queue(message)

    def _answer(self, fault: Unsendable) -> None:
        refused = fault.answer
        if refused is not None and fault.of_request:
            asyncio.get_running_loop().call_soon(lambda: self.on_messages([refused]))
        elif refused is not None:
            self._queue(refused)

    def _queue(self, message: Message) -> None:
        self.pending_bytes += _size(message)
        self._out.append(message)
        if len(self._out) == 1:
            asyncio.get_running_loop().call_soon(self._ship)

    def _ship(self) -> None:
        batch, self._out = self._out, []
        if not batch:
            return
        if self._codec:
            batch = decode_batch(encode_batch(batch))
        if self._latency is None:
            self._arrive(batch)
            return
        loop = asyncio.get_running_loop()
        self._arrival = max(self._arrival, loop.time() + self._latency())  # in order, whatever the latency
        self._flying.append(batch)
        loop.call_at(self._arrival, self._land)  # equal timers fire in any order, so each takes the oldest batch

    def _land(self) -> None:
        self._arrive(self._flying.popleft())

    def _arrive(self, batch: list[Message]) -> None:
        self.pending_bytes = max(0, self.pending_bytes - sum(map(_size, batch)))
        self._drained.set()
        if self._far.closed:
            return
        try:
            self._far.on_messages(batch)
        except Exception as error:
            self.close(f"a message could not be taken: {error!r}")
            raise

    async def drained(self, below: int) -> None:
        """Waits until fewer than `below` bytes are queued, or the link is closed."""
        while self.pending_bytes >= below and not self.closed:
            self._drained.clear()
            await self._drained.wait()

    def close(self, reason: str) -> None:
        """Ends both ends; what is queued is lost."""
        for end in (self, self._far):
            if not end.closed:
                end.closed = True
                end._drained.set()
                asyncio.get_running_loop().call_soon(end.on_close, reason)


def memory_link(
    near: str = "near", far: str = "far", *, codec: bool = False, latency_s: Callable[[], float] | None = None
) -> tuple[MemoryLink, MemoryLink]:
    """Returns the two ends of a link; `near` and `far` name the node each end talks to."""
    a = MemoryLink(far, codec=codec, latency_s=latency_s)
    b = MemoryLink(near, codec=codec, latency_s=latency_s)
    a._far, b._far = b, a
    return a, b
