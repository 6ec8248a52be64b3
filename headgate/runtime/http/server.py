"""One HTTP port served by uvicorn on our terms: own signals, own socket, no access log; knows no route."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog
import uvicorn
from uvicorn.config import Config
from uvicorn.server import ServerState

from headgate.runtime.http.answers import ALWAYS
from headgate.runtime.http.bounded import BoundedHttp
from headgate.runtime.sockets import listen

logger = structlog.get_logger("http")

BACKLOG: Final = 4_096  # a gateway's clients come back all at once
KEEP_ALIVE_S: Final = 75
CONNECTIONS: Final = 100_000
_STOP_S: Final = 2  # uvicorn's patience with answers under way; it ends with an error line
_ABORT_S: Final = 1.5  # ours, shorter: who does not read by then is cut, and nothing is left to complain about
_SAY_EVERY_S: Final = 60.0
_CLOSE: Final = (b"connection", b"close")

Factory = Callable[..., asyncio.Protocol]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role decides what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an ASGI application, or an `asyncio.Protocol` class in front of it, on a socket bound at once.

    At most `connections` are held; one above is closed at once.
    """

    def __init__(
        self, host: str, port: int, app: Any, protocol: Factory = BoundedHttp, *, connections: int = CONNECTIONS
    ) -> None:
        """Binds. Raises OSError whose message names the address."""
        self._socket = listen(host, port, BACKLOG)
        self._config = uvicorn.Config(
            app,
            http=_Places(protocol, connections).make,  # type: ignore[arg-type]  # a factory will do
            ws="none",
            loop="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            headers=[(name.decode(), value.decode()) for name, value in ALWAYS],
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = _Server(self._config)
        self._served = asyncio.Event()

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._socket.getsockname()[1])

    async def serve(self) -> None:
        """Answers until `finish`."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._served.set()

    def end_idle(self) -> None:
        """Closes the connections that wait for a next request, and from now on each at its answer. Still listens."""
        state = self._server.server_state
        self._config.encoded_headers.append(_CLOSE)
        state.default_headers = [*state.default_headers, _CLOSE]
        for connection in list(state.connections):
            if isinstance(connection, BoundedHttp):
                connection.end_idle()

    async def finish(self) -> None:
        """Stops listening, finishes what is being answered, and returns once `serve` has."""
        self._server.should_exit = True
        try:
            async with asyncio.timeout(_ABORT_S):
                await self._served.wait()
        except TimeoutError:
            for connection in list(self._server.server_state.connections):
                connection.abort()  # type: ignore[union-attr]  # all protocols of ours have it
        await self._served.wait()


class _Places:
    """Makes the protocol of each connection that there is a place for."""

    def __init__(self, protocol: Factory, most: int) -> None:
        self._protocol = protocol
        self._most = most
        self._said_at = float("-inf")

    def make(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Makes the protocol; it is counted from now on, before its transport is there: many may come in one turn."""
        if len(server_state.connections) >= self._most:
            self._say()
            return _TurnedAway()
        protocol = self._protocol(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        server_state.connections.add(protocol)  # type: ignore[arg-type]  # uvicorn's own, or what acts like them
        return protocol

    def _say(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            logger.warning("all connections are taken; more are closed at once", connections=self._most)


class _TurnedAway(asyncio.Protocol):
    """A connection that there is no place for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Resets it."""
        transport.abort()  # type: ignore[attr-defined]  # a stream's transport
