"""The first protocol of every connection: reads the first request's head and chooses the protocol that answers it."""

import asyncio

from gateway.handshake import check
from gateway.head import OTHER, HeadRefused, StreamRoute, read_head, route_of
from gateway.http_fallback import HttpFallback
from gateway.server_shared import ServerShared
from gateway.sse import open_sse
from gateway.websocket import open_websocket
from headgate.core.wire.errors import Refusal
from headgate.runtime.http.answers import head_too_late, problem_answer
from headgate.runtime.http.heads import END, begin_of, overloaded, refusal_of_head, refusal_of_start
from headgate.runtime.http.unread import close_after


class GatewayProtocol(asyncio.Protocol):
    """Waits at most `limits.head_s` seconds for a complete head, then hands the connection over."""

    __slots__ = ("_buffer", "_deadline", "_shared", "_transport")

    def __init__(self, shared: ServerShared) -> None:
        self._shared = shared
        # The incomplete head; its bytes are counted in the budget.
        self._buffer = b""
        # None before the connection is made, and once it was handed over or refused.
        self._transport: asyncio.Transport | None = None
        # For a complete head, in monotonic seconds.
        self._deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the deadline of the head."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no subclasses
        self._shared.connections.add(self)
        # At the next tick nearly all heads are there: their protocols are then freed, not kept until the deadline.
        self._deadline = self._shared.sessions.plan(self, 0.0) + self._shared.limits.head_s

    def data_received(self, data: bytes) -> None:
        """Takes bytes of the head."""
        if self._transport is None:
            return  # refused: later bytes have no meaning
        before = self._buffer
        data = before + data if before else data
        begin = begin_of(data, 0)
        if begin:
            data = data[begin:]
        end = data.find(END, max(len(before) - len(END), 0))
        if end >= 0:
            self._decide(data, end + len(END))
            return
        answer = refusal_of_start(data, len(before), self._shared.limits.head_bytes)
        self._buffer = data
        if not self._shared.budget.move(len(before), len(data)):
            answer = overloaded()
        if answer is not None:
            self._refuse(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away before its head was complete, or after it was refused."""
        self._release()

    def visit(self, now: float) -> float | None:
        """Ends a connection whose head did not come in time. See `headgate.core.fanout.wheel.Visited`."""
        if self._transport is None:
            return None
        if now < self._deadline:
            return self._deadline
        if self._buffer:
            self._refuse(head_too_late())
        else:
            self._release().close()
        return None

    def shutdown(self) -> None:
        """uvicorn stops."""
        if self._transport is not None:
            self._release().close()

    def abort(self) -> None:
        """The process cannot wait any longer."""
        if self._transport is not None:
            self._release().abort()

    def _decide(self, data: bytes, end: int) -> None:
        """Chooses who answers; the head is complete and ends at `end`."""
        answer = refusal_of_head(data[:end], self._shared.limits.head_bytes)
        route = route_of(data)
        if answer is not None:
            self._refuse(answer)
        elif route == OTHER:
            self._hand_over(data)
        else:
            self._open(route, data)

    def _open(self, route: StreamRoute, data: bytes) -> None:
        shared = self._shared
        try:
            head = read_head(data)
            shared.hosts.check(head.headers.get("host"))
            if route.kind == "websocket":
                check(head, shared.origins, shared.sessions.busy())
        except HeadRefused as refused:
            self._refuse(refused.answer)
        except Refusal as refusal:
            self._refuse(problem_answer(refusal))
        else:
            if route.kind == "websocket":
                open_websocket(shared, self._release(), head)
            else:
                open_sse(shared, self._release(), head, route.topic_id)

    def _hand_over(self, data: bytes) -> None:
        http = HttpFallback(self._shared, _take_back)
        transport = self._release()
        http.connection_made(transport)
        transport.set_protocol(http)
        http.data_received(data)

    def _refuse(self, answer: bytes) -> None:
        transport = self._release()
        self._shared.connections.add(self)  # until it is gone
        close_after(transport, asyncio.get_running_loop(), answer)

    def _release(self) -> asyncio.Transport:
        """Gives the connection up; a planned visit may keep this object alive until then."""
        transport, self._transport = self._transport, None
        self._shared.connections.discard(self)
        if self._buffer:
            self._shared.budget.move(len(self._buffer), 0)
            self._buffer = b""
        return transport  # type: ignore[return-value]  # called once, by whoever has it


def _take_back(shared: ServerShared, transport: asyncio.Transport, data: bytes) -> None:
    """Takes a connection whose next request asks for a stream; `data` begins with its head."""
    protocol = GatewayProtocol(shared)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    protocol.data_received(data)
