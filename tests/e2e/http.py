"""A small HTTP/1.1 client over asyncio streams with kept connections: the load costs the servers' CPU, not ours.

With httpx `test_separate.py` published for 21 s, with this 6 s (one run each): under pytest every httpx request
looks for modules that are not installed. Must not know what is asked.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlencode, urlsplit

CONNECT_S = 5.0


class NoAnswer(ConnectionError):
    """The connection ended before the answer was complete, or there was none to begin with."""


class HttpAnswer(NamedTuple):
    """Status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Http:
    """One server. Requests run at once, each on a connection of its own while it lasts."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, *, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._timeout_s = timeout_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in list(self._open):
            await self._close(writer)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> HttpAnswer:
        """Returns the answer. Raises NoAnswer; TimeoutError after the time that was given."""
        async with asyncio.timeout(self._timeout_s):
            reader, writer = await self._connection()
            try:
                writer.write(self._request(method, path, body, query, headers))
                answer = await _read_answer(reader, method)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError) as error:
                await self._close(writer)
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise NoAnswer(f"{method} {path}: {error}") from None
            if answer.headers.get("connection") == "close":
                await self._close(writer)
            else:
                self._idle.append((reader, writer))
            return answer

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: dict[str, str], headers: dict[str, str]):  # type: ignore[no-untyped-def]
        """Yields the answer's head and a reader of its body, which lasts until the server closes.

        Raises NoAnswer when the connection ends before that, a reset by a server that just went included.
        """
        reader, writer = await self._connect()
        try:
            writer.write(self._request("GET", path, None, query, headers))
            yield await _read_head(reader), reader
        except (OSError, asyncio.IncompleteReadError) as error:
            raise NoAnswer(f"GET {path}: {error}") from None
        finally:
            await self._close(writer)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        query: dict[str, str] | None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        target = f"{path}?{urlencode(query)}" if query else path
        own = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if body is not None:
            own += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n{self._head}{own}\r\n".encode() + (body or b"")

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            await self._close(writer)
        return await self._connect()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(self._host, self._port), CONNECT_S)
        except OSError as error:
            raise NoAnswer(str(error)) from None
        self._open.add(writer)
        return reader, writer

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> HttpAnswer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return HttpAnswer(int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}, b"")


async def _read_answer(reader: asyncio.StreamReader, method: str) -> HttpAnswer:
    head = await _read_head(reader)
    if head.status == 204 or method == "HEAD":
        return head
    assert "content-length" in head.headers, f"an answer without Content-Length: {head}"
    return head._replace(body=await reader.readexactly(int(head.headers["content-length"])))
