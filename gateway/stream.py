"""The socket of a session, in either framing: what a transport asks and says; knows nothing of what is delivered."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal

if TYPE_CHECKING:  # the front makes streams, a stream leaves the front's list
    from gateway.protocol import ServerShared

_LINGER_S: Final = 5.0


class Stream(asyncio.Protocol):
    """Takes over a transport for good. After `shut` what still comes in is thrown away until the far end closes.

    A close with bytes unread would make the kernel send a reset, and the client would lose our last words.
    """

    __slots__ = ("ended", "front", "session", "transport", "write")

    write: Callable[[bytes], None]

    def __init__(self, front: "ServerShared", transport: asyncio.Transport) -> None:
        self.front = front
        self.transport = transport
        self.write = transport.write
        self.session: Session | None = None
        self.ended = False
        front.connections.add(self)
        limits = front.gateway.hub.limits
        transport.set_write_buffer_limits(high=limits.high_water, low=limits.low_water)
        transport.set_protocol(self)

    # What core asks of a socket

    def queued(self) -> int:
        """Returns the bytes the kernel has not yet taken."""
        return self.transport.get_write_buffer_size()

    def end(self, code: int, reason: str) -> None:
        """Says goodbye; an SSE stream just ends."""
        self.shut()

    def refuse(self, refusal: Refusal) -> None:
        """Answers with an HTTP status."""
        raise AssertionError("this stream has begun")

    def shut(self) -> None:
        """Closes our side once everything is written, and the rest when the far end has, or after some seconds."""
        if self.ended:
            return
        self.ended = True
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        self.front.gateway.plan(self, _LINGER_S)

    def visit(self, now: float) -> None:
        """The far end had time enough."""
        if not self.transport.is_closing() or self.queued():
            self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn stops; the service has told the sessions before."""
        if self.ended:
            self.transport.close()
        elif self.session is not None:
            self.front.gateway.leave(self.session)
        else:
            self.shut()

    def abort(self) -> None:
        """The process cannot wait any longer."""
        self.transport.abort()

    # What the transport says

    def pause_writing(self) -> None:
        """The socket takes no more."""
        if self.session is not None and not self.ended:
            self.front.gateway.paused(self.session)

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        if self.session is not None and not self.ended:
            self.front.gateway.resumed(self.session)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.ended = True
        self.front.connections.discard(self)
        session, self.session = self.session, None
        if session is not None:
            self.front.gateway.lost(session)
