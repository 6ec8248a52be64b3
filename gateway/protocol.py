"""The first protocol of every connection: looks at the request's head and gives the connection to who answers it."""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.handover import HandedOn
from gateway.handshake import HandshakeRefused, accept, check
from gateway.head import END, BadHead, Head, Route, read_head, route_of
from gateway.sse import open_sse
from gateway.websocket import WebSocketStream
from headgate.core.errors import Refusal
from headgate.core.framing import WEBSOCKET
from headgate.runtime.http.answers import head_too_large, head_too_late, problem_answer

if TYPE_CHECKING:
    from gateway.service import GatewayService


class Front:
    """What all connections of one uvicorn server share."""

    def __init__(
        self, gateway: "GatewayService", config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        self.gateway = gateway
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.connections: set[Any] = server_state.connections

    def look_again(self, handed: HandedOn, data: bytes) -> None:
        """Takes a connection back at the boundary of a request."""
        transport = handed.transport
        protocol = GatewayProtocol(self, handed)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)


class GatewayProtocol(asyncio.Protocol):
    """Gathers a request's head for at most ten seconds, then hands the connection over and is gone."""

    __slots__ = ("_buffer", "_front", "_handed", "_transport")

    def __init__(self, front: Front, handed: HandedOn | None = None) -> None:
        self._front = front
        self._handed = handed
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
        self._buffer = data = (self._buffer + data if self._buffer else data).lstrip(b"\r\n")
        if END in data:
            self._decide(route_of(data), data)
        elif data and not data[:1].isalpha():
            self._hand_over(data)  # no HTTP: uvicorn's parser says so
        elif len(data) > self._front.gateway.hub.limits.head_bytes:
            self._refuse(head_too_large())

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away before it had asked for anything."""
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

    def _decide(self, route: Route, data: bytes) -> None:
        if route.kind == "other":
            self._hand_over(data)
            return
        try:
            head = read_head(data)
        except BadHead:
            self._hand_over(data)  # uvicorn's parser refuses it in its own words
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
        front, handed = self._front, self._handed
        transport = self._release()
        if handed is None:
            handed = HandedOn(front)
            handed.connection_made(transport)
        else:
            front.connections.add(handed)
        transport.set_protocol(handed)
        handed.take(data)

    def _refuse(self, answer: bytes) -> None:
        transport = self._release()
        transport.write(answer)
        transport.close()

    def _release(self) -> asyncio.Transport:
        """Lets go of the connection; the wheel may hold this object a little longer."""
        transport, self._transport = self._transport, None
        self._front.connections.discard(self)
        self._handed = None
        self._buffer = b""
        return transport  # type: ignore[return-value]  # called once, by whoever has it
