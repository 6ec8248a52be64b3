"""What carries frames: a WebSocket, or event streams where WebSockets are blocked; and which of them is next."""

from asyncio import Future
from typing import Final, Literal, Protocol

from headgate_client.errors import ClientError
from headgate_client.frames import Frame

MAX_FRAME: Final = 4 * 1024 * 1024  # the largest payload a server may be set to, with room
OPEN_S: Final = 10.0
BLOCKED_TRIES: Final = 2  # WebSockets in a row that could not be opened, none ever open, until event streams are tried

Way = Literal["websocket", "sse"]
Wanted = Literal["auto", "websocket", "sse"]


class TransportEnded(ClientError):
    """The connection is gone; `Transport.close_code` says how."""


class NotOpened(ClientError):
    """A connection could not be opened. `status`: of an HTTP answer in place of it."""

    def __init__(self, why: str, status: int | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.retry_after_ms = retry_after_ms

    @property
    def is_final(self) -> bool:
        """Whether the same request would be answered in the same way."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in (408, 429)


class Transport(Protocol):
    """An open connection. `two_way`: it takes every frame, `refresh` too, and answers `ping`."""

    two_way: bool

    @property
    def close_code(self) -> int:
        """Of the end; 1006 when there was none."""

    async def recv(self) -> bytes:
        """Returns the next frame. Raises TransportEnded."""

    async def send(self, frame: Frame) -> None:
        """Sends a frame. Raises TransportEnded."""

    async def ping(self) -> "Future[float]":
        """Sends a ping; what it returns is done when the answer is there. Raises TransportEnded."""

    async def pong(self) -> None:
        """Tells the other end that this one lives. Raises TransportEnded."""

    async def close(self) -> None:
        """Ends it, with a close frame where there are such."""

    async def abort(self) -> None:
        """Ends it at once. It may have ended already."""


class TransportChoice:
    """Which transport the next connection has. Pure."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._opened: set[Way] = set()  # what was ever open
        self._failed = 0  # WebSockets in a row
        self._since = 0  # connections since they count as blocked

    def next(self, *, needs_websocket: bool) -> Way:
        """Returns the next transport. `needs_websocket`: a topic is followed with acknowledgements."""
        if self._wanted != "auto":
            return self._wanted
        if needs_websocket or "websocket" in self._opened or self._failed < BLOCKED_TRIES:
            return "websocket"
        self._since += 1
        return "websocket" if self._since % (BLOCKED_TRIES + 1) == 0 else "sse"  # the network may have changed

    def opened(self, way: Way) -> None:
        """A connection was opened."""
        self._opened.add(way)

    def not_opened(self, way: Way, error: NotOpened, *, needs_websocket: bool) -> bool:
        """A connection was not opened. Returns whether event streams are worth a try at once."""
        if way == "sse":
            return False
        may_help = self._failed < BLOCKED_TRIES or "sse" in self._opened
        if error.status is None:
            self._failed += 1
        elif error.is_final:
            self._failed = max(self._failed, BLOCKED_TRIES)
        excluded = self._wanted != "auto" or needs_websocket or "websocket" in self._opened
        return error.is_final and may_help and not excluded
