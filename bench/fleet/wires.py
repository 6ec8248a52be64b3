"""Links whose messages are encoded, counted and decoded, and arrive a fixed time later."""

import asyncio
import time
from collections import Counter
from typing import Final

from headgate.core.wire.link import EphemeralMessages, Message, Messages
from headgate.core.wire.linkcodec import batch_of, decode_batch, encode
from headgate.runtime.links.websocket_link import SLICE_MESSAGES
from headgate.runtime.ports import OnClose, OnMessages, ignore

LATENCY_S: Final = 0.001


class Traffic:
    """What one node has sent and received since `clear`, and the CPU seconds that it took to handle what came."""

    def __init__(self, name: str, role: str) -> None:
        self.name = name
        self.role = role
        self.links = 0  # open now
        self.clear()

    def clear(self) -> None:
        """Counts from 0 again."""
        self.sent = self.sent_bytes = self.received = self.received_bytes = self.batches = self.copies = 0
        self.cpu_s = 0.0
        self.kinds: Counter[str] = Counter()


class CountedWire:
    """One end; implements the port `Link`. What is sent within LATENCY_S is one batch, as in a busy socket."""

    def __init__(self, peer: str, mine: Traffic) -> None:
        self.peer = peer
        self.role = ""
        self.far_has_left = False
        self.closed = False
        self.pending_bytes = 0
        self._mine = mine
        self._far = self
        self._on_messages: OnMessages = ignore
        self._on_close: OnClose = ignore
        self._out: list[bytes] = []
        self._drained: asyncio.Event | None = None  # exists while somebody waits

    def deliver_to(self, on_messages: OnMessages = ignore, on_close: OnClose = ignore) -> None:
        """Names the functions that this end calls; see the port."""
        self._on_messages, self._on_close = on_messages, on_close

    def send(self, message: Message) -> None:
        """Queues a message."""
        if self.closed:
            return
        data, mine = encode(message), self._mine
        mine.sent += 1
        mine.sent_bytes += len(data)
        mine.kinds[type(message).__name__] += 1
        if isinstance(message, Messages | EphemeralMessages):
            mine.copies += len(message.frames)
        self.pending_bytes += len(data)
        self._out.append(data)
        if len(self._out) == 1:
            asyncio.get_running_loop().call_later(LATENCY_S, self._ship)

    def _ship(self) -> None:
        out, self._out, self.pending_bytes = self._out, [], 0
        if self._drained is not None:
            self._drained.set()
        for at in range(0, len(out), SLICE_MESSAGES):
            data = batch_of(out[at : at + SLICE_MESSAGES])
            self._mine.batches += 1
            self._far.arrived(data)

    def arrived(self, data: bytes) -> None:
        """Takes a batch from the far end."""
        if self.closed:
            return
        mine, begun = self._mine, time.thread_time()
        messages = decode_batch(data)
        mine.received += len(messages)
        mine.received_bytes += len(data)
        self._on_messages(messages)
        mine.cpu_s += time.thread_time() - begun

    async def drained(self, below: int) -> None:
        """Waits until fewer than `below` bytes are queued, or the link is closed."""
        while self.pending_bytes >= below and not self.closed:
            self._drained = asyncio.Event()
            await self._drained.wait()
            self._drained = None

    def close(self, reason: str) -> None:
        """Closes both ends; what is queued is lost."""
        for end in (self, self._far):
            if not end.closed:
                end.closed = True
                end._mine.links -= 1
                if end._drained is not None:
                    end._drained.set()
                asyncio.get_running_loop().call_soon(end._on_close, reason)


def joined(client: Traffic, dispatcher: Traffic) -> tuple[CountedWire, CountedWire]:
    """Returns the ends of a new link: the client's and the dispatcher's."""
    near, far = CountedWire(dispatcher.name, client), CountedWire(client.name, dispatcher)
    near._far, far._far = far, near
    client.links += 1
    dispatcher.links += 1
    return near, far
