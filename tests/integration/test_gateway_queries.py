"""Queries of streams that are too long, or no text: what is answered, and how much of them is kept."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

from headgate.core.client.limits import Limits
from tests.integration.gateway_twin import frames_of, gateway, until
from tests.integration.http_twin import Raw, request


async def codes(socket: Any, count: int) -> list[str | None]:
    return [frame.get("code") for frame in await frames_of(socket, count)]


@pytest.mark.parametrize("bad", ["%FF", "%ED%A0%80", "a%00", "%"])
async def test_a_query_that_is_no_text_is_an_error_frame_and_no_failed_handshake(bad: str) -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        async with connect(gate.ws(f"/ws/subscribe?topic_id={bad}&topic_id=a&presence=false")) as socket:
            assert await codes(socket, 3) == [None, "invalid_topic_id", None]
        async with connect(gate.ws(f"/ws/subscribe?topic_id=a&from={bad}")) as socket:
            assert await codes(socket, 2) == [None, "bad_request"]


async def test_a_query_of_too_many_fields_is_read_up_to_the_bound() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        fields = "&".join(f"x{n}=1" for n in range(3_000))
        async with connect(gate.ws(f"/ws/subscribe?topic_id=a&presence=false&{fields}")) as socket:
            frames = await frames_of(socket, 3)
            assert [f["type"] for f in frames] == ["welcome", "subscribed", "error"]
            assert frames[2]["code"] == "bad_request" and "topic_id" not in frames[2]
        client = await Raw.to(gate.server.port)
        await client.say(request("GET", f"/sse/subscribe?topic_id=a&{fields}"))
        assert (await client.answer())[0] == 400, "an event stream tells by its status"
        client.close()


@pytest.mark.parametrize("topic", ["t{n}", "~{n}"])
async def test_no_more_wishes_are_kept_than_a_connection_may_have_topics(topic: str) -> None:
    async with gateway(mode="jwt", limits=Limits(topics=4), auto_create=True) as gate:
        query = "&".join("topic_id=" + topic.format(n=n) for n in range(2_040))
        async with connect(gate.ws(f"/ws/subscribe?{query}&presence=false")) as socket:
            await until(lambda: gate.service.hub.session_count == 1)
            (session,) = gate.service.hub.connections.all()
            assert gate.service.hub.pending.count(session) == 5
            await socket.send(json.dumps({"type": "auth", "token": gate.token()}))
            assert (await codes(socket, 6))[-1] == "limit_reached"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await socket.recv()


async def test_head_of_a_stream_knows_who_may_create_the_topic() -> None:
    async with gateway(mode="jwt", auto_create=True) as gate:
        cases: list[tuple[dict[str, Any], str, int]] = [
            ({"only": True, "publish": ["b*"]}, "a", 404),
            ({"only": True, "publish": ["a"]}, "a", 200),
            ({}, "a", 200),
            ({}, "hg:a", 404),
        ]
        for claims, topic_id, status in cases:
            client = await Raw.to(gate.server.port)
            bearer = f"Authorization: Bearer {gate.token(**claims)}"
            await client.say(request("HEAD", f"/sse/subscribe?topic_id={topic_id}", b"", bearer))
            async with asyncio.timeout(5):
                head = await client.reader.readuntil(b"\r\n\r\n")
            assert int(head.split(b" ")[1]) == status
            client.close()


async def test_an_upgrade_list_that_names_websocket_is_one() -> None:
    async with gateway() as gate:
        for fields in (
            ["Upgrade: websocket, h2c"],
            ["Upgrade: h2c, WebSocket"],
            ["Upgrade: websocket", "Upgrade: websocket"],
        ):
            client = await Raw.to(gate.server.port)
            key = ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
            await client.say(request("GET", "/ws/subscribe", b"", *key, *fields))
            assert (await client.answer())[0] == 101
            client.close()


async def test_no_redirect_repeats_a_token() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Raw.to(gate.server.port)
        await client.say(request("GET", "/nothing") + request("GET", "/sse/subscribe?topic_id=a&token=secret"))
        assert (await client.answer())[0] == 404
        async with asyncio.timeout(5):
            head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and b"secret" not in head
        client.close()
