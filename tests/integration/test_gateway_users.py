"""Users on three gateways, over two dispatchers: listed, ended and counted everywhere, also after an owner is gone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions
from dispatcher.service import DispatcherService
from gateway.gateway_options import GatewayOptions
from gateway.service import GatewayService
from headgate.core.client.limits import Limits
from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.link import AskVerdict
from headgate.core.wire.link_users import AskConnections, ConnectionsAnswer
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.http.server import HttpServer
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Link, Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link
from headgate.runtime.tokens import Authenticator, TokenKey, mint

SECRET = "a secret of at least thirty-two bytes"
SHARDS = 4


class DispatcherNode:
    """A dispatcher on a shared log; `kill` closes its links and ends it."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        shell = Shell(SystemClock(), SystemRng(), Metrics({"dispatcher"}))
        self.log = MemoryLog(store)
        options = DispatcherOptions(name, name, None, assignment=AssignmentOptions())
        self.service = DispatcherService(options, self.log, shell)
        self.links: list[Link] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.log.open()
        self._task = asyncio.create_task(self.service.run())
        await self.service.ready.wait()

    def link(self, directory: LinkDirectory) -> None:
        near, far = encoded_link()
        self.links.append(far)
        self.service.accept(far)
        directory.add(near)

    async def kill(self) -> None:
        for link in self.links:
            link.close("the dispatcher was killed")
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None


class GatewayNode:
    """A gateway that serves on a loopback port."""

    def __init__(self, name: str, limits: Limits) -> None:
        clock = SystemClock()
        self.directory = LinkDirectory("gateway", name)
        self.service = GatewayService(
            GatewayOptions(limits=limits, node=name),
            self.directory,
            Authenticator("jwt", TokenKey(SECRET), clock),
            Shell(clock, SystemRng(), Metrics({"gateway"})),
        )
        self.directory.deliver_to(self.service)
        self.server = HttpServer("127.0.0.1", 0, self.service.app(), self.service.protocol)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.server.serve()), asyncio.create_task(self.service.run())]
        try:
            yield
        finally:
            tasks[1].cancel()
            for session in list(self.service.hub.sessions):
                self.service.sessions.leave(session)
            await self.server.finish()
            await tasks[0]
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[1]


class Cluster:
    """Two dispatchers, three gateways, and a directory that asks as an ingest does."""

    def __init__(self, dispatchers: list[DispatcherNode], gateways: list[GatewayNode], ingest: LinkDirectory) -> None:
        self.dispatchers = dispatchers
        self.gateways = gateways
        self.ingest = ingest

    async def linked(self) -> None:
        directories = [self.ingest, *(gateway.directory for gateway in self.gateways)]
        await until(lambda: all(directory.missing() is None for directory in directories), 15)

    async def create(self, topic_id: str) -> None:
        shard, key = self.ingest.shard_of(topic_id), topic_key(topic_id)
        control = CreateTopic(topic_id=topic_id, name=topic_id, permissions="PUBLIC", owner_id="ann")
        value = encode_control(encode_body(control), 0, keyed_id(key, "ann", topic_id))
        at = await self.dispatchers[0].log.append(LogName.MESSAGES, shard, key, value)
        await self.ingest.ask(shard, lambda req: AskVerdict(req, shard, at.offset))

    async def connections(self, user: str) -> ConnectionsAnswer:
        answer = await self.ingest.ask(self.ingest.shard_of(user), lambda req: AskConnections(req, user))
        assert isinstance(answer, ConnectionsAnswer)
        return answer

    def owner_of(self, user: str) -> DispatcherNode:
        shard = self.ingest.shard_of(user)
        return next(node for node in self.dispatchers if node.service.dispatcher.api(shard) is not None)

    async def follow(self, at: int, user: str, *topics: str) -> ClientConnection:
        query = "".join(f"&topic_id={topic}" for topic in topics)
        socket = await connect(f"ws://{self.address(at)}/ws/subscribe?presence=false&token={token(user)}{query}")
        for expected in ["welcome", *["subscribed"] * len(topics)]:
            assert json.loads(await socket.recv())["type"] == expected
        return socket

    async def delete(self, at: int, user: str, topic: str) -> Any:
        async with httpx.AsyncClient(timeout=10) as client:
            url = f"http://{self.address(at)}/api/v1/topics/{topic}/subscribe"
            return await client.request("DELETE", url, headers={"authorization": f"Bearer {token(user)}"})

    def address(self, at: int) -> str:
        return f"127.0.0.1:{self.gateways[at].server.port}"


def token(user: str) -> str:
    return mint(TokenKey(SECRET), Caller(user), now_s=SystemClock().wall_ms() / 1_000, ttl_s=600)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def eventually(found: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await found():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(limits: Limits | None = None) -> AsyncIterator[Cluster]:
    store = MemoryStore(SystemClock(), SystemRng(), SHARDS, 1 << 26)
    dispatchers = [DispatcherNode(store, f"d{n}") for n in range(2)]
    gateways = [GatewayNode(f"g{n}", limits or Limits()) for n in range(3)]
    ingest = LinkDirectory("ingest", "i")
    async with AsyncExitStack() as stack:
        for node in dispatchers:
            stack.push_async_callback(node.kill)
            await node.start()
            for directory in [ingest, *(gateway.directory for gateway in gateways)]:
                node.link(directory)
        for gateway in gateways:
            await stack.enter_async_context(gateway.serving())
        found = Cluster(dispatchers, gateways, ingest)
        await found.linked()
        yield found


async def ended(socket: ClientConnection) -> str:
    async with asyncio.timeout(5):
        while True:
            frame = json.loads(await socket.recv())
            if frame["type"] == "unsubscribed":
                return str(frame["reason"])


async def test_a_user_is_listed_and_ended_on_all_gateways_also_after_his_owner_is_gone() -> None:
    async with cluster() as scene:
        for topic in ("a", "b"):
            await scene.create(topic)
        sockets = [await scene.follow(at, "ann", "a", "b") for at in (0, 1, 2)]
        other = await scene.follow(1, "eve", "a")
        answer = await scene.connections("ann")
        assert answer.complete and sorted(c.gateway for c in answer.connections) == ["g0", "g1", "g2"]
        assert all(sorted(s.topic_id for s in c.subscriptions) == ["a", "b"] for c in answer.connections)
        deleted = await scene.delete(1, "ann", "a")
        assert (deleted.status_code, deleted.json()) == (200, {"success": True, "ended": 3})
        assert [await ended(socket) for socket in sockets] == ["ended"] * 3

        await scene.owner_of("ann").kill()
        await scene.linked()
        answer = await scene.connections("ann")  # waits for the gateways to announce their users
        assert answer.complete and sorted(c.gateway for c in answer.connections) == ["g0", "g1", "g2"]
        assert all([s.topic_id for s in c.subscriptions] == ["b"] for c in answer.connections)
        deleted = await scene.delete(2, "ann", "b")
        assert (deleted.status_code, deleted.json()["ended"]) == (200, 3)
        assert [await ended(socket) for socket in sockets] == ["ended"] * 3
        assert (await scene.delete(0, "ann", "b")).json()["ended"] == 0
        assert (await scene.delete(0, "ann", "x")).status_code == 404
        await sockets[0].close()
        await eventually(lambda: has(scene, "ann", ["g1", "g2"]))
        assert len((await scene.connections("eve")).connections) == 1
        for socket in (*sockets[1:], other):
            await socket.close()


async def has(scene: Cluster, user: str, gateways: list[str]) -> bool:
    return sorted(connection.gateway for connection in (await scene.connections(user)).connections) == gateways


async def test_the_limit_of_connections_counts_over_all_gateways() -> None:
    async with cluster(Limits(connections_per_user=4)) as scene:
        first = [await scene.follow(at, "ann") for at in (0, 1, 2, 0)]
        await eventually(lambda: has(scene, "ann", ["g0", "g0", "g1", "g2"]))
        above = await scene.follow(1, "ann")
        async with asyncio.timeout(2):
            frame = json.loads(await above.recv())
        assert (frame["type"], frame["code"], frame["reconnect"]) == ("disconnect", 4529, True)
        await above.wait_closed()
        assert above.close_code == 4529
        await first[2].close()
        await eventually(lambda: has(scene, "ann", ["g0", "g0", "g1"]))
        again = await scene.follow(1, "ann")
        await asyncio.sleep(0.2)
        assert await has(scene, "ann", ["g0", "g0", "g1", "g1"]) and again.close_code is None
        for socket in [first[0], first[1], first[3], again]:
            await socket.close()
