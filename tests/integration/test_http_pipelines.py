"""Requests behind others on one connection: what ends or fails must not be taken for the request before it."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from headgate.runtime.http import application
from headgate.runtime.http.application import HttpApp
from headgate.runtime.http.bounded import BoundedHttp
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.callers import Users
from headgate.runtime.http.endpoints import Endpoint
from headgate.runtime.http.heads import refusal_of_start
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.paths import Paths
from headgate.runtime.http.server import HttpServer
from headgate.runtime.logging import REQUEST_ID
from headgate.runtime.system import SystemClock
from headgate.runtime.tokens import Authenticator, TokenKey
from tests.integration.http_twin import Echo, Port, Raw, dev_port, pieces, plain_port, request, serving
from tests.integration.test_http_streams import ASK, Source
from tests.integration.test_http_streams import port as stream_port

LARGE = 8 * 1024 * 1024
ROW = Endpoint("ingest", "GET", "/large", "large", who="anyone")


@contextmanager
def who_does_not_read(number: int, requests: bytes) -> Iterator[None]:
    """A client that has sent these, and whose kernel takes little of the answers."""
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        reader.connect(("127.0.0.1", number))
        reader.sendall(requests)
        yield


async def large(call: Call) -> Reply:
    call.share.open("reader", LARGE)
    return Reply(200, b"x" * LARGE)


async def test_a_stream_with_a_request_behind_it_is_closed_when_its_client_is_gone() -> None:
    source = Source(b":\n\n")
    async with stream_port(source) as (app, number):
        client = await Raw.to(number)
        await client.say(ASK + ASK)
        await client.reader.readuntil(b":\n\n")
        client.close()
        async with asyncio.timeout(5):
            await source.ended.wait()
            await app.idle()
        assert source.began == 1


@pytest.mark.parametrize("behind", [b"", ASK, ASK * 3])
async def test_a_large_answer_that_is_read_too_slowly_gives_its_memory_back(behind: bytes) -> None:
    budget = MemoryBudget()
    app = HttpApp(Paths([ROW], {"large": large}), None, budget=budget, deadline_s=0.3)
    async with serving(HttpServer("127.0.0.1", 0, app, partial(BoundedHttp, unread_s=30.0))) as number:
        with who_does_not_read(number, request("GET", "/large") + behind):
            async with asyncio.timeout(10):
                while not budget.size:
                    await asyncio.sleep(0.01)
                await app.idle()
            assert (budget.size, budget.by_user) == (0, {})


async def test_the_head_of_an_answer_behind_one_that_is_not_read_has_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(application, "PIECE_BYTES", 2 * LARGE)
    budget = MemoryBudget()
    app = HttpApp(Paths([ROW], {"large": large}), None, budget=budget, deadline_s=0.3)
    async with serving(HttpServer("127.0.0.1", 0, app, partial(BoundedHttp, unread_s=30.0))) as number:
        with who_does_not_read(number, request("GET", "/large") * 2):
            async with asyncio.timeout(10):
                while not budget.size:
                    await asyncio.sleep(0.01)
                await app.idle()
            assert budget.size == 0


async def test_a_log_line_does_not_name_the_request_before(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[bytes] = []

    async def get(call: Call) -> Reply:
        named.append(REQUEST_ID.get())
        return Reply(200, b"{}")

    row = Endpoint("ingest", "GET", "/named", "get")
    users = Users(Authenticator("open", TokenKey(None), SystemClock()), Origins(None, is_open=True))
    async with serving(HttpServer("127.0.0.1", 0, HttpApp(Paths([row], {"get": get}), users))) as number:
        client = await Raw.to(number)
        await client.say(request("GET", "/named", b"", "X-Request-Id: r-1") + request("GET", "/named"))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        client.close()
    assert named == [b"r-1", b""]


@pytest.mark.parametrize("port", [plain_port, dev_port])
@pytest.mark.parametrize("head", [b"GET //:x HTTP/1.1", b"GET http://[::1/x HTTP/1.1", b"GET http:///x HTTP/1.1"])
async def test_a_head_that_is_refused_late_takes_no_answer_from_the_request_before_it(port: Port, head: bytes) -> None:
    echo = Echo()
    echo.wait.clear()
    async with port(echo) as at:
        client = await Raw.to(at)
        await client.say(request("POST", "/first", b"body") + head + b"\r\nHost: localhost\r\n\r\n")
        assert await client.silent()
        echo.wait.set()
        status, body = await client.answer()
        assert (status, json.loads(body)) == (200, ["POST", "/first", "body"])
        client.close()


@pytest.mark.parametrize("port", [plain_port, dev_port])
@pytest.mark.parametrize("target", ["http://localhost", "http://localhost?a=b", "http://localhost:80"])
async def test_an_absolute_form_without_a_path_means_the_root(port: Port, target: str) -> None:
    async with port(Echo()) as at:
        client = await Raw.to(at)
        for _ in range(2):
            await client.say(request("GET", target))
            status, body = await client.answer()
            assert (status, json.loads(body)) == (200, ["GET", "/", ""])
        client.close()


async def test_who_takes_the_connection_is_not_cut_off_for_the_answer_before() -> None:
    class Leaving(BoundedHttp):
        left: asyncio.Transport | None = None

        def route(self, head: bytes, data: bytes, at: int) -> bool:
            if b"/leave" not in head:
                return True
            if not self.answering:
                Leaving.left = self.release()
            return False

    async def at_once(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
        await send({"type": "http.response.body", "body": b"x" * LARGE})

    async with serving(HttpServer("127.0.0.1", 0, at_once, partial(Leaving, unread_s=0.1))) as number:
        with who_does_not_read(number, request("GET", "/first") + request("GET", "/leave")):
            async with asyncio.timeout(5):
                while Leaving.left is None:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert Leaving.left.get_write_buffer_size() and not Leaving.left.is_closing()
            Leaving.left.abort()


@pytest.mark.parametrize("port", [plain_port, dev_port])
async def test_a_line_that_ends_wrongly_is_refused_in_any_pieces(port: Port) -> None:
    async with port(Echo()) as at:
        for before in (b"", request("GET", "/before")):
            client = await Raw.to(at)
            await client.say(before)
            for byte in pieces(b"GET /x HTTP/1.1\r\nHost: a\n", 1):
                client.writer.write(byte)
                await client.writer.drain()
                await asyncio.sleep(0)
            assert [(await client.answer())[0] for _ in range(2 if before else 1)][-1] == 400
            client.close()


def test_an_incomplete_head_is_searched_once() -> None:
    head = b"GET /x HTTP/1.1\r\nHost: a\r\n"
    assert refusal_of_start(head + b"b: c\n", len(head), 1_000) is not None
    assert refusal_of_start(b"GET /x HTTP/1.1\nHost: a\r", len(head) - 1, 1_000) is None, "those were searched before"
    assert refusal_of_start(head, len(head) - 1, 1_000) is None, "the CR came before"
