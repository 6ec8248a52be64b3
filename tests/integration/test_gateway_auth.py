"""Who may connect: every way to present a token, bad ones, late ones, expiring ones."""

import asyncio
import json

import pytest
from websockets.asyncio.client import connect

from headgate.core.client.limits import Limits
from tests.integration.gateway_twin import frames_of, gateway
from tests.integration.test_gateway_sse import Client, stream
from tests.integration.test_gateway_websocket import closing, say


async def test_the_header_the_subprotocol_the_query_and_the_first_frame() -> None:
    async with gateway(mode="jwt") as gate:
        gate.owners.create("a")
        token = gate.token("bob")
        by_header = await connect(gate.ws(), additional_headers={"Authorization": f"Bearer {token}"})
        by_protocol = await connect(gate.ws(), subprotocols=["headgate.v1", f"bearer.{token}"])  # type: ignore[list-item]
        by_query = await connect(gate.ws(f"/ws/subscribe?token={token}"))
        assert by_protocol.subprotocol == "headgate.v1" and by_header.subprotocol is None
        for socket in (by_header, by_protocol, by_query):
            assert (await frames_of(socket, 1))[0]["user_id"] == "bob"
            await socket.close()
        by_frame = await connect(gate.ws("/ws/subscribe?topic_id=a"))
        welcome = await say(by_frame, type="auth", token=token, id=9)
        assert (welcome["type"], welcome["id"], welcome["user_id"]) == ("welcome", 9, "bob")
        assert (await frames_of(by_frame, 1))[0]["type"] == "subscribed"
        await by_frame.close()


@pytest.mark.parametrize("query", ["token=bad", "ticket=t&token=GOOD", "token=EXPIRED"])
async def test_the_first_credential_decides_and_a_bad_one_is_4401(query: str) -> None:
    async with gateway(mode="jwt") as gate:
        query = query.replace("GOOD", gate.token()).replace("EXPIRED", gate.token(ttl_s=-60))
        socket = await connect(gate.ws(f"/ws/subscribe?{query}"))
        code, frames = await closing(socket)
        assert code == 4401 and [f["type"] for f in frames] == ["disconnect"] and frames[0]["reconnect"] is False
        client = await Client.to(gate)
        client.ask(f"/sse/subscribe?topic_id=a&{query}")
        status, headers, problem = await client.answer()
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert problem["code"] == (
            "token_expired" if "ticket" not in query and "bad" not in query else "unauthenticated"
        )
        client.close()


async def test_a_bad_header_is_not_followed_by_a_good_query() -> None:
    async with gateway(mode="jwt") as gate:
        path = f"/ws/subscribe?token={gate.token()}"
        socket = await connect(gate.ws(path), additional_headers={"Authorization": "Basic x"})
        assert (await closing(socket))[0] == 4401


@pytest.mark.parametrize("frame", ['{"type":"ping"}', '{"type":"auth","token":"bad"}', '{"type":"auth"}'])
async def test_before_auth_every_other_frame_is_4401(frame: str) -> None:
    async with gateway(mode="jwt") as gate:
        socket = await connect(gate.ws())
        await socket.send(frame)
        assert (await closing(socket))[0] == 4401


async def test_auth_has_five_seconds() -> None:
    async with gateway(mode="jwt") as gate:
        socket = await connect(gate.ws())
        gate.forward(4)
        assert gate.service.hub.session_count == 1
        gate.forward(2)
        code, frames = await closing(socket)
        assert code == 4408 and frames[0]["code"] == 4408


async def test_sse_without_a_token_is_401() -> None:
    async with gateway(mode="jwt") as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        client.ask("/api/v1/topics/a/subscribe")
        assert (await client.answer())[0] == 401
        live, _ = await stream(gate, "/api/v1/topics/a/subscribe", Authorization=f"Bearer {gate.token()}")
        live.close()
        client.close()


async def test_a_token_in_the_query_can_be_switched_off() -> None:
    async with gateway(mode="jwt", query_token=False) as gate:
        client = await Client.to(gate)
        client.ask(f"/sse/subscribe?topic_id=a&token={gate.token()}")
        assert (await client.answer())[0] == 401
        client.close()


async def test_an_expiring_token_is_said_refreshed_or_the_end() -> None:
    async with gateway(mode="jwt", limits=Limits(heartbeat_s=1_000)) as gate:
        socket = await connect(gate.ws(f"/ws/subscribe?token={gate.token('bob', 100)}"))
        await frames_of(socket, 1)
        gate.forward(60)
        (warning,) = await frames_of(socket, 1)
        assert warning["type"] == "token_expiring" and 40_000 < warning["in_ms"] <= 60_000
        assert (await say(socket, type="refresh", token=gate.token("eve")))["code"] == "forbidden"
        assert (await say(socket, type="refresh", token="bad", id=1))["code"] == "unauthenticated"
        assert await say(socket, type="refresh", token=gate.token("bob", 300), id=2) == {"type": "refreshed", "id": 2}
        gate.forward(100)
        assert (await say(socket, type="ping"))["type"] == "pong"
        gate.forward(250)
        code, frames = await closing(socket)
        assert code == 4610 and [f["type"] for f in frames] == ["token_expiring", "disconnect"]


async def test_an_sse_stream_ends_with_its_token() -> None:
    async with gateway(mode="jwt") as gate:
        gate.owners.create("a")
        client, _ = await stream(gate, f"/sse/subscribe?topic_id=a&token={gate.token('bob', 30)}")
        gate.forward(40)
        text = (await client.rest()).decode()
        assert "event: disconnect\n" in text and json.loads(text.rpartition("data: ")[2])["code"] == 4610


async def test_twenty_connections_a_user() -> None:
    async with gateway(mode="jwt", limits=Limits(connections_per_user=2)) as gate:
        gate.owners.create("a")
        path = f"/ws/subscribe?token={gate.token('bob')}"
        kept = [await connect(gate.ws(path)) for _ in range(2)]
        code, (frame,) = await closing(await connect(gate.ws(path)))
        assert code == 4529 and frame["reconnect"] and frame["retry_after_ms"] > 0
        client, events = await stream(gate, f"/sse/subscribe?topic_id=a&token={gate.token('bob')}", 2)
        assert [e.get("event") for e in events] == [None, "disconnect"]
        assert events[1]["data"]["code"] == 4529 and await client.rest() == b""
        service = await connect(gate.ws(f"/ws/subscribe?token={gate.token('bob', service=True)}"))
        assert (await frames_of(service, 1))[0]["type"] == "welcome"
        for socket in (*kept, service):
            await socket.close()


async def test_rights_are_the_owners_to_judge() -> None:
    async with gateway(mode="jwt") as gate:
        gate.owners.create("secret", permissions="PRIVATE")
        gate.owners.create("letters", permissions="PUBLISH_ONLY")
        async with connect(gate.ws(f"/ws/subscribe?token={gate.token('bob')}")) as socket:
            await frames_of(socket, 1)
            assert (await say(socket, type="subscribe", topic_id="secret"))["code"] == "topic_not_found"
            assert (await say(socket, type="subscribe", topic_id="letters"))["code"] == "forbidden"
        for topic, status in (("secret", 404), ("letters", 403)):
            for extra in ("", "&from=never"):
                client = await Client.to(gate)
                client.ask(f"/sse/subscribe?topic_id={topic}&token={gate.token('bob')}{extra}")
                assert (await client.answer())[0] == status
                client.close()
        async with connect(gate.ws(f"/ws/subscribe?token={gate.token('bob', subscribe=('sec*',))}")) as socket:
            await frames_of(socket, 1)
            assert (await say(socket, type="subscribe", topic_id="secret"))["type"] == "subscribed"


async def test_no_log_line_holds_a_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(10)
    async with gateway(mode="jwt") as gate:
        gate.owners.create("a")
        token = gate.token()
        for path in (f"/nothing?token={token}", f"/sse/subscribe?topic_id=a&token={token}x"):
            client = await Client.to(gate)
            client.ask(path)
            await client.answer()
            client.close()
        client = await Client.to(gate)
        client.writer.write(f"GET /ws/subscribe?token={token} HTTP/1.1\r\nbad header\r\n\r\n".encode())
        assert (await client.head())[0] == 400
        client.close()
        await asyncio.sleep(0)
        logged = [r.getMessage() for r in caplog.records if not r.name.startswith(("asyncio", "websockets"))]
        assert not any(token in line for line in logged)
