"""Attacks that once worked, on real processes over real Kafka, beside a good client: each has its rule in its name."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.attack.target import Neighbour, healthy, say
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import SECRET, Deployment, Role, Stage, token, until
from tests.integration.test_links_security import GREETING, Wiretap, ended, stranger, tapped

LINKS = "the-key-of-the-links-of-32-bytes-or-more"
BAD_TOKENS = 300
RECONNECTS = 20


@asynccontextmanager
async def attacked(stage: Stage, bootstrap: str, prefix: str) -> AsyncIterator[tuple[Deployment, Neighbour, Wiretap]]:
    """A deployment whose gateway knows three addresses: a tapped one, a liar's, and the dispatcher's."""
    deployment = Deployment(stage, bootstrap, prefix)
    (gateway,) = deployment.gateways
    real = f"127.0.0.1:{deployment.dispatchers[0].port}"
    async with tapped(real) as (through, tap), websockets.serve(_liar, "127.0.0.1", 0) as liar:
        lies = f"127.0.0.1:{liar.sockets[0].getsockname()[1]}"
        for role in deployment.roles:
            role.settings["cluster.secret"] = LINKS
        for role in deployment.dispatchers:
            del role.settings["auth.secret"]  # it verifies no tokens
        gateway.settings["cluster.dispatchers"] = f"{lies},{through},{real}"
        await deployment.start(4)
        async with Neighbour(deployment).living() as neighbour:
            yield deployment, neighbour, tap


async def test_what_once_worked_is_answered_rightly(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    async with attacked(stage, kafka_bootstrap, log_prefix) as (deployment, neighbour, tap):
        (gateway,), (ingest,), (dispatcher,) = deployment.gateways, deployment.ingests, deployment.dispatchers
        for name, attack in (
            ("a poisoned claim costs its owner a 4401 and nobody a link", _poison(gateway, ingest)),
            ("what was captured of a link opens none", _replay(dispatcher, tap)),
            ("a liar at a dispatcher's address ends nothing", _lied_to(gateway)),
            ("refused callers leave a trace that they cannot flood", _trace(ingest)),
            ("a refresh takes rights away", _refresh(gateway, ingest)),
            ("files of the index are the process's own", _private(deployment.index(dispatcher))),
        ):
            await attack
            await healthy(deployment.roles, name)
            figures.say(f"{name}: {await neighbour.judge(name)}")


async def _liar(connection: websockets.ServerConnection) -> None:
    await connection.send(GREETING)
    await connection.recv()
    await connection.send("é".encode() * 16)
    await connection.wait_closed()


async def _poison(gateway: Role, ingest: Role) -> None:
    claims = {"sub": "eve", "exp": time.time() + 300, "headgate": {"subscribe": ["\ud83d*"]}}
    bad = jwt.encode(claims, SECRET, algorithm="HS256")
    stream = f"ws://127.0.0.1:{gateway.port}/ws/subscribe?topic_id=good"
    for number in range(RECONNECTS):
        headers = {"Authorization": f"Bearer {bad}"} if number % 2 else {}
        async with connect(stream, additional_headers=headers) as socket:
            if not headers:
                await socket.send(json.dumps({"type": "auth", "token": bad}))
            assert await _close_code(socket) == 4401
    head = f"GET /api/v1/topics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bad}\r\n\r\n".encode()
    assert (await say(ingest, head))[0] == 401


async def _replay(dispatcher: Role, tap: Wiretap) -> None:
    assert len(tap.up) > 1, "the gateway came through the tap"
    for _ in range(5):
        async with stranger(f"127.0.0.1:{dispatcher.port}") as socket:
            await socket.recv()
            for data in tap.up[:2]:
                await socket.send(data)
            assert await ended(socket) == (1008, "the cluster secrets differ")


async def _lied_to(gateway: Role) -> None:
    await until("the liar is named", lambda: "does not know the cluster secret" in gateway.errors(), 20)


async def _trace(ingest: Role) -> None:
    before = (await ingest.metrics())['headgate_refusals_total{code="unauthenticated"}']
    bad = token("eve")[:-4] + "AAAA"
    head = f"GET /api/v1/topics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bad}\r\n\r\n".encode()
    junk = b"GE T / HTTP/1.1\r\n\r\n"
    for _ in range(BAD_TOKENS // 10):
        await asyncio.gather(*(say(ingest, head) for _ in range(10)), *(say(ingest, junk) for _ in range(10)))
    after = (await ingest.metrics())['headgate_refusals_total{code="unauthenticated"}']
    assert after - before == BAD_TOKENS
    lines = ingest.errors().splitlines()
    assert 1 <= len([line for line in lines if '"refused"' in line and "unauthenticated" in line]) <= 10
    assert len([line for line in lines if "Invalid HTTP request" in line]) <= 5
    assert bad not in ingest.errors() and bad.rpartition(".")[2] not in ingest.errors()


async def _refresh(gateway: Role, ingest: Role) -> None:
    async with Publisher(ingest.url, token("owner")) as owner:
        assert (await owner.create("secret", permissions="PRIVATE")).status == 201
        claims = {"sub": "eve", "exp": time.time() + 300}
        strong = jwt.encode(claims | {"headgate": {"subscribe": ["secret"]}}, SECRET, algorithm="HS256")
        stream = f"ws://127.0.0.1:{gateway.port}/ws/subscribe?topic_id=secret"
        async with connect(stream, additional_headers={"Authorization": f"Bearer {strong}"}) as socket:
            assert [await _frame(socket) for _ in range(3)] == ["welcome", "subscribed", "presence"]
            await socket.send(json.dumps({"type": "refresh", "token": jwt.encode(claims, SECRET, algorithm="HS256")}))
            assert [await _frame(socket) for _ in range(2)] == ["refreshed", "unsubscribed forbidden"]
            assert (await owner.publish("secret", 1)).status == 200
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 1)


async def _private(index: Path) -> None:
    files = [path for path in index.rglob("*") if path.is_file()]
    assert files and all(path.stat().st_mode & 0o077 == 0 for path in [index, *files])


async def _frame(socket: ClientConnection) -> str:
    frame = json.loads(await asyncio.wait_for(socket.recv(), 10))
    return f"{frame['type']} {frame['reason']}" if frame.get("reason") else str(frame["type"])


async def _close_code(socket: ClientConnection) -> int | None:
    try:
        async with asyncio.timeout(10):
            while True:
                await socket.recv()
    except ConnectionClosed:
        return socket.close_code
