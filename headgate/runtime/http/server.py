"""One HTTP port served by uvicorn on our terms: own signals, own socket, no access log; knows no route."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from headgate.runtime.http.bounded import BoundedHttp

BACKLOG: Final = 4_096  # a gateway's clients come back all at once
KEEP_ALIVE_S: Final = 75


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role decides what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an ASGI application, or an `asyncio.Protocol` class in front of it, on a socket bound at once."""

    def __init__(self, host: str, port: int, app: Any, protocol: Any = BoundedHttp) -> None:
        """Binds. Raises OSError whose message names the address."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            loop="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)
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

    async def finish(self) -> None:
        """Stops listening, finishes what is being answered, and returns once `serve` has."""
        self._server.should_exit = True
        await self._served.wait()
