"""Heads and unread bodies on the port that ingest and the admin server have: bounded in time and size, on loopback."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.runtime.http.bounded import HEAD_BYTES, bounded
from headgate.runtime.http.server import HttpServer
from tests.integration.http_twin import rest_of

FOR_EVER_S = 60.0


class App:
    """Answers 413 at once, or (`wait`) after that; reads no body."""

    def __init__(self) -> None:
        self.wait = asyncio.Event()
        self.wait.set()
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.wait.wait()
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"##"})


@contextlib.asynccontextmanager
async def served(protocol: Any = None) -> AsyncIterator[tuple[App, asyncio.StreamReader, asyncio.StreamWriter]]:
    app = App()
    options = () if protocol is None else (protocol,)
    server = HttpServer("127.0.0.1", 0, app, *options)
    serving = asyncio.create_task(server.serve())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(10):
            yield app, reader, writer
    finally:
        writer.close()
        await server.finish()
        await serving


async def dribble(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.02)


def problem(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_a_head_that_dribbles_is_408_at_its_deadline() -> None:
    async with served(bounded(0.3)) as (app, reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: h\r\n")
        slow = asyncio.create_task(dribble(writer, b"a: b\r\n"))
        answer = await rest_of(reader)
        slow.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ") and problem(answer)["code"] == "request_timeout"
        assert app.asked == 0


@pytest.mark.parametrize("first", [b"", b"\r\n"])
async def test_a_connection_that_asks_nothing_is_closed(first: bytes) -> None:
    async with served(bounded(0.2)) as (_, reader, writer):
        writer.write(first)
        assert (await rest_of(reader))[:12] in (b"", b"HTTP/1.1 408")


async def test_a_second_head_on_the_connection_has_a_deadline_too() -> None:
    async with served(bounded(0.3)) as (_, reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: h\r\n\r\nGET / HT")
        answer = await rest_of(reader)
        assert answer.count(b"HTTP/1.1 413 ") == 1
        assert answer.partition(b"##")[2].startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_above_64_kib_is_431_whole_or_not_by_default(end: bytes) -> None:
    async with served() as (app, reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: h\r\na: " + b"x" * (HEAD_BYTES + 1) + end)
        answer = await rest_of(reader)
        assert answer.startswith(b"HTTP/1.1 431 ") and problem(answer)["status"] == 431
        assert app.asked == 0


async def test_a_large_body_behind_a_small_head_is_no_large_head() -> None:
    async with served() as (app, reader, writer):
        body = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000
        writer.write(body)
        assert (await reader.readuntil(b"##")).startswith(b"HTTP/1.1 413 ")
        writer.write(body)
        assert (await reader.readuntil(b"##")).startswith(b"HTTP/1.1 413 ")
        assert app.asked == 2


async def test_a_body_that_dribbles_behind_an_early_refusal_ends_the_connection() -> None:
    async with served(bounded(0.3)) as (_, reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\n")
        slow = asyncio.create_task(dribble(writer, b"x"))
        answer = await rest_of(reader)
        slow.cancel()
        assert answer.startswith(b"HTTP/1.1 413 ") and answer.endswith(b"##")


async def test_a_late_pipelined_head_does_not_cut_the_answer_before_it() -> None:
    async with served(bounded(0.2)) as (app, reader, writer):
        app.wait.clear()
        writer.write(b"GET / HTTP/1.1\r\nhost: h\r\n\r\nGET / HT")
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        asyncio.get_running_loop().call_later(0.4, app.wait.set)
        answer = await rest_of(reader)
        assert answer.startswith(b"HTTP/1.1 413 ") and answer.endswith(b"##")
