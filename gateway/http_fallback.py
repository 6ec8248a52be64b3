"""The HTTP protocol for every request that is no stream, and the way back to the front when the next one is."""

from typing import TYPE_CHECKING

from gateway.head import OTHER, route_of
from headgate.runtime.http.bounded import BoundedHttp

if TYPE_CHECKING:
    from gateway.protocol import ServerShared


class HttpFallback(BoundedHttp):
    """A connection that Starlette answers. Each head is looked at: the next request may ask for a stream.

    A stream takes the connection once everything before it was answered; until then its request is held.
    """

    def __init__(self, front: "ServerShared") -> None:
        limits = front.gateway.hub.limits
        super().__init__(
            front.config,
            front.server_state,
            front.app_state,
            head_s=limits.head_s,
            head_bytes=limits.head_bytes,
            budget=front.budget,
        )
        self._front = front

    def route(self, head: bytes, data: bytes, at: int) -> bool:
        """See `BoundedHttp.route`."""
        if route_of(head) == OTHER:
            return True
        if not self.answering:
            self._front.take_back(self.release(), data[at:])
        return False
