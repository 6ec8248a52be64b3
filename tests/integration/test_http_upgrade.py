"""An Upgrade that is no WebSocket's changes nothing (RFC 9110 section 7.8): no byte of a body is a request."""

import itertools
import json

import pytest

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
)

SMUGGLED = request("GET", "/smuggled")
UPGRADES = [
    ("Connection: Upgrade", "Upgrade: h2c"),
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    ("connection: keep-alive, upgrade", "upgrade: TLS/1.2"),
    ("Connection: Upgrade", "Upgrade: foo"),
    ("Connection: Upgrade", "Upgrade: h2c, websocket"),
    ("Connection: Upgrade", "Upgrade: h2c", "UPGRADE: foo"),
    ("Upgrade:h2c", "X: y", "Connection: close", "Connection: Upgrade"),
    ("Proxy-Connection: Upgrade", "Upgrade: h2c"),
    ("Connection: Upgrade", "Upgrade:"),
]
SERVING: list[Port] = [plain_port, dev_port]
EVERYWHERE: list[Port] = [*SERVING, gateway_port, admin_port]


def framed(body: bytes, framing: str, *fields: str) -> bytes:
    if framing == "length":
        return request("POST", "/publish", body, *fields)
    return request("POST", "/publish", chunked(body), *fields, "Transfer-Encoding: chunked")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("port", SERVING)
async def test_a_request_that_offers_an_upgrade_is_answered_with_its_body(port: Port, framing: str) -> None:
    echo = Echo()
    async with port(echo) as at:
        for fields, cut in itertools.product(UPGRADES, range(4)):
            whole = framed(SMUGGLED, framing, *fields)
            border = whole.index(b"\r\n\r\n") + 4
            segments = [
                [whole],
                [whole[:border], whole[border:]],
                [whole[: border - 2], whole[border - 2 :]],
                pieces(whole, 40),
            ][cut]
            client = await Raw.to(at)
            await client.say(*segments)
            status, text = await client.answer()
            assert (status, json.loads(text)) == (200, ["POST", "/publish", SMUGGLED.decode()])
            if "Connection: close" not in fields:
                await client.say(request("GET", "/next"))
                assert json.loads((await client.answer())[1]) == ["GET", "/next", ""]
            client.close()
    assert all(path != "/smuggled" for _, path, _ in echo.asked)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("port", EVERYWHERE)
async def test_no_port_runs_the_body_behind_an_upgrade(port: Port, framing: str) -> None:
    async with port(Echo()) as at:
        for segments in (1, 2):
            client = await Raw.to(at)
            whole = framed(request("GET", "/livez"), framing, *UPGRADES[0])
            border = whole.index(b"\r\n\r\n") + 4
            await client.say(*([whole] if segments == 1 else [whole[:border], whole[border:]]))
            await client.answer()
            assert await client.silent(), "one request, one answer"
            client.close()


@pytest.mark.parametrize("port", SERVING)
async def test_requests_behind_an_upgrade_in_the_same_segment_are_right(port: Port) -> None:
    echo = Echo()
    async with port(echo) as at:
        client = await Raw.to(at)
        await client.say(
            framed(b"one", "length", *UPGRADES[0])
            + framed(b"two\r\n\r\nstill two", "chunked", *UPGRADES[1])
            + request("GET", "/three", b"", *UPGRADES[3])
            + framed(b"four", "length")
        )
        answers = [json.loads((await client.answer())[1]) for _ in range(4)]
        assert answers == [
            ["POST", "/publish", "one"],
            ["POST", "/publish", "two\r\n\r\nstill two"],
            ["GET", "/three", ""],
            ["POST", "/publish", "four"],
        ]
        client.close()


async def test_a_trailer_neither_upgrades_nor_adds_a_header() -> None:
    echo = Echo()
    async with plain_port(echo) as at:
        trailer = b"Connection: Upgrade\r\nUpgrade: h2c\r\nAuthorization: Bearer x\r\n"
        whole = request("POST", "/a", chunked(SMUGGLED, trailer=trailer), "Transfer-Encoding: chunked")
        for segments in ([whole], pieces(whole, 11)):
            client = await Raw.to(at)
            await client.say(*segments)
            assert json.loads((await client.answer())[1]) == ["POST", "/a", SMUGGLED.decode()]
            assert dict(echo.headers[-1]).keys() == {b"host", b"transfer-encoding"}
            client.close()


async def test_every_end_of_line_of_a_chunked_body_may_be_the_last_of_a_segment() -> None:
    body = b"\r\n\r\n" * 3 + b"x\r\n\r\r\n\r\n\n"
    whole = request("POST", "/a", chunked(body, 5), "Transfer-Encoding: chunked")
    echo = Echo()
    async with plain_port(echo) as at:
        client = await Raw.to(at)
        for cut in range(len(whole) - len(chunked(body, 5)), len(whole)):
            await client.say(whole[:cut], whole[cut:] + request("GET", "/next"))
            assert json.loads((await client.answer())[1]) == ["POST", "/a", body.decode()]
            assert json.loads((await client.answer())[1]) == ["GET", "/next", ""]
        client.close()


@pytest.mark.parametrize("port", EVERYWHERE)
async def test_connect_ends_the_connection_and_nothing_behind_it_is_parsed(port: Port) -> None:
    echo = Echo()
    async with port(echo) as at:
        for target in ("h:80", "/x"):
            client = await Raw.to(at)
            await client.say(f"CONNECT {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + SMUGGLED)
            assert (await client.ended()).count(b"nosniff") <= 1
            client.close()
    assert all(path != "/smuggled" for _, path, _ in echo.asked)


async def test_what_stands_behind_connection_close_is_not_parsed() -> None:
    echo = Echo()
    async with plain_port(echo) as at:
        client = await Raw.to(at)
        await client.say(request("GET", "/a", b"", "Connection: close") + SMUGGLED)
        assert (await client.ended()).count(b"nosniff") == 1
        client.close()
    assert echo.asked == [("GET", "/a", "")]
