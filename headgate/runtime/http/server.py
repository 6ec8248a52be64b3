"""One HTTP port, served by uvicorn without its signal handlers and access log, on a socket of ours."""

import asyncio
import contextlib
import socket
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

BACKLOG: Final = 4_096  # all clients of a gateway may reconnect at once
KEEP_ALIVE_S: Final = 75
CONNECTIONS: Final = 100_000
_STOP_S: Final = 2  # for unfinished answers; then uvicorn logs an error
_ABORT_S: Final = 1.5  # shorter: connections that do not read are cut before uvicorn logs
_DATE_S: Final = 1.0
_SAY_EVERY_S: Final = 60.0
_CLOSE: Final = (b"connection", b"close")

Factory = Callable[..., asyncio.Protocol]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role decides what a signal means."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.servers: list[asyncio.Server] = []  # uvicorn makes it in `startup` only
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen. Cancelled half way, asyncio would lose a server that nobody can close any more."""
        starting = asyncio.ensure_future(super().startup(sockets=sockets))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting
            raise

    async def main_loop(self) -> None:
        """Renews the header `date` every second until `leave`; uvicorn's own looks ten times a second for its end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_S):
                    await self._leaving.wait()

    def leave(self) -> None:
        """Ends `main_loop`."""
        self.should_exit = True
        self._leaving.set()


class HttpServer:
    """Serves an ASGI application, or an `asyncio.Protocol` class in front of it, on a socket bound at once.

    At most `connections` are open; one more is closed at once.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: Any,
        protocol: Factory = BoundedHttp,
        *,
        connections: int = CONNECTIONS,
        shared: bool = False,
    ) -> None:
        """Binds, `shared` with other processes. Raises OSError whose message names the address."""
        self._socket = listen(host, port, BACKLOG, shared=shared)
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
        self._is_serving = False
        self._served = asyncio.Event()

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._socket.getsockname()[1])

    async def serve(self) -> None:
        """Serves until `finish` or `close`."""
        if self._served.is_set():
            return
        self._is_serving = True
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self.close()

    def end_idle(self) -> None:
        """Closes connections that wait for a next request; others end with their answer. Still listens."""
        state = self._server.server_state
        self._config.encoded_headers.append(_CLOSE)
        state.default_headers = [*state.default_headers, _CLOSE]
        for connection in list(state.connections):
            if isinstance(connection, BoundedHttp):
                connection.end_idle()

    async def finish(self) -> None:
        """Stops listening, finishes the answers under way, and returns when `serve` has returned.

        A server that was never served, because its task was cancelled before it began, is closed.
        """
        if not self._is_serving:
            self.close()
            return
        self._server.leave()
        try:
            async with asyncio.timeout(_ABORT_S):
                await self._served.wait()
        except TimeoutError:
            self._abort()
        await self._served.wait()

    def close(self) -> None:
        """Stops listening and cuts the connections, at once. May be called again."""
        for server in self._server.servers:
            server.close()
        self._socket.close()
        self._abort()
        self._served.set()

    def _abort(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.abort()  # type: ignore[union-attr]  # all protocols of ours have it


class _Places:
    """Makes the protocol of each connection while there is room."""

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
        """Makes the protocol. It counts before it has a transport: many may come in one turn of the loop."""
        if len(server_state.connections) >= self._most:
            self._say()
            return _TurnedAway()
        protocol = self._protocol(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        server_state.connections.add(protocol)  # type: ignore[arg-type]  # uvicorn's own, or classes that act like them
        return protocol

    def _say(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            logger.warning("all connections are taken; more are closed at once", connections=self._most)


class _TurnedAway(asyncio.Protocol):
    """A connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Resets it."""
        transport.abort()  # type: ignore[attr-defined]  # a stream's transport
