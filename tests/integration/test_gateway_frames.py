"""Handshake and frame rules of RFC 6455, with `websockets` as the oracle, and slow sockets for real."""

import asyncio
import itertools
import json
import socket as sockets
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from gateway.handshake import accept, check
from gateway.head import HeadRefused, read_head
from gateway.websocket import FrameReader
from headgate.core.client.limits import Limits
from headgate.runtime.http.heads import END
from headgate.runtime.http.origins import Origins
from tests.integration.gateway_twin import Gateway, frames_of, gateway, until
from tests.integration.test_gateway_sse import Client
from tests.integration.test_gateway_websocket import closing, follow

KEYS = ("AAAAAAAAAAAAAAAAAAAAAA==", "dGhlIHNhbXBsZSBub25jZQ==", "short", "!", None)
VERSIONS = ("13", "8", None)
CONNECTIONS = ("Upgrade", "keep-alive, upgrade", "close", None)
UPGRADES = ("websocket", "WebSocket", "h2c", "websocket, h2c", None)


@pytest.mark.parametrize("http", ["1.1", "1.0"])
@pytest.mark.parametrize(("connection", "upgrade"), list(itertools.product(CONNECTIONS, UPGRADES)))
def test_the_handshake_takes_what_websockets_takes_and_answers_the_same(
    http: str, connection: str | None, upgrade: str | None
) -> None:
    for key, version in itertools.product(KEYS, VERSIONS):
        fields = {"Connection": connection, "Upgrade": upgrade}
        fields |= {"Sec-WebSocket-Key": key, "Sec-WebSocket-Version": version}
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        told = fields | {"Upgrade": "websocket"} if upgrade == "websocket, h2c" else fields  # RFC 9110 7.8: a list
        raw = "\r\n".join([f"GET /ws/subscribe HTTP/{http}", "Host: localhost", *lines]).encode() + END
        request = Request(
            "/ws/subscribe",
            Headers({name: value for name, value in told.items() if value is not None}),
            "GET",
            f"HTTP/{http}",
        )
        oracle = ServerProtocol().accept(request)
        try:
            check(read_head(raw), Origins(), None)
        except HeadRefused as refused:
            assert oracle.status_code in (400, 426, 505)
            status = int(refused.answer.split(b" ")[1])
            unusual = version != "13" or http == "1.0"  # 426 names the version we speak (RFC 6455 section 4.4)
            assert status == (426 if unusual else oracle.status_code), fields
        else:
            answer = dict(line.split(": ", 1) for line in accept(read_head(raw)).decode().split("\r\n")[1:-2])
            assert oracle.status_code == 101
            assert answer["Sec-WebSocket-Accept"] == oracle.headers["Sec-WebSocket-Accept"]


async def opened(gate: Gateway, path: str = "/ws/subscribe", client: Client | None = None) -> Client:
    client = client or await Client.to(gate)
    client.ask(
        path,
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
        Sec_WebSocket_Version="13",
    )
    assert (await client.head())[0] == 101
    return client


async def server_frame(client: Client) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        head = await client.reader.readexactly(2)
        size = head[1]
        if size == 126:
            size = int.from_bytes(await client.reader.readexactly(2), "big")
        return head[0] & 15, await client.reader.readexactly(size)


def masked(opcode: Opcode, data: bytes, fin: bool = True, **bits: bool) -> bytes:
    raw = Frame(opcode, data, fin).serialize(mask=True)
    first = raw[0] | (0x40 if bits.get("rsv1") else 0)
    return bytes([first]) + raw[1:]


BROKEN: list[tuple[bytes, int]] = [
    (b"\x81\x02{}", 1002),  # not masked
    (masked(Opcode.TEXT, b"{}", rsv1=True), 1002),
    (b"\x83\x80\0\0\0\0", 1002),  # no such opcode
    (b"\x09\x80\0\0\0\0", 1002),  # a ping in fragments
    (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),  # a ping too long
    (masked(Opcode.CONT, b"{}"), 1002),
    (masked(Opcode.TEXT, b"{", fin=False) + masked(Opcode.TEXT, b"}"), 1002),
    (masked(Opcode.TEXT, b'{"type":"\xff"}'), 1007),
    (masked(Opcode.TEXT, b'{"type":"\xc3', fin=False) + masked(Opcode.CONT, b'\x28"}'), 1007),
    (masked(Opcode.CLOSE, b"\x03"), 1002),
    (masked(Opcode.CLOSE, b"\x03\xed"), 1002),  # 1005 is no code to send
    (masked(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
    (b"\x81\xff" + (70_000).to_bytes(8, "big") + b"\0\0\0\0", 1009),
    (masked(Opcode.TEXT, b"x" * 40_000, fin=False) + masked(Opcode.CONT, b"x" * 40_000), 1009),
]


@pytest.mark.parametrize(("data", "code"), BROKEN)
@pytest.mark.parametrize("whole", [True, False])
async def test_what_breaks_the_rules_closes_with_the_code_websockets_uses(data: bytes, code: int, whole: bool) -> None:
    oracle = ServerProtocol(max_size=65_536)
    oracle.state = oracle.state.__class__.OPEN
    async with gateway() as gate:
        client = await opened(gate)
        assert (await server_frame(client))[0] == Opcode.TEXT
        for part in [data] if whole or len(data) > 200 else [bytes([byte]) for byte in data]:
            client.writer.write(part)
            await client.writer.drain()
        opcode, payload = await server_frame(client)
        assert (opcode, int.from_bytes(payload[:2], "big")) == (Opcode.CLOSE, code)
        assert await client.rest() == b"" and gate.service.hub.session_count == 0


async def test_a_ping_is_answered_before_what_came_behind_it() -> None:
    async with gateway() as gate:
        client = await opened(gate)
        await server_frame(client)
        begun = masked(Opcode.TEXT, b'{"type":"pi', fin=False) + masked(Opcode.PING, b"1") + masked(Opcode.PING, b"2")
        end = masked(Opcode.CONT, b'ng"}') + masked(Opcode.PING, b"3") + masked(Opcode.CLOSE, b"\x03\xe8")
        client.writer.write(begun + end)
        assert [await server_frame(client) for _ in range(4)] == [
            (Opcode.PONG, b"2"),
            (Opcode.TEXT, b'{"type":"pong"}'),
            (Opcode.PONG, b"3"),
            (Opcode.CLOSE, b"\x03\xe8"),
        ]
        client.writer.close()


async def test_a_frame_in_any_number_of_pieces_is_one_frame() -> None:
    async with gateway() as gate:
        client = await opened(gate)
        await server_frame(client)
        frame = masked(Opcode.TEXT, b'{"type":"pi', fin=False) + masked(Opcode.PING, b"in between")
        frame += masked(Opcode.CONT, b'ng","t":1}') + masked(Opcode.PONG, b"")
        for byte in frame:
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        found = sorted([await server_frame(client), await server_frame(client)])
        assert found == [(Opcode.TEXT, b'{"type":"pong","t":1}'), (Opcode.PONG, b"in between")]
        (session,) = gate.service.hub.connections.all()
        await until(lambda: session.outlet._reader is None)  # type: ignore[attr-defined]
        client.writer.write(masked(Opcode.CLOSE, b"\x03\xe8bye"))
        assert await server_frame(client) == (Opcode.CLOSE, b"\x03\xe8bye")
        assert await client.rest() == b""


async def test_a_frame_of_exactly_the_limit_passes() -> None:
    async with gateway() as gate:
        socket = await follow(gate, "", 1)
        pad = "x" * (65_536 - len('{"type":"ping","t":""}'))
        await socket.send(f'{{"type":"ping","t":"{pad}"}}')
        assert (await frames_of(socket, 1))[0]["t"] == pad
        await socket.send(f'{{"type":"ping","t":"{pad}x"}}')
        with pytest.raises(ConnectionClosed):
            await frames_of(socket, 1)
        assert socket.close_code == 1009


async def test_a_client_that_goes_without_a_word_is_let_go() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await opened(gate, "/ws/subscribe?topic_id=a")
        await until(lambda: gate.service.hub.subscription_count == 1)
        client.writer.transport.abort()
        await until(lambda: gate.service.hub.session_count == 0)
        assert gate.owners.topics["a"].count == 0


async def test_deflate_is_not_negotiated() -> None:
    async with gateway() as gate, connect(gate.ws(), compression="deflate") as socket:
        assert socket.response is not None and "Sec-WebSocket-Extensions" not in socket.response.headers


def narrow() -> sockets.socket:
    """A client socket whose kernel buffer is small."""
    made = sockets.socket()
    made.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
    made.setblocking(False)
    return made


async def slow_subscriber(gate: Gateway, query: str) -> Client:
    raw = narrow()
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", gate.server.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1 << 20)
    return await opened(gate, f"/ws/subscribe?{query}", Client(reader, writer))


async def messages(client: Client, last: int) -> list[int]:
    seqs: list[int] = []
    while not seqs or seqs[-1] < last:
        opcode, data = await server_frame(client)
        frame: dict[str, Any] = json.loads(data) if opcode == Opcode.TEXT else {}
        if frame.get("type") == "message":
            seqs.append(frame["seq"])
    return seqs


async def test_a_slow_reader_holds_a_cursor_and_gets_everything() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await slow_subscriber(gate, "topic_id=a")
        fast = await follow(gate, "topic_id=a")
        await until(lambda: gate.service.hub.subscription_count == 2)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (slow, _) = gate.service.hub.connections.all()
        for _ in range(80):
            gate.owners.publish("a", *["x" * 1_000] * 100)
            await asyncio.sleep(0)
            assert slow.outlet.queued() <= 1 << 20
        assert [m["seq"] for m in await frames_of(fast, 8_000)] == list(range(1, 8_001))
        assert slow.paused and gate.service.hub.catchup.behind(slow)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await messages(client, 8_000) == list(range(1, 8_001))
        await until(lambda: not gate.service.hub.catchup.behind(slow))
        client.close()
        await fast.close()


async def test_a_reader_that_stops_is_told_4508_and_cut() -> None:
    async with gateway(limits=Limits(slow_messages=1_000)) as gate:
        gate.owners.create("a")
        client = await slow_subscriber(gate, "topic_id=a")
        await until(lambda: gate.service.hub.subscription_count == 1)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(90):
            gate.owners.publish("a", *["x" * 1_000] * 100)
            await asyncio.sleep(0)
        gate.forward(2)
        assert gate.service.hub.session_count == 0 and gate.owners.topics["a"].count == 0
        gate.forward(6)
        await until(lambda: not gate.connections)
        client.close()


async def test_closing_says_why_even_to_a_client_that_is_writing() -> None:
    async with gateway() as gate:
        socket = await follow(gate, "", 1)
        for _ in range(200):
            await socket.send('{"type":"ping"}')
        await socket.send("no frame")
        for _ in range(200):
            try:
                await socket.send('{"type":"ping"}')
            except ConnectionClosed:
                break
        code, frames = await closing(socket)
        assert code == 4400 and frames[-1]["type"] == "disconnect"


def test_a_control_frame_is_not_judged_by_the_rest_of_the_message_it_interrupts() -> None:
    reader = FrameReader(200)
    data = masked(Opcode.TEXT, b"x" * 199, fin=False) + masked(Opcode.PING, b"p" * 125)
    ping = None
    for frame in reader.feed(data):
        if frame.opcode is Opcode.PING:
            ping = frame
        else:
            assert reader.message(frame) is None
    assert ping is not None and len(ping.data) == 125
    (rest,) = reader.feed(masked(Opcode.CONT, b"xy"))
    with pytest.raises(PayloadTooBig):
        reader.message(rest)


def test_empty_fragments_are_not_kept() -> None:
    reader = FrameReader(200)
    for at in range(1_000):
        (frame,) = reader.feed(masked(Opcode.CONT if at else Opcode.TEXT, b"", fin=False))
        assert reader.message(frame) is None
    assert not reader._parts and not reader.idle
    (frame,) = reader.feed(masked(Opcode.CONT, b"{}"))
    assert reader.message(frame) == b"{}" and reader.idle


FLOODS = {
    "pings": masked(Opcode.PING, b""),
    "pongs": masked(Opcode.PONG, b"x"),
    "empty fragments": masked(Opcode.CONT, b"", fin=False),
    "fragments": masked(Opcode.CONT, b"x", fin=False),
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("mode", ["open", "jwt"])
async def test_every_frame_is_counted_and_too_many_close_with_1008(kind: str, mode: str) -> None:
    async with gateway(limits=Limits(frames_burst=300), mode=mode) as gate:
        for count, closed in ((295, False), (330, True), (40_000, True)):
            client = await opened(gate)  # in mode jwt nobody has said who he is
            if mode == "open":
                await server_frame(client)
            client.writer.write(masked(Opcode.TEXT, b"", fin=False) + FLOODS[kind] * count)
            if not closed:
                client.writer.write(masked(Opcode.PING, b"alive"))
                found = [await server_frame(client)]
                while found[-1][1] != b"alive":
                    found.append(await server_frame(client))
                assert {opcode for opcode, _ in found} == {Opcode.PONG}
                client.close()
                continue
            frames = [await server_frame(client)]
            while frames[-1][0] != Opcode.CLOSE:
                frames.append(await server_frame(client))
            assert int.from_bytes(frames[-1][1][:2], "big") == 1008
            client.close()
        await until(lambda: gate.service.hub.session_count == 0)


async def test_a_flood_of_frames_takes_turns_with_the_others() -> None:
    async with gateway(limits=Limits(frames_burst=1_000_000)) as gate:
        flood, other = await opened(gate), await opened(gate)
        for client in (flood, other):
            await server_frame(client)
        flood.writer.write(masked(Opcode.PONG, b"") * 20_000)
        other.writer.write(masked(Opcode.PING, b"me"))
        assert (await server_frame(other))[1] == b"me"
        flood.writer.write(masked(Opcode.PING, b"last"))
        assert (await server_frame(flood))[1] == b"last", "nothing is lost between two turns"
        flood.close()
        other.close()


async def test_who_pings_and_does_not_read_is_cut_at_the_outbound_bound() -> None:
    limits = Limits(queue_bytes=64 * 1024, frames_burst=1_000_000)
    async with gateway(limits=limits) as gate:
        client = await slow_subscriber(gate, "topic_id=a")
        (session,) = gate.service.hub.connections.all()
        most, ping = 0, masked(Opcode.PING, b"x" * 125)
        while not session.closed and not client.writer.is_closing():
            client.writer.write(ping)
            await asyncio.sleep(0)
            most = max(most, session.outlet.queued())
        assert most <= limits.queue_bytes + 1_024
        client.close()
