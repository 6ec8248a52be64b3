"""What a stranger's connection may cost: pipelines, heads, pieces, connections, answers that nobody reads."""

import asyncio
import json
import logging
import socket
from typing import Any

import pytest
import structlog.testing

from headgate.core.client.limits import Limits
from headgate.runtime.http import bounded
from headgate.runtime.http.bounded import BoundedHttp
from headgate.runtime.http.heads import HEAD_FIELDS, HeadBudget
from headgate.runtime.http.server import HttpServer
from tests.integration.gateway_twin import gateway, until
from tests.integration.http_twin import (
    Echo,
    Port,
    Raw,
    admin_port,
    chunked,
    dev_port,
    gateway_port,
    pieces,
    plain_port,
    request,
    serving,
)

EVERYWHERE: list[Port] = [plain_port, dev_port, gateway_port, admin_port]
LARGE = 8 * 1024 * 1024


class Large:
    """Answers with more than the kernel's buffers hold, in pieces."""

    def __init__(self) -> None:
        self.running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        try:
            size = b"%d" % LARGE
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
            for _ in range(LARGE // 65_536):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.running -= 1


def hasty(unread_s: float) -> Any:
    """Returns a factory of connections whose answers may be unread for so long."""

    def make(**options: Any) -> BoundedHttp:
        return BoundedHttp(**options, unread_s=unread_s)

    return make


@pytest.mark.parametrize("port", [plain_port, dev_port])
async def test_sixteen_requests_may_wait_and_the_connection_ends_behind_them(port: Port) -> None:
    for count, answered in ((17, 17), (18, 17), (10_000, 17)):
        echo = Echo()
        async with port(echo) as at:
            client = await Raw.to(at)
            await client.say(b"".join(request("GET", f"/{n}") for n in range(count)))
            for n in range(answered):
                assert json.loads((await client.answer())[1])[1] == f"/{n}"
            if count == answered:
                await client.say(request("GET", "/more"))
                assert (await client.answer())[0] == 200
            else:
                assert await client.ended() == b""
            client.close()


@pytest.mark.parametrize("port", EVERYWHERE)
async def test_fields_of_a_head_are_counted_before_it_is_parsed(port: Port) -> None:
    async with port(Echo()) as at:
        for fields, status in ((HEAD_FIELDS - 1, None), (HEAD_FIELDS + 1, 431), (10_000, 431)):
            client = await Raw.to(at)
            await client.say(request("GET", "/livez", b"", *["a: b"] * fields))
            found = (await client.answer())[0]
            assert found == status if status else found in (200, 404)
            client.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nAuthorization: Bearer x\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: x\r\nIdempotency-Key: y\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nbody", 501),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbody", 400),
        (b"CONNECT /x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\nHost: a\n\n", 400),
        (b"\x16\x03\x01", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /x HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ],
)
@pytest.mark.parametrize("port", EVERYWHERE)
async def test_what_a_head_must_say_is_the_same_on_every_port(
    port: Port, head: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with port(Echo()) as at:
        for path in (b"/x", b"/sse/subscribe?topic_id=a"):
            client = await Raw.to(at)
            await client.say(head.replace(b"/x", path))
            found, body = await client.answer()
            assert (found, json.loads(body)["status"]) == (status, status)
            assert await client.ended() == b"", "one refusal, whatever the parser finds behind it"
            client.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("port", [plain_port, dev_port])
async def test_who_asked_and_closed_his_side_gets_his_answers(port: Port) -> None:
    echo = Echo()
    async with port(echo) as at:
        whole, half = request("GET", "/1") + request("POST", "/2", b"{}"), request("POST", "/3", b"{}")[:-1]
        for said, count in ((whole, 2), (half, 0), (b"", 0)):
            echo.wait.clear()
            echo.asked.clear()
            client = await Raw.to(at)
            await client.say(said)
            client.writer.write_eof()
            await asyncio.sleep(0.05)  # the end has been seen while the answer is awaited
            echo.wait.set()
            text = await client.ended()
            assert text.count(b" 200 OK") == count == len(echo.asked)
            client.close()


@pytest.mark.parametrize("port", EVERYWHERE)
async def test_a_flood_of_empty_lines_is_no_request(port: Port) -> None:
    async with port(Echo()) as at:
        for lines, status in ((20, 200), (40, 400), (40_000, 400)):
            client = await Raw.to(at)
            await client.say(b"\r\n" * lines + request("GET", "/livez"))
            assert (await client.answer())[0] in ((200, 404) if status == 200 else (400,))
            client.close()


async def test_hosts_that_are_none_of_these_pass() -> None:
    async with plain_port(Echo()) as at:
        for host in ("a", "a.b_c:80", "[::1]:8080", "127.0.0.1:1", "", "xn--bcher-kva.example."):
            client = await Raw.to(at)
            await client.say(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await client.answer())[0] == 200
            client.close()
        client = await Raw.to(at)
        await client.say(b"GET /x HTTP/1.0\r\n\r\n")
        assert (await client.answer())[0] == 200, "HTTP/1.0 had no Host"
        client.close()


async def test_a_chunked_body_may_not_come_in_crumbs() -> None:
    async with plain_port(Echo()) as at:
        for size, status in ((64, 200), (1, 400)):
            client = await Raw.to(at)
            body = b"x" * 64 * 1_024
            await client.say(request("POST", "/", chunked(body, size), "Transfer-Encoding: chunked"))
            assert (await client.answer())[0] == status
            client.close()


async def test_a_chunked_body_may_not_be_trailers_without_end() -> None:
    async with plain_port(Echo()) as at:
        client = await Raw.to(at)
        await client.say(request("POST", "/", b"1\r\nx\r\n0\r\n", "Transfer-Encoding: chunked"), b"a: b\r\n" * 40_000)
        with pytest.raises(ConnectionError):
            for _ in range(50):
                await client.say(b"a: b\r\n" * 10_000)
                await asyncio.sleep(0.05)
        client.close()


async def test_heads_that_are_not_complete_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "HeadBudget", lambda: HeadBudget(100_000))
    async with plain_port(Echo()) as at:
        clients = [await Raw.to(at) for _ in range(3)]
        for client in clients:
            await client.say(b"GET / HTTP/1.1\r\na: " + b"x" * 40_000)
            await asyncio.sleep(0.05)
        assert (await clients[2].answer())[0] == 503
        await clients[0].say(b"\r\nHost: localhost\r\n\r\n")
        assert (await clients[0].answer())[0] == 200
        again = await Raw.to(at)
        await again.say(b"GET / HTTP/1.1\r\na: " + b"x" * 40_000)
        await asyncio.sleep(0.05)
        await again.say(b"\r\nHost: localhost\r\n\r\n")
        assert (await again.answer())[0] == 200, "what was answered or closed is given back"
        for client in (*clients, again):
            client.close()


async def test_connections_above_the_bound_are_closed_at_once_and_it_is_said_once() -> None:
    with structlog.testing.capture_logs() as said:
        async with serving(HttpServer("127.0.0.1", 0, Echo(), connections=3)) as at:
            kept = [await Raw.to(at) for _ in range(3)]
            for _ in range(20):
                extra = await Raw.to(at)
                assert await extra.ended() == b""
                extra.close()
            await kept[0].say(request("GET", "/a"))
            assert (await kept[0].answer())[0] == 200
            kept[1].close()
            await asyncio.sleep(0.05)
            fresh = await Raw.to(at)
            await fresh.say(request("GET", "/a"))
            assert (await fresh.answer())[0] == 200, "a place that became free is taken"
            for client in (*kept, fresh):
                client.close()
    assert [line["event"] for line in said] == ["all connections are taken; more are closed at once"]


async def test_streams_and_requests_share_the_places() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        server = HttpServer("127.0.0.1", 0, gate.service.app(), gate.service.protocol, connections=2)
        async with serving(server) as at:
            stream, plain = await Raw.to(at), await Raw.to(at)
            await stream.say(request("GET", "/sse/subscribe?topic_id=a"))
            await plain.say(request("GET", "/nothing"))
            assert (await stream.answer())[0] == 200 and (await plain.answer())[0] == 404
            extra = await Raw.to(at)
            assert await extra.ended() == b""
            for client in (stream, plain, extra):
                client.close()


def narrow(port: int) -> socket.socket:
    """Connects a client whose kernel buffer is small."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.connect(("127.0.0.1", port))
    return made


async def test_an_answer_that_nobody_reads_is_given_up_and_its_connection_reset() -> None:
    app = Large()
    server = HttpServer("127.0.0.1", 0, app, hasty(0.3))
    async with serving(server) as at:
        deaf = narrow(at)
        deaf.sendall(request("GET", "/"))
        await until(lambda: app.running == 1)
        await until(lambda: app.running == 0 and not server._server.server_state.connections)
        deaf.close()


async def test_an_answer_that_is_read_slowly_is_not_given_up() -> None:
    app = Large()
    server = HttpServer("127.0.0.1", 0, app, hasty(0.5))
    async with serving(server) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at, limit=65_536)
        writer.write(request("GET", "/"))
        got = 0
        while got < LARGE:
            data = await reader.read(400_000)
            assert data, "it was given up"
            got += len(data)
            await asyncio.sleep(0.02)
        writer.close()


async def test_a_stream_whose_socket_takes_no_byte_is_ended() -> None:
    limits = Limits(heartbeat_s=0.5, comment_s=0.25)
    async with gateway(limits=limits) as gate:
        gate.owners.create("a")
        deaf, hearing = narrow(gate.server.port), await Raw.to(gate.server.port)
        for say in (deaf.sendall, hearing.writer.write):
            say(request("GET", "/sse/subscribe?topic_id=a&presence=false"))
        await until(lambda: gate.owners.topics["a"].count == 2)
        gate.owners.publish("a", *["x" * 1_000] * 30)  # more than the client's buffer, less than ours
        reading = asyncio.create_task(hearing.reader.read(10_000_000))
        await until(lambda: gate.service.hub.session_count == 1, 10)
        assert not reading.done() or await reading
        deaf.close()
        hearing.close()


async def test_idle_connections_end_when_a_drain_begins_and_others_with_their_answer() -> None:
    echo = Echo()
    server = HttpServer("127.0.0.1", 0, echo)
    async with serving(server) as at:
        idle, busy, late = await Raw.to(at), await Raw.to(at), await Raw.to(at)
        await idle.say(request("GET", "/a"))
        await idle.answer()
        echo.wait.clear()
        await busy.say(request("GET", "/b"))
        await asyncio.sleep(0.05)
        server.end_idle()
        assert await idle.ended() == b""
        echo.wait.set()
        assert (await busy.answer())[0] == 200 and await busy.ended() == b""
        await late.say(request("GET", "/c"))
        assert (await late.answer())[0] == 200 and await late.ended() == b"", "it still listens; none is kept"
        for client in (idle, busy, late):
            client.close()


async def test_an_unread_answer_at_the_end_leaves_no_error_line(caplog: pytest.LogCaptureFixture) -> None:
    app = Large()
    server = HttpServer("127.0.0.1", 0, app)
    with caplog.at_level(logging.WARNING):
        async with serving(server) as at:
            deaf = narrow(at)
            deaf.sendall(request("GET", "/"))
            await until(lambda: app.running == 1)
        deaf.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("port", EVERYWHERE)
async def test_every_answer_says_nosniff_and_no_store(port: Port) -> None:
    async with port(Echo()) as at:
        for raw in (request("GET", "/livez"), request("GET", "/nothing"), b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n"):
            client = await Raw.to(at)
            await client.say(raw)
            async with asyncio.timeout(5):
                head = (await client.reader.readuntil(b"\r\n\r\n")).lower()
            assert head.count(b"x-content-type-options: nosniff") == 1 and head.count(b"cache-control: no-store") == 1
            client.close()


async def test_a_stream_in_absolute_form_is_a_stream_and_waits_for_its_turn() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        stream = b"GET http://hub.localhost/sse/subscribe?topic_id=a HTTP/1.1\r\nHost: hub.localhost\r\n\r\n"
        topic = b"GET http://hub.localhost/api/v1/topics/a/subscribe HTTP/1.1\r\nHost: hub.localhost\r\n\r\n"
        for raw in (stream, topic):
            for before in (0, 1, 3):
                client = await Raw.to(gate.server.port)
                await client.say(request("GET", "/nothing") * before + raw)
                for _ in range(before):
                    assert (await client.answer())[0] == 404
                assert (await client.answer())[0] == 200
                client.close()


@pytest.mark.parametrize("size", [1, 3, 50])
async def test_a_request_in_any_pieces_is_the_same_request(size: int) -> None:
    echo = Echo()
    async with plain_port(echo) as at:
        client = await Raw.to(at)
        for piece in pieces(request("POST", "/a", b"body") + b"\r\n" + request("GET", "/b"), size):
            client.writer.write(piece)
            await client.writer.drain()
            await asyncio.sleep(0)
        assert [json.loads((await client.answer())[1]) for _ in "ab"] == [["POST", "/a", "body"], ["GET", "/b", ""]]
        client.close()
