"""The HTTP protocol for every request that is no stream, and the way back to the front at the request's end."""

from typing import TYPE_CHECKING, Final

from gateway.head import END, OTHER, route_of
from headgate.runtime.http.bounded import BoundedHttp

if TYPE_CHECKING:
    from gateway.protocol import Front

_MAX_HELD: Final = 1024 * 1024  # a few reads of the loop's: more than came before reading was paused


class HandedOn(BoundedHttp):
    """A connection that Starlette answers. Its next request may ask for a stream: the front looks at each head.

    Between two requests (`_between`) the bytes of the next are looked at first. What comes while an answer is still
    being written is held until it is complete, and no more is read (a second request within one segment stays here:
    Starlette then sends the client to a new connection).
    """

    def __init__(self, front: "Front") -> None:
        limits = front.gateway.hub.limits
        super().__init__(
            front.config,
            front.server_state,
            front.app_state,
            head_s=limits.head_s,
            head_bytes=limits.head_bytes,
        )
        self._front = front
        self._between = False
        self._held = b""

    def take(self, data: bytes) -> None:
        """Takes the bytes of a request that is no stream."""
        super().data_received(data)

    def data_received(self, data: bytes) -> None:
        if not self._between:
            super().data_received(data)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._hold(data)
        elif END in data and data[:1].isalpha() and route_of(data) == OTHER:
            super().data_received(data)
        else:
            self._unset_keepalive_if_required()
            self.connections.discard(self)
            self._front.look_again(self, data)

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._between = True

    def on_response_complete(self) -> None:
        super().on_response_complete()  # which reads again
        if self._held and not self.pipeline and not self.transport.is_closing():
            data, self._held = self._held, b""
            self.data_received(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        self.flow.pause_reading()
        if len(self._held) > _MAX_HELD:
            self.transport.close()
