"""Tickets and revocations over a whole cluster in one process: a dispatcher, an ingest and three gateways."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.service import DispatcherService
from gateway.gateway_options import GatewayOptions
from gateway.service import GatewayService
from headgate.core.wire.rights import Caller
from headgate.runtime.appender import Appender
from headgate.runtime.http.server import HttpServer
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Link, Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from ingest.service import IngestOptions, IngestService
from tests.integration.http_twin import rest_of

SECRET = "a secret of at least thirty-two bytes"
GATEWAYS = 3


class Cluster:
    """The services of a cluster, linked in memory through the wire format."""

    def __init__(self) -> None:
        clock, rng = SystemClock(), SystemRng()
        self.shell = Shell(clock, rng, Metrics({"ingest", "dispatcher", "gateway"}))
        self.log = MemoryLog(MemoryStore(clock, rng, 4, 1 << 28))
        self.directories = [LinkDirectory("ingest", "ingest")]
        self.ingest = IngestService(
            options=IngestOptions(),
            log=self.log,
            appender=Appender(self.log, clock),
            directory=self.directories[0],
            authenticator=self._authenticator(),
            shell=self.shell,
        )
        self.directories[0].deliver_to(self.ingest)
        self.gateways: list[GatewayService] = []
        self.servers: list[HttpServer] = []
        for n in range(GATEWAYS):
            directory = LinkDirectory("gateway", f"gateway-{n}")
            gateway = GatewayService(GatewayOptions(), directory, self._authenticator(), self.shell)
            directory.deliver_to(gateway)
            self.directories.append(directory)
            self.gateways.append(gateway)
            self.servers.append(HttpServer("127.0.0.1", 0, gateway.app(), gateway.protocol))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.ingest.app), base_url="http://ingest.test")
        self._dispatcher: asyncio.Task[None] | None = None
        self._links: list[Link] = []
        self._starts = 0
        self._writers: list[asyncio.StreamWriter] = []

    def _authenticator(self) -> Authenticator:
        return Authenticator("jwt", TokenKey(SECRET), self.shell.clock)

    async def start_dispatcher(self) -> None:
        self._starts += 1
        options = DispatcherOptions(f"dispatcher-{self._starts}", "127.0.0.1:1", None)
        service = DispatcherService(options, self.log, self.shell)
        self._dispatcher = asyncio.create_task(service.run())
        await service.ready.wait()
        for directory in self.directories:
            near, far = encoded_link()
            service.accept(far)
            directory.add(near)
            self._links.append(near)
        async with asyncio.timeout(5):
            while any(directory.missing() for directory in self.directories):
                await asyncio.sleep(0.01)

    async def kill_dispatcher(self) -> None:
        for link in self._links:
            link.close("killed")
        self._links.clear()
        assert self._dispatcher is not None
        self._dispatcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._dispatcher

    def token(self, sub: str = "ann", *, jti: str | None = None, **rights: Any) -> str:
        return mint(TokenKey(SECRET), Caller(sub, **rights), now_s=time.time() - 1, ttl_s=600, jti=jti)

    async def post(self, path: str, token: str, body: Any) -> httpx.Response:
        return await self.client.post(path, json=body, headers={"Authorization": f"Bearer {token}"})

    async def ticket(self, token: str, **body: Any) -> str:
        answer = await self.post("/api/v1/tickets", token, body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["ticket"])

    async def revoke(self, **body: Any) -> None:
        answer = await self.post("/api/v1/revocations", self.token("root", admin=True), body)
        assert answer.status_code == 204, answer.text

    def websocket(self, n: int, query: str) -> Any:
        return websockets.connect(f"ws://127.0.0.1:{self.servers[n].port}/ws/subscribe?{query}", proxy=None)

    async def sse(self, n: int, query: str) -> tuple[int, asyncio.StreamReader]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.servers[n].port)
        writer.write(f"GET /sse/subscribe?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self._writers.append(writer)
        async with asyncio.timeout(5):
            return int((await reader.readline()).split()[1]), reader

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.client.aclose()


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    await made.log.open()
    await made.start_dispatcher()
    serving = [asyncio.create_task(server.serve()) for server in made.servers]
    ticking = [asyncio.create_task(gateway.run()) for gateway in made.gateways]
    try:
        answer = await made.post("/api/v1/topics", made.token(), {"topic_id": "t", "name": "t"})
        assert answer.status_code == 201, answer.text
        yield made
    finally:
        await made.close()
        for task in ticking:
            task.cancel()
        async with asyncio.timeout(5):
            while any(gateway.hub.session_count for gateway in made.gateways):
                await asyncio.sleep(0.01)
        for server in made.servers:
            await server.finish()
        await asyncio.gather(*serving)
        await made.kill_dispatcher()
        await made.log.close()


async def close_code(socket: Any, seconds: float = 2.0) -> int:
    async with asyncio.timeout(seconds):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for _ in socket:
                pass
    return int(socket.close_code)


async def welcomed(socket: Any) -> bool:
    async with asyncio.timeout(5):
        return bool(json.loads(await socket.recv())["type"] == "welcome")


async def test_a_replayed_ticket_used_twice_at_once_on_two_gateways_gives_one_stream() -> None:
    async with cluster() as made:
        for _ in range(5):
            ticket = await made.ticket(made.token())
            opened = await asyncio.gather(*(made.sse(n, f"topic_id=t&ticket={ticket}") for n in range(GATEWAYS)))
            assert sorted(status for status, _ in opened) == [200, 401, 401]
            async with made.websocket(0, f"ticket={ticket}") as socket:
                assert await close_code(socket) == 4401


async def test_a_ticket_of_a_dispatcher_that_is_gone_is_refused_and_the_next_one_is_good() -> None:
    async with cluster() as made:
        used, unused = await made.ticket(made.token()), await made.ticket(made.token())
        assert (await made.sse(0, f"topic_id=t&ticket={used}"))[0] == 200
        await made.kill_dispatcher()
        status, reader = await made.sse(0, f"topic_id=t&ticket={unused}")
        assert status == 200 and b'"code":4503' in await rest_of(reader)
        await asyncio.sleep(0.01)
        await made.start_dispatcher()
        for ticket in (used, unused):
            assert (await made.sse(1, f"topic_id=t&ticket={ticket}"))[0] == 401
        assert (await made.sse(1, f"topic_id=t&ticket={await made.ticket(made.token())}"))[0] == 200


@pytest.mark.parametrize("by", ["user_id", "jti"])
@pytest.mark.parametrize("killed", [False, True])
async def test_a_revocation_ends_live_streams_on_every_gateway_within_two_seconds(by: str, killed: bool) -> None:
    async with cluster() as made, contextlib.AsyncExitStack() as stack:
        token = made.token(jti="login")
        ticket = await made.ticket(token, kind="stream", topic_ids=["t"])
        query = [f"topic_id=t&token={token}", f"topic_id=t&ticket={ticket}"] * GATEWAYS
        anns = [await stack.enter_async_context(made.websocket(n % GATEWAYS, q)) for n, q in enumerate(query)]
        bobs = [await stack.enter_async_context(made.websocket(n, f"token={made.token('bob')}")) for n in range(3)]
        assert all([await welcomed(socket) for socket in anns + bobs])
        if killed:
            await made.kill_dispatcher()
            answer = await made.post("/api/v1/revocations", made.token("root", admin=True), {by: "login"})
            assert answer.status_code == 503, "nobody could tell the others"
            await made.start_dispatcher()
        started = time.monotonic()
        await made.revoke(**{by: "ann" if by == "user_id" else "login"})
        assert [await close_code(socket) for socket in anns] == [4401] * len(anns)
        assert time.monotonic() - started < 2
        for n in range(GATEWAYS):
            assert (await made.sse(n, f"topic_id=t&token={token}"))[0] == 401
            assert (await made.sse(n, f"topic_id=t&ticket={ticket}"))[0] == 401
        assert (await made.post("/api/v1/topics/t/publish", token, {"payload": 1})).status_code == 401
        assert all(socket.close_code is None for socket in bobs)
        assert (await made.sse(0, f"topic_id=t&token={made.token('cyd')}"))[0] == 200


async def test_a_revocation_outlives_the_restart_of_every_process() -> None:
    async with cluster() as made:
        token = made.token()
        await made.revoke(user_id="ann")
        await made.kill_dispatcher()
        directory = LinkDirectory("gateway", "a new one")
        gateway = GatewayService(GatewayOptions(), directory, made._authenticator(), made.shell)
        directory.deliver_to(gateway)
        made.directories.append(directory)
        server = HttpServer("127.0.0.1", 0, gateway.app(), gateway.protocol)
        made.gateways.append(gateway)
        made.servers.append(server)
        serving = asyncio.create_task(server.serve())
        await made.start_dispatcher()
        assert (await made.sse(GATEWAYS, f"topic_id=t&token={token}"))[0] == 401
        await server.finish()
        await serving
        made.servers.pop()
