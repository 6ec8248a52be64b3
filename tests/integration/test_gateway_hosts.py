"""DNS rebinding: in open mode the gateway serves requests that are meant for this machine, whatever they ask for."""

import pytest

from tests.integration.gateway_twin import gateway
from tests.integration.test_gateway_sse import Client


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "a@127.0.0.1", ""])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sse/subscribe?topic_id=a"),
        ("HEAD", "/sse/subscribe?topic_id=a"),
        ("GET", "/api/v1/topics/a/subscribe"),
        ("DELETE", "/api/v1/topics/a/subscribe"),
        ("GET", "/ws/subscribe?topic_id=a"),
        ("GET", "/connect"),
        ("GET", "/nowhere"),
    ],
)
async def test_in_open_mode_a_page_rebound_to_this_machine_gets_nothing(method: str, path: str, host: str) -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        client.writer.write((head + (upgrade + key if "connect" in path or "/ws/" in path else "\r\n")).encode())
        status, headers = await client.head()
        client.writer.close()
        assert status in ((400, 421) if host.startswith("a@") else (421,))
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("mode", "site", "status"),
    [("open", "cross-site", 403), ("open", "same-site", 200), ("open", "none", 200), ("jwt", "cross-site", 200)],
)
async def test_in_open_mode_a_foreign_page_cannot_load_a_stream_as_an_image(mode: str, site: str, status: int) -> None:
    async with gateway(mode=mode, auto_create=True) as gate:
        client = await Client.to(gate)
        head = f"GET /sse/subscribe?topic_id=a&token={gate.token()} HTTP/1.1\r\nHost: localhost\r\n"
        client.writer.write(f"{head}Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: {site}\r\n\r\n".encode())
        assert (await client.head())[0] == status
        client.writer.close()
