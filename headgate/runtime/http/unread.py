"""Ends a connection whose client does not read its answers, or keeps sending after the last one."""

import asyncio
from typing import Final

UNREAD_S: Final = 10.0  # docs/protocol.md, section 0
LINGER_S: Final = 1.0


class UnreadAnswers:
    """Watches the bytes that are queued on one transport. Call `look` after each write.

    There is at most one timer, while bytes are queued: an answer that the socket takes at once costs one call.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, unread_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._unread_s = unread_s
        self._queued = 0  # bytes, at the last look
        self._since = 0.0  # the time since which the client has taken none of them
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Begins to watch if bytes are queued. Their time begins now."""
        queued = self._transport.get_write_buffer_size()
        if queued:
            self._queued, self._since = queued, self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._unread_s, self._look_again)

    def stop(self) -> None:
        """Stops the timer: the connection is gone."""
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


def half_close(transport: asyncio.Transport) -> None:
    """Closes our side once everything is written, and both where the client has just gone."""
    try:
        transport.write_eof()
    except OSError:  # from asyncio's own loop, before it has called `connection_lost`
        transport.abort()


def close_after(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, answer: bytes) -> None:
    """Writes a last answer and ends the connection. Nothing more is read.

    Our side is closed at once, the rest a second later: a close with unread bytes would make the kernel send a reset,
    and the client would lose the answer.
    """
    if transport.is_closing():
        return
    transport.write(answer)
    transport.pause_reading()
    if transport.can_write_eof():
        half_close(transport)
    loop.call_later(LINGER_S, transport.abort)
