"""The socket of a session, in either framing: a session's `Outlet` and a transport's protocol in one object."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.server_shared import ServerShared
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.runtime.http.unread import half_close

_LINGER_S: Final = 5.0


class Stream(asyncio.Protocol):
    """Takes over a transport for good. After `shut` bytes from the client are thrown away until it closes its side.

    Closing with bytes unread would make the kernel send a reset, and the client would lose our last bytes.
    """

    __slots__ = ("ended", "session", "shared", "transport", "write")

    write: Callable[[bytes], None]

    def __init__(self, shared: ServerShared, transport: asyncio.Transport) -> None:
        self.shared = shared
        self.transport = transport
        # The transport's own method: a flush calls it for every session.
        self.write = transport.write
        # None before a request became a stream, and after the connection is lost.
        self.session: Session | None = None
        # Our side is closed, or about to be: nothing more is written.
        self.ended = False
        shared.connections.add(self)
        transport.set_write_buffer_limits(high=shared.high_water, low=shared.low_water)
        transport.set_protocol(self)

    # What a session asks of its outlet

    def queued(self) -> int:
        """Returns the bytes the kernel has not yet taken."""
        return self.transport.get_write_buffer_size()

    def end(self, code: int, reason: str) -> None:
        """Ends the stream; an SSE stream has no code and no reason to send."""
        self.shut()

    def refuse(self, refusal: Refusal) -> None:
        """Answers with an HTTP status."""
        raise AssertionError("this stream has begun")

    def shut(self) -> None:
        """Closes our side once everything is written, and the other when the client does, or after 5 seconds.

        A transport that closes, since its client has, waits as long as the client does not read the rest.
        """
        if self.ended:
            return
        self.ended = True
        if not self.transport.is_closing():
            if self.transport.can_write_eof():
                half_close(self.transport)
            else:
                self.transport.close()
        self.shared.sessions.plan(self, _LINGER_S)

    def visit(self, now: float) -> None:
        """Aborts: the client had time enough to close its side. See `headgate.core.fanout.wheel.Visited`."""
        if not self.transport.is_closing() or self.queued():
            self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn stops; the drain has told the sessions before."""
        if self.ended:
            self.transport.close()
        elif self.session is not None:
            self.shared.sessions.leave(self.session)
        else:
            self.shut()

    def abort(self) -> None:
        """The process cannot wait any longer."""
        self.transport.abort()

    # What the transport calls

    def pause_writing(self) -> None:
        """The buffer is above the high-water mark."""
        if self.session is not None and not self.ended:
            self.shared.sessions.paused(self.session)

    def resume_writing(self) -> None:
        """The buffer is below the low-water mark again."""
        if self.session is not None and not self.ended:
            self.shared.sessions.resumed(self.session)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.ended = True
        self.shared.connections.discard(self)
        session, self.session = self.session, None
        if session is not None:
            self.shared.sessions.lost(session)
