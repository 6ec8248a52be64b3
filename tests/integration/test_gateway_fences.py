"""Live rights on a serving gateway: members are put out and a topic is made private while messages flow."""

import asyncio
import json

import httpx
from websockets.asyncio.client import ClientConnection, connect

from headgate.core.wire.member_roles import Role
from tests.integration.gateway_twin import Gateway, gateway, seqs_until


async def follow(gate: Gateway, user: str) -> ClientConnection:
    socket = await connect(gate.ws(f"/ws/subscribe?topic_id=a&presence=false&token={gate.token(user)}"))
    assert [json.loads(await socket.recv())["type"] for _ in range(2)] == ["welcome", "subscribed"]
    return socket


async def test_nobody_gets_a_message_above_his_fence_and_everybody_else_gets_every_one() -> None:
    users = [f"u{n}" for n in range(20)]
    async with gateway(mode="jwt") as gate:
        topic = gate.owners.create("a", members=dict.fromkeys(users[:15], Role.MEMBER))
        sockets = {user: await follow(gate, user) for user in users}
        fences: dict[str, int] = {}
        reading = {user: asyncio.create_task(seqs_until(socket, 400, 10)) for user, socket in sockets.items()}
        for n in range(400):
            gate.owners.publish("a", n)
            if n == 100:
                gate.owners.permit("a", "PRIVATE")
                fences |= dict.fromkeys(users[15:], topic.seq)
            if n >= 150 and n % 20 == 0 and len(fences) < 15:
                user = users[len(fences) - 5]
                gate.owners.remove("a", user)
                fences[user] = topic.seq
            if n % 7 == 0:
                await asyncio.sleep(0)
        for user, task in reading.items():
            seqs, reasons = await task
            last = fences.get(user, 400)
            assert (seqs, reasons) == (list(range(1, last + 1)), ["forbidden"] if user in fences else []), user
        for socket in sockets.values():
            await socket.close()
        assert len(fences) == 15


async def test_an_sse_stream_ends_with_forbidden_when_its_user_is_put_out() -> None:
    async with gateway(mode="jwt") as gate, httpx.AsyncClient(timeout=10) as client:
        gate.owners.create("a", permissions="PRIVATE", members={"ann": Role.SUBSCRIBER})
        url = gate.http(f"/sse/subscribe?topic_id=a&token={gate.token('ann')}")
        async with client.stream("GET", url) as answer:
            lines = answer.aiter_lines()
            async for line in lines:
                if line == "event: subscribed":
                    break
            gate.owners.publish("a", 1)
            gate.owners.remove("a", "ann")
            gate.owners.publish("a", 2)
            text = [line async for line in lines]
        assert sum('"payload"' in line for line in text) == 1
        at = text.index("event: unsubscribed")
        assert json.loads(text[at + 1].removeprefix("data: ")) == {
            "type": "unsubscribed", "topic_id": "a", "reason": "forbidden",
        }  # fmt: skip
        assert (await client.get(url)).status_code == 404
