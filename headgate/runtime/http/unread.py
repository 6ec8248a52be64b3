"""How a connection ends whose far end does not do its part: it does not read, or goes on sending; knows no request."""

import asyncio
from typing import Final

UNREAD_S: Final = 10.0  # PROTOCOL section 0
LINGER_S: Final = 1.0


class UnreadAnswers:
    """Watches what is queued on one transport. `look` is to be called whenever something was written.

    One timer at most, and only while something is queued: an answer that was taken at once costs a call.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, unread_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._unread_s = unread_s
        self._queued = 0  # bytes, when we looked last
        self._since = 0.0  # how long the far end has taken none of them
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Begins to watch when something is queued; its time begins now."""
        queued = self._transport.get_write_buffer_size()
        if queued:
            self._queued, self._since = queued, self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._unread_s, self._look_again)

    def stop(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        self._timer = None
        queued, left = self._transport.get_write_buffer_size(), self._since + self._unread_s - self._loop.time()
        if queued < self._queued:
            self.look()
        elif queued and left <= 0:
            self._transport.abort()
        elif queued:
            self._timer = self._loop.call_later(left, self._look_again)


def close_after(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, answer: bytes) -> None:
    """Writes a last answer and ends the connection, reading nothing any more.

    Our side is closed at once, the rest a second later: a close with bytes unread would make the kernel send a reset,
    and the far end lose the answer.
    """
    if transport.is_closing():
        return
    transport.write(answer)
    transport.pause_reading()
    if transport.can_write_eof():
        transport.write_eof()
    loop.call_later(LINGER_S, transport.abort)
