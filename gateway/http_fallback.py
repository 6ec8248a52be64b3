"""The HTTP protocol for every request that does not ask for a stream."""

import asyncio
from collections.abc import Callable

from gateway.head import OTHER, route_of
from gateway.server_shared import ServerShared
from headgate.runtime.http.bounded import BoundedHttp

TakeBack = Callable[[ServerShared, asyncio.Transport, bytes], None]


class HttpFallback(BoundedHttp):
    """A connection that the ASGI application answers, until a request asks for a stream.

    Such a request waits until all requests before it are answered. Then the connection goes back with `take_back`,
    which gets the transport and the bytes from the request's head on.
    """

    def __init__(self, shared: ServerShared, take_back: TakeBack) -> None:
        super().__init__(
            shared.config,
            shared.server_state,
            shared.app_state,
            head_s=shared.limits.head_s,
            head_bytes=shared.limits.head_bytes,
            budget=shared.budget,
        )
        self._shared = shared
        self._take_back = take_back

    def route(self, head: bytes, data: bytes, at: int) -> bool:
        """See `BoundedHttp.route`."""
        if route_of(head) == OTHER:
            return True
        if not self.answering:
            self._take_back(self._shared, self.release(), data[at:])
        return False
