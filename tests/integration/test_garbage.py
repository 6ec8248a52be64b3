"""What a request, a refusal and a stream were made of is gone with them, without the garbage collector."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop

from tests.integration.gateway_twin import Gateway, gateway, until
from tests.integration.http_twin import Raw, request
from tests.integration.ingest_twin import World, play

COUNT = 50
OURS = ("headgate", "gateway", "dispatcher", "ingest", "uvicorn", "httptools")
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def left_behind() -> Counter[str]:
    """Returns the kinds of objects of ours, by count, that only the collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    kinds = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    gc.set_debug(0)
    gc.garbage.clear()
    return Counter({kind: count for kind, count in kinds.items() if kind.startswith(OURS) and count >= COUNT})


async def answered(gate: Gateway) -> None:
    client = await Raw.to(gate.server.port)
    await client.say(request("GET", "/openapi.json", b"", "Connection: close"))
    await client.ended()
    await client.gone()


async def refused(gate: Gateway) -> None:
    client = await Raw.to(gate.server.port)
    await client.say(request("GET", "/api/v1/nothing"))
    assert (await client.answer())[0] == 404
    await client.gone()


async def pipelined(gate: Gateway) -> None:
    client = await Raw.to(gate.server.port)
    await client.say(request("GET", "/api/v1/nothing") * 5)
    await client.gone()


async def malformed(gate: Gateway) -> None:
    client = await Raw.to(gate.server.port)
    await client.say(b"no request\r\n\r\n")
    await client.ended()
    await client.gone()


async def half(gate: Gateway) -> None:
    client = await Raw.to(gate.server.port)
    await client.say(b"POST /api/v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12")
    await client.gone()


async def websocket(gate: Gateway) -> None:
    client = await Raw.to(gate.server.port)
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    await client.say(request("GET", "/ws/subscribe?topic_id=t", b"", *UPGRADE, key))
    await client.reader.readuntil(b"subscribed")
    await client.gone()


async def sse(gate: Gateway) -> None:
    client = await Raw.to(gate.server.port)
    await client.say(request("GET", "/sse/subscribe?topic_id=t"))
    await client.reader.readuntil(b"subscribed")
    await client.gone()


@pytest.mark.parametrize("one", [answered, refused, pipelined, malformed, half, websocket, sse])
def test_a_connection_leaves_nothing_to_the_collector(one: Callable[[Gateway], Awaitable[None]]) -> None:
    async def scene() -> None:
        async with gateway() as gate:
            gate.owners.create("t")
            for _ in range(COUNT):
                await one(gate)
            await until(lambda: not gate.connections)
            await asyncio.sleep(0.05)
            assert not left_behind()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the one of a server
        runner.run(scene())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/topics/nothing", None),
        ("POST", "/api/v1/topics/t/publish", b'{"payload":'),
        ("POST", "/api/v1/topics/t/publish", b'{"payload":1,"kind":"none"}'),
        ("POST", "/api/v1/publish/batch", b'[{"topic_id":"t","payload":1},{"topic_id":"-"},1]'),
        ("POST", "/api/v1/publish/batch", b"["),
        ("GET", "/api/v1/topics/t/messages?limit=0", None),
        ("PUT", "/api/v1/topics/nothing/members/bob", b'{"role":"member"}'),
    ],
)
def test_a_refusal_leaves_nothing_to_the_collector(method: str, path: str, body: bytes | None) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for _ in range(COUNT):
            await world.call(method, path, content=body, headers={"Content-Type": "application/json"})
        assert not left_behind()

    play(scene)
