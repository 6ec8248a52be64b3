"""A link in memory whose batches pass through the wire format, and may be late."""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from headgate.core.wire.link import Message
from headgate.core.wire.linkcodec import Unsendable, decode_batch, encode, encode_batch
from headgate.runtime.links.memory_link import MemoryLink

logger = structlog.get_logger("links")

Latency = Callable[[], float]  # seconds from the batch to its arrival


class EncodedLink(MemoryLink):
    """One end. With `latency_s` each batch arrives that much later, in order; without it at once."""

    def __init__(self, peer: str, latency_s: Latency | None = None) -> None:
        super().__init__(peer)
        self._latency_s = latency_s
        self._due = 0.0
        self._late: deque[tuple[list[Message], int]] = deque()

    def send(self, message: Message) -> None:
        """Queues a message; one that cannot be encoded is dropped and answered, as on a real link."""
        if self.closed:
            return
        try:
            encode(message)
        except Unsendable as fault:
            logger.error("a message was dropped", peer=self.peer, why=str(fault))
            self._answer(fault)
        else:
            self._queue(message)

    def _answer(self, fault: Unsendable) -> None:
        refused = fault.answer
        if refused is not None and fault.of_request:
            asyncio.get_running_loop().call_soon(lambda: self._on_messages([refused]))
        elif refused is not None:
            self._queue(refused)

    def _carry(self, batch: list[Message], size: int) -> None:
        batch = decode_batch(encode_batch(batch))
        if self._latency_s is None:
            super()._carry(batch, size)
            return
        loop = asyncio.get_running_loop()
        self._due = max(self._due, loop.time() + self._latency_s())
        self._late.append((batch, size))
        loop.call_at(self._due, self._arrive)  # equal timers fire in any order, so each takes the oldest batch

    def _arrive(self) -> None:
        super()._carry(*self._late.popleft())


def encoded_link(
    near: str = "near", far: str = "far", latency_s: Latency | None = None
) -> tuple[EncodedLink, EncodedLink]:
    """Returns the two ends of a link; `near` and `far` name the node that each end talks to."""
    a, b = EncodedLink(far, latency_s), EncodedLink(near, latency_s)
    a.join(b)
    return a, b
