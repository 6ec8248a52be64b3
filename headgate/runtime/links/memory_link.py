"""A link in memory: two ends on one loop, without bytes on a wire and without authentication."""

import asyncio
from typing import Final

from headgate.core.wire.link import Message, Messages
from headgate.runtime.ports import OnClose, OnMessages, ignore

FRAME_OVERHEAD: Final = 64  # bytes counted for a message beside its frames


def _size(message: Message) -> int:
    return FRAME_OVERHEAD + (sum(map(len, message.frames)) if isinstance(message, Messages) else 0)


class MemoryLink:
    """One end; implements the port `Link`."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.role = ""  # nobody has to prove one within a process
        self.far_has_left = False
        self.pending_bytes = 0
        self.closed = False
        self._on_messages: OnMessages = ignore
        self._on_close: OnClose = ignore
        self._far: MemoryLink = self
        self._out: list[Message] = []
        self._out_bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # looked up once: each look is a system call (getpid)
        self._drained = asyncio.Event()

    def join(self, far: "MemoryLink") -> None:
        """Makes `far` the other end of this link."""
        self._far, far._far = far, self

    def deliver_to(self, on_messages: OnMessages = ignore, on_close: OnClose = ignore) -> None:
        """Names the functions that this end calls; see the port."""
        self._on_messages, self._on_close = on_messages, on_close

    def send(self, message: Message) -> None:
        """Queues a message; the far end gets the batch of this turn at its next turn."""
        if not self.closed:
            self._queue(message)

    def _queue(self, message: Message) -> None:
        size = _size(message)
        self.pending_bytes += size
        self._out_bytes += size
        self._out.append(message)
        if len(self._out) == 1:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._ship)

    def _ship(self) -> None:
        batch, size, self._out, self._out_bytes = self._out, self._out_bytes, [], 0
        if batch:
            self._carry(batch, size)

    def _carry(self, batch: list[Message], size: int) -> None:
        """Brings a batch of so many bytes to the far end."""
        self.pending_bytes -= size
        self._drained.set()
        if self._far.closed:
            return
        try:
            self._far._on_messages(batch)
        except Exception as error:
            self.close(f"a message could not be taken: {error!r}")
            raise

    async def drained(self, below: int) -> None:
        """Waits until fewer than `below` bytes are queued, or the link is closed."""
        while self.pending_bytes >= below and not self.closed:
            self._drained.clear()
            await self._drained.wait()

    def close(self, reason: str) -> None:
        """Closes both ends; queued messages are lost."""
        for end in (self, self._far):
            if not end.closed:
                end.closed = True
                end._drained.set()
                asyncio.get_running_loop().call_soon(end._on_close, reason)


def memory_link(near: str = "near", far: str = "far") -> tuple[MemoryLink, MemoryLink]:
    """Returns the two ends of a link; `near` and `far` name the node that each end talks to."""
    a, b = MemoryLink(far), MemoryLink(near)
    a.join(b)
    return a, b
