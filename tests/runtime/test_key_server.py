"""Getting the keys over HTTP: bounded in size and time, off the loop, without redirects."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from headgate.runtime.jwks import BadKeySet
from headgate.runtime.key_server import MAX_BYTES, KeyServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def body(data: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


async def test_it_returns_the_body() -> None:
    async with serving(body(b"keys" * 10_000)) as url:
        assert await KeyServer(url)() == b"keys" * 10_000


@pytest.mark.parametrize("status", [204, 404, 500])
async def test_another_status_is_no_set_of_keys(status: int) -> None:
    async with serving(body(b"", status)) as url:
        if status == 204:
            assert await KeyServer(url)() == b""
            return
        with pytest.raises(BadKeySet, match=str(status)):
            await KeyServer(url)()


async def test_it_follows_no_redirect() -> None:
    asked = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        body(b"", 302, Location="/other")(handler)

    async with serving(answer) as url:
        with pytest.raises(BadKeySet, match="302"):
            await KeyServer(url)()
    assert asked == ["/keys"]


async def test_a_large_answer_is_cut_off() -> None:
    async with serving(body(b"x" * (MAX_BYTES + 1))) as url:
        with pytest.raises(BadKeySet, match="bytes"):
            await KeyServer(url)()
    async with serving(body(b"x" * MAX_BYTES)) as url:
        assert len(await KeyServer(url)()) == MAX_BYTES


async def test_a_slow_answer_is_given_up_and_holds_up_no_loop() -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.02)

    async with serving(drip) as url:
        server = KeyServer(url, timeout_s=0.2)
        turns = 0
        fetch = asyncio.ensure_future(server())
        while not fetch.done():
            turns += 1
            await asyncio.sleep(0.01)
        assert turns > 5
        with pytest.raises(TimeoutError):
            fetch.result()


async def test_nobody_listens() -> None:
    with pytest.raises(OSError):
        await KeyServer("http://127.0.0.1:9/keys")()


async def test_what_is_no_http_is_an_error_that_is_expected() -> None:
    def noise(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"\x00\x01\x02 no http\r\n\r\n")

    async with serving(noise) as url:
        with pytest.raises(OSError):
            await KeyServer(url)()
