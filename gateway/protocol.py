"""The first protocol of every connection: looks at the request's head and gives the connection to who answers it."""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.handshake import HandshakeRefused, accept, check
from gateway.head import OTHER, Head, HeadRefused, StreamRoute, read_head, route_of
from gateway.http_fallback import HttpFallback
from gateway.sse import open_sse
from gateway.websocket import WebSocketStream
from headgate.core.client.framing import WEBSOCKET
from headgate.core.wire.errors import Refusal
from headgate.runtime.http.answers import head_too_late, problem_answer
from headgate.runtime.http.heads import END, HeadBudget, begin_of, overloaded, refusal_of_head, refusal_of_start
from headgate.runtime.http.unread import close_after

if TYPE_CHECKING:
    from gateway.service import GatewayService


class ServerShared:
    """What all connections of one uvicorn server share."""

    def __init__(
        self, gateway: "GatewayService", config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        self.gateway = gateway
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.connections: set[Any] = server_state.connections
        self.budget = HeadBudget()

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """Takes a connection whose next request asks for a stream; `data` begins with its head."""
        protocol = GatewayProtocol(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)


class GatewayProtocol(asyncio.Protocol):
    """Gathers a request's head for at most ten seconds, then hands the connection over and is gone."""

    __slots__ = ("_buffer", "_front", "_transport")

    def __init__(self, front: ServerShared) -> None:
        self._front = front
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The deadline begins."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no subclasses
        self._front.connections.add(self)
        self._front.gateway.plan(self, self._front.gateway.hub.limits.head_s)

    def data_received(self, data: bytes) -> None:
        """Takes bytes of the head."""
        if self._transport is None:
            return  # answered; what still comes has no meaning
        before, limits = self._buffer, self._front.gateway.hub.limits
        data = before + data if before else data
        data = data[begin_of(data, 0) :]
        end = data.find(END, max(len(before) - len(END), 0))
        if end >= 0:
            self._decide(data, end + len(END))
            return
        answer = refusal_of_start(data, 0, limits.head_bytes)
        self._buffer = data
        if not self._front.budget.move(len(before), len(data)):
            answer = overloaded()
        if answer is not None:
            self._refuse(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away before it had asked for anything, or it was refused."""
        self._release()

    def visit(self, now: float) -> None:
        """The head did not come in time."""
        if self._transport is None:
            return
        if self._buffer:
            self._refuse(head_too_late())
        else:
            self._release().close()

    def shutdown(self) -> None:
        """uvicorn stops."""
        if self._transport is not None:
            self._release().close()

    def abort(self) -> None:
        """The process cannot wait any longer."""
        if self._transport is not None:
            self._release().abort()

    def _decide(self, data: bytes, end: int) -> None:
        """The head is complete: it ends at `end`."""
        answer = refusal_of_head(data[:end], self._front.gateway.hub.limits.head_bytes)
        route = route_of(data)
        if answer is not None:
            self._refuse(answer)
        elif route == OTHER:
            self._hand_over(data)
        else:
            self._open(route, data)

    def _open(self, route: StreamRoute, data: bytes) -> None:
        try:
            head = read_head(data)
            self._front.gateway.hosts.check(head.headers.get("host"))
        except HeadRefused as refused:
            self._refuse(refused.answer)
            return
        except Refusal as refusal:
            self._refuse(problem_answer(refusal))
            return
        if route.kind == "sse":
            front = self._front
            open_sse(front, self._release(), head, route.topic_id)
        else:
            self._open_websocket(head)

    def _open_websocket(self, head: Head) -> None:
        front, gateway = self._front, self._front.gateway
        try:
            check(head, gateway.origins, gateway.busy())
        except HandshakeRefused as refused:
            self._refuse(refused.answer)
            return
        transport = self._release()
        stream = WebSocketStream(front, transport)
        session = gateway.new_session(stream, WEBSOCKET)
        session.preface = accept(head)
        gateway.begin(session, head)
        if session.preface:  # silent until `auth`, but the handshake is answered
            session.put(b"")
        if head.rest and not stream.ended:
            stream.data_received(head.rest)

    def _hand_over(self, data: bytes) -> None:
        handed = HttpFallback(self._front)
        transport = self._release()
        handed.connection_made(transport)
        transport.set_protocol(handed)
        handed.data_received(data)

    def _refuse(self, answer: bytes) -> None:
        transport = self._release()
        self._front.connections.add(self)  # until it is gone
        close_after(transport, asyncio.get_running_loop(), answer)

    def _release(self) -> asyncio.Transport:
        """Lets go of the connection; the wheel may hold this object a little longer."""
        transport, self._transport = self._transport, None
        self._front.connections.discard(self)
        self._front.budget.move(len(self._buffer), 0)
        self._buffer = b""
        return transport  # type: ignore[return-value]  # called once, by whoever has it
