"""Acknowledged subscriptions through real sockets: redelivery on the gateway's own clock, takeover, and a drain."""

import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.integration.gateway_twin import Gateway, frames_of, gateway, until

RETRY = {"kind": "fixed", "first_ms": 300, "max_ms": 300, "jitter": 0}


async def acker(gate: Gateway, user: str = "bob", more: str = "", skip: int = 3) -> ClientConnection:
    """Opens a socket and reads its first frames: welcome, subscribed, caught_up."""
    query = f"/ws/subscribe?topic_id=a&user={user}&ack=true&from=cursor&presence=false{more}"
    socket = await connect(gate.ws(query), max_queue=None)
    await frames_of(socket, skip)
    return socket


async def ack(socket: ClientConnection, seq: int, **more: Any) -> None:
    await socket.send(json.dumps({"type": "ack", "topic_id": "a", "seq": seq, **more}))


async def test_what_is_not_acknowledged_comes_again_and_an_ack_ends_it() -> None:
    async with gateway() as gate:
        gate.owners.create("a", settings={"retry": RETRY})
        socket = await acker(gate)
        gate.owners.publish("a", 1, 2)
        first, second, *again = await frames_of(socket, 4)
        assert [(frame["seq"], frame.get("attempt")) for frame in (first, second)] == [(1, None), (2, None)]
        assert [(frame["seq"], frame["attempt"], frame["payload"]) for frame in again] == [(1, 2, 1), (2, 2, 2)]
        await ack(socket, 2, id="a")
        while (frame := (await frames_of(socket, 1))[0])["type"] == "message":
            assert frame["attempt"] > 2
        assert frame == {"type": "ok", "id": "a"}
        assert gate.owners.cursors.seq("bob", "a") == 2
        await socket.close()


async def test_a_second_session_of_the_device_takes_over() -> None:
    async with gateway() as gate:
        gate.owners.create("a", settings={"retry": RETRY | {"first_ms": 30_000, "max_ms": 30_000}})
        first = await acker(gate)
        gate.owners.publish("a", 1, 2)
        await frames_of(first, 2)
        await ack(first, 1, id=1)
        await frames_of(first, 1)
        second = await acker(gate, skip=2)
        assert await frames_of(first, 1) == [{"type": "unsubscribed", "topic_id": "a", "reason": "replaced"}]
        message, caught_up = await frames_of(second, 2)
        assert (message["seq"], caught_up["type"]) == (2, "caught_up")
        await first.close()
        await second.close()
        await until(lambda: not gate.owners.cursors.leases)


async def test_a_drain_waits_until_the_cursors_are_stored() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        sockets = [await acker(gate, f"u{n}") for n in range(5)]
        gate.owners.publish("a", 1)
        for socket in sockets:
            await frames_of(socket, 1)
            await ack(socket, 1)
        await until(lambda: all(acks.window.acked == 1 for acks in gate.service.hub.acknowledging))
        await gate.service.drain(0.0)
        assert [gate.owners.cursors.seq(f"u{n}", "a") for n in range(5)] == [1] * 5
        for socket in sockets:
            await socket.close()
