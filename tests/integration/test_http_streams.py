"""An answer that is a stream, on a real port: it is closed when its client is gone, does not read, or it fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from headgate.runtime.http.application import HttpApp
from headgate.runtime.http.bounded import BoundedHttp
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.endpoints import EVENT_STREAM, AnswerShape, Endpoint
from headgate.runtime.http.paths import Paths
from headgate.runtime.http.server import Factory, HttpServer
from tests.integration.http_twin import serving

ROW = Endpoint("ingest", "GET", "/stream", "stream", AnswerShape(200, EVENT_STREAM), who="anyone")
ASK = b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n"


class Source:
    """Streams `piece` again and again; `fails` after the first."""

    def __init__(self, piece: bytes, *, fails: bool = False) -> None:
        self.began = 0
        self.ended = asyncio.Event()
        self._piece = piece
        self._fails = fails

    async def stream(self, call: Call) -> Reply:
        return Reply(200, b"", (), EVENT_STREAM.encode(), self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        self.began += 1
        try:
            while True:
                yield self._piece
                if self._fails:
                    raise ValueError("planted")
                await asyncio.sleep(0.001)
        finally:
            self.ended.set()


@contextlib.asynccontextmanager
async def port(source: Source, protocol: Factory = BoundedHttp) -> AsyncIterator[tuple[HttpApp, int]]:
    app = HttpApp(Paths([ROW], {"stream": source.stream}), None)
    async with serving(HttpServer("127.0.0.1", 0, app, protocol)) as number:
        yield app, number


async def test_it_is_closed_when_its_client_is_gone() -> None:
    source = Source(b":\n\n")
    async with port(source) as (app, number):
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(ASK)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"content-type: text/event-stream" in head
        assert b"content-length" not in head
        await reader.readuntil(b":\n\n")
        writer.close()
        async with asyncio.timeout(5):
            await source.ended.wait()
            await app.idle()


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    source = Source(b"x" * 65_536)
    async with port(source, partial(BoundedHttp, unread_s=0.5)) as (app, number):
        reader, writer = await asyncio.open_connection("127.0.0.1", number, limit=1_024)
        writer.write(ASK)
        async with asyncio.timeout(10):
            await source.ended.wait()
            await app.idle()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def test_a_head_begins_no_stream_and_one_that_fails_ends_the_connection() -> None:
    source = Source(b"1", fails=True)
    async with port(source) as (app, number):
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(ASK.replace(b"GET", b"HEAD"))
        await reader.readuntil(b"\r\n\r\n")
        assert source.began == 0
        writer.write(ASK)
        async with asyncio.timeout(5):
            text = await reader.read()
            assert b"\r\n1\r\n1\r\n" in text and not text.endswith(b"0\r\n\r\n"), "it is not whole"
            await app.idle()
        writer.close()
