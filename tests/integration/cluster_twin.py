"""Three gateways on loopback ports, over two dispatchers on one log in memory; links pass the wire format."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from os import urandom
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions
from dispatcher.service import DispatcherService
from gateway.gateway_options import GatewayOptions
from gateway.service import GatewayService
from headgate.core.client.limits import Limits
from headgate.core.wire.control import LOGIC, Control, CreateTopic, Logic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.link import AskVerdict, Verdicts
from headgate.core.wire.link_users import AskConnections, ConnectionsAnswer
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Verdict
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
            for session in list(self.service.hub.connections.all()):
                self.service.sessions.leave(session)
            await self.server.finish()
            await tasks[0]
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[1]


class Cluster:
    """Two dispatchers, three gateways, and a directory that asks as an ingest does."""

    def __init__(
        self, dispatchers: list[DispatcherNode], gateways: list[GatewayNode], ingest: LinkDirectory, log: MemoryLog
    ) -> None:
        self.dispatchers = dispatchers
        self.gateways = gateways
        self.ingest = ingest
        self.ingest_log = log

    async def linked(self) -> None:
        directories = [self.ingest, *(gateway.directory for gateway in self.gateways)]
        await until(lambda: all(directory.missing() is None for directory in directories), 15)

    async def create(self, topic_id: str, permissions: str = "PUBLIC") -> int:
        """Creates a topic of root's; returns its epoch."""
        return (await self.control(topic_id, CreateTopic(topic_id, topic_id, permissions, "root"), 0)).epoch

    async def control(self, topic_id: str, control: Control, epoch: int) -> Verdict:
        """Appends a control record and waits for its verdict."""
        key = topic_key(topic_id)
        return await self._verdict(topic_id, encode_control(encode_body(control), epoch, random_id(key, urandom(12))))

    async def publish(self, topic_id: str, epoch: int, payload: int) -> Verdict:
        """Appends a message and waits for its verdict."""
        key = topic_key(topic_id)
        tail = b'"message_id":"m","publisher_id":"p","payload":%d}' % payload
        return await self._verdict(topic_id, encode_message(Item(random_id(key, urandom(12)), 0, tail), epoch))

    async def _verdict(self, topic_id: str, value: bytes) -> Verdict:
        shard = self.ingest.shard_of(topic_id)
        at = await self.ingest_log.append(LogName.MESSAGES, shard, topic_key(topic_id), value)
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await self.ingest.ask(shard, lambda req: AskVerdict(req, shard, at.offset))
                except Refusal as refusal:
                    assert refusal.code == "not_ready"
                    await asyncio.sleep(0.02)
                else:
                    assert isinstance(answer, Verdicts)
                    return answer.verdicts[0]

    async def connections(self, user: str) -> ConnectionsAnswer:
        answer = await self.ingest.ask(self.ingest.shard_of(user), lambda req: AskConnections(req, user))
        assert isinstance(answer, ConnectionsAnswer)
        return answer

    def owner_of(self, name: str) -> DispatcherNode:
        """The dispatcher that owns the shard of a topic or user."""
        shard = self.ingest.shard_of(name)
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
        log = MemoryLog(store)
        await log.open()
        for shard in range(SHARDS):
            await log.append(LogName.MESSAGES, shard, b"hg:logic", encode_control(encode_body(Logic(LOGIC)), 0))
        found = Cluster(dispatchers, gateways, ingest, log)
        await found.linked()
        yield found
