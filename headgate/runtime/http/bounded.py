"""uvicorn's HTTP protocol with what it leaves open: bounds on a request's head, and on what nobody reads; no route."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from headgate.runtime.http.answers import head_too_large, head_too_late

HEAD_S: Final = 10.0  # PROTOCOL section 7: request head and body deadline
HEAD_BYTES: Final = 64 * 1024
_BETWEEN_FIELDS: Final = 4  # the colon, the space and the line's end

Factory = Callable[..., asyncio.Protocol]


class BoundedHttp(HttpToolsProtocol):
    """A connection whose heads have `head_s` seconds and `head_bytes` bytes each: 408 and 431.

    An answer may be complete before its request is (413, 401, 415): what still comes of the body is thrown away, for
    `head_s` seconds at most. Closing at once would make the kernel send a reset, and the client lose the answer.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        head_s: float = HEAD_S,
        head_bytes: int = HEAD_BYTES,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False  # it would carry query strings, and so tokens
        self._head_s = head_s
        self._head_bytes = head_bytes
        self._in_head = True  # also while the next one has not begun
        self._gathered = 0  # bytes of a head that is not complete, as far as they came in pieces of their own
        self._heads = 0
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._begin_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        began_in_head, heads = self._in_head, self._heads
        if began_in_head:
            self._begin_deadline()
        super().data_received(data)
        if began_in_head and heads == self._heads and not self._refused:
            self._gathered += len(data)
            if self._gathered > self._head_bytes:
                self._refuse(head_too_large())

    def on_message_begin(self) -> None:
        if self._refused:
            return
        self._begin_deadline()
        self._gathered = max(self._gathered, 1)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        self._end_deadline()
        self._in_head = False
        self._gathered = 0
        self._heads += 1
        size = len(self.url) + sum(len(name) + len(value) + _BETWEEN_FIELDS for name, value in self.headers)
        if size > self._head_bytes:
            self._refuse(head_too_large())
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        self._end_deadline()
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head and self.cycle.response_complete and not self.transport.is_closing():
            self._begin_deadline()

    def _begin_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._head_s, self._late)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._in_head and self._gathered:
            self._refuse(head_too_late())
        elif self._in_head:
            self._refuse(b"")  # it never said anything
        else:
            self.transport.close()  # the answer is long there, and the body still comes

    def _refuse(self, answer: bytes) -> None:
        """Ends the connection with an answer, or, where earlier requests wait for theirs, without one after them."""
        self._refused = True
        self._end_deadline()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        if answer:
            self.transport.write(answer)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that nobody serves is answered as a plain request; no reason to warn."""


def bounded(head_s: float) -> Factory:
    """Returns the value of uvicorn's setting `http` for heads of at most `head_s` seconds."""

    def make(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        return BoundedHttp(config, server_state, app_state, _loop, head_s=head_s)

    return make
