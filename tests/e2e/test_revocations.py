"""Revoked tokens end on three gateways, with one of two dispatchers killed, and stay revoked after restarts (Kafka)."""

import asyncio
import contextlib
import time
from typing import Any

import websockets

from headgate.core.wire.rights import Caller
from headgate.runtime.tokens import TokenKey, mint
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import SECRET, Deployment, Role, Stage, token, until

GATEWAYS = 3


def issued_before(sub: str, jti: str | None = None) -> str:
    """A token of a few seconds ago."""
    return mint(TokenKey(SECRET), Caller(sub), now_s=time.time() - 5, ttl_s=3_600, jti=jti)


async def connected(gateway: Role, query: str) -> Any:
    url = f"ws://127.0.0.1:{gateway.port}/ws/subscribe?{query}"
    socket = await websockets.connect(url, proxy=None)
    await asyncio.wait_for(socket.recv(), 10)
    return socket


async def code_of(socket: Any, seconds: float) -> int:
    async with asyncio.timeout(seconds):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for _ in socket:
                pass
    return int(socket.close_code)


async def refused(gateway: Role, query: str) -> bool:
    socket = await websockets.connect(f"ws://127.0.0.1:{gateway.port}/ws/subscribe?{query}", proxy=None)
    async with socket:
        return await code_of(socket, 10) == 4401


async def test_a_revocation_reaches_every_gateway_with_a_dispatcher_killed_and_outlives_restarts(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=GATEWAYS)
    await deployment.start()
    (ingest,) = deployment.ingests
    async with Publisher(ingest.url, token("root", admin=True)) as admin:
        seconds, bearers = [], []
        for user, killed in (("ann", False), ("bob", True)):
            bearer = issued_before(user)
            bearers.append(bearer)
            async with Publisher(ingest.url, bearer) as publisher:
                made = await publisher.call("POST", "/api/v1/tickets", {"kind": "stream", "topic_ids": ["t"]})
                ticket = made.body["ticket"]
            queries = [f"token={bearer}", f"ticket={ticket}"]
            sockets = [await connected(gateway, query) for gateway in deployment.gateways for query in queries]
            other = await connected(deployment.gateways[0], f"token={issued_before('cyd')}")
            if killed:
                deployment.dispatchers[0].kill9()
            started = time.monotonic()
            answer = await admin.call("POST", "/api/v1/revocations", {"user_id": user})
            assert answer.status == 204, answer
            assert [await code_of(socket, 10) for socket in sockets] == [4401] * len(sockets)
            seconds.append(time.monotonic() - started)
            assert other.close_code is None
            await other.close()
            for gateway in deployment.gateways:
                assert await refused(gateway, f"token={bearer}") and await refused(gateway, f"ticket={ticket}")
            async with Publisher(ingest.url, bearer) as publisher:
                assert (await publisher.call("GET", "/api/v1/topics")).status == 401

        gateway, dispatcher = deployment.gateways[0], deployment.dispatchers[1]
        for role in (gateway, dispatcher):
            role.kill9()
        for role in (*deployment.dispatchers, gateway):
            role.start()
        await gateway.ready()
        for bearer in bearers:
            assert await refused(gateway, f"token={bearer}")

        async def opens() -> bool:
            socket = await connected(gateway, f"token={token('ann')}")
            await socket.close()
            return True

        await until("a token issued since is good", opens, 10)
    figures.say(
        f"revocation on {GATEWAYS} gateways: {seconds[0]:.2f} s to the last of {2 * GATEWAYS} streams; with one of two "
        f"dispatchers killed {seconds[1]:.2f} s"
    )
