"""An application that answers with what it was asked, on every kind of port there is, and raw bytes to ask with."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from headgate.runtime.admin import AdminServer
from headgate.runtime.http.bounded import bounded
from headgate.runtime.http.server import HttpServer
from headgate.runtime.metrics import Metrics
from tests.integration.gateway_twin import gateway


class Echo:
    """Answers 200 with method, path and the body's text; waits before that while `wait` is not set."""

    def __init__(self) -> None:
        self.wait = asyncio.Event()
        self.wait.set()
        self.asked: list[tuple[str, str, str]] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        await self.wait.wait()
        self.asked.append((scope["method"], scope["path"], body.decode()))
        self.headers.append(scope["headers"])
        text = json.dumps(self.asked[-1]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text})


@contextlib.asynccontextmanager
async def serving(server: HttpServer) -> AsyncIterator[int]:
    task = asyncio.create_task(server.serve())
    try:
        yield server.port
    finally:
        await server.finish()
        await task


@contextlib.asynccontextmanager
async def plain_port(echo: Echo) -> AsyncIterator[int]:
    async with serving(HttpServer("127.0.0.1", 0, echo, bounded(10.0))) as port:
        yield port


@contextlib.asynccontextmanager
async def dev_port(echo: Echo) -> AsyncIterator[int]:
    """The gateway's protocol in front of another application, as `dev` has it."""
    async with (
        gateway() as gate,
        serving(HttpServer("127.0.0.1", 0, gate.service.app(echo), gate.service.protocol)) as port,
    ):
        yield port


@contextlib.asynccontextmanager
async def gateway_port(echo: Echo) -> AsyncIterator[int]:
    async with gateway() as gate:
        yield gate.server.port


@contextlib.asynccontextmanager
async def admin_port(echo: Echo) -> AsyncIterator[int]:
    async with serving(AdminServer("127.0.0.1", 0, Metrics(frozenset({"gateway"})), {})) as port:
        yield port


Port = Callable[[Echo], Any]


class Raw:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def say(self, *segments: bytes) -> None:
        for segment in segments:
            self.writer.write(segment)
            await self.writer.drain()
            if len(segments) > 1:
                await asyncio.sleep(0.005)

    async def answer(self) -> tuple[int, bytes]:
        """Returns status and body of the next answer."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            return int(head.split(b" ", 2)[1]), await self.reader.readexactly(size)

    async def silent(self) -> bool:
        """Says that nothing more comes, though the connection is open."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                return await self.reader.read(1) == b"" and False
        return True

    async def ended(self) -> bytes:
        """Returns what comes until the far end closes."""
        return await rest_of(self.reader)

    def close(self) -> None:
        self.writer.close()

    async def gone(self) -> None:
        """Closes, and returns when it is closed."""
        self.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Returns what comes until the far end closes or resets the connection; a reset loses nothing that came before."""
    came = b""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(65_536):
                came += more
    return came


def request(method: str, path: str, body: bytes = b"", *fields: str) -> bytes:
    """Returns a request; with a body its length is announced unless `fields` name a framing."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    if body and not any("transfer" in field.lower() for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, size: int = 7, trailer: bytes = b"") -> bytes:
    """Returns a body in chunks of `size` bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cuts data into segments."""
    return [data[at : at + size] for at in range(0, len(data), size)]
