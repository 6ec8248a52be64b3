"""A cluster in virtual time: dispatchers and ingests, the production services, over one log and encoded links."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.service import DispatcherService
from headgate.core.wire.control import LOGIC, Logic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.appender import Appender
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Shell
from headgate.runtime.testing.encoded_link import EncodedLink, encoded_link
from headgate.runtime.testing.faulty_log import FaultyLog
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from ingest.ports import NoMetrics
from ingest.rates import RateLimits
from ingest.service import IngestOptions, IngestService
from tests.contract.virtual import SeededRng, VirtualLoop, run

KEY = TokenKey("a-secret-of-at-least-32-bytes-for-tests")
LINK_S = 0.002
LOG_S = 0.004
FREE = RateLimits(1e9, 100, 1e9, 1e9)  # only the topic's rate bounds


class Answered(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: Any


class Node:
    """A dispatcher; `links` by the number of the ingest."""

    def __init__(self, service: DispatcherService, task: "asyncio.Task[None]", log: FaultyLog) -> None:
        self.service = service
        self.task = task
        self.log = log
        self.links: dict[int, EncodedLink] = {}


class Cluster:
    """`published` are the clock's seconds at which publishes were accepted."""

    def __init__(self, ingests: int, dispatchers: int, limits: RateLimits) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = loop
        self.rng = SeededRng(1)
        self.store = MemoryStore(loop, self.rng, 2, coordinated=True)
        self.nodes: list[Node] = []
        self.ingests: list[IngestService] = []
        self.directories: list[LinkDirectory] = []
        self.published: list[float] = []
        self._limits = limits
        self._counts = ingests, dispatchers

    async def start(self) -> None:
        ingests, dispatchers = self._counts
        log = FaultyLog(self.store)
        await log.open()
        for shard in range(self.store.shards):  # settings can be changed
            value = encode_control(encode_body(Logic(LOGIC)), 0)
            await log.append(LogName.MESSAGES, shard, b"hg:logic", value)
        for _ in range(dispatchers):
            await self.dispatcher()
        for _ in range(ingests):
            await self.ingest()
        await self.owned()

    async def dispatcher(self) -> Node:
        """Starts a dispatcher, linked to all ingests."""
        name, log = f"d{len(self.nodes)}", FaultyLog(self.store, lambda _log, _shard: LOG_S)
        await log.open()
        shell = Shell(self.clock, self.rng, Metrics({"dispatcher"}))
        service = DispatcherService(DispatcherOptions(name, f"{name}:1", None), log, shell)
        node = Node(service, asyncio.create_task(service.run()), log)
        self.nodes.append(node)
        await service.ready.wait()
        for at in range(len(self.ingests)):
            self.link(node, at)
        return node

    async def ingest(self) -> int:
        """Starts an ingest, linked to all dispatchers; returns its number."""
        log = FaultyLog(self.store, lambda _log, _shard: LOG_S)
        await log.open()
        directory = LinkDirectory("ingest", f"i{len(self.ingests)}")
        service = IngestService(
            options=IngestOptions(rates=self._limits),
            log=log,
            appender=Appender(log, self.clock),
            directory=directory,
            authenticator=Authenticator("jwt", KEY, self.clock),
            shell=Shell(self.clock, self.rng, NoMetrics()),
        )
        directory.deliver_to(service)
        self.ingests.append(service)
        self.directories.append(directory)
        for node in self.nodes:
            self.link(node, len(self.ingests) - 1)
        return len(self.ingests) - 1

    def link(self, node: Node, at: int) -> None:
        near, far = encoded_link(f"i{at}", f"d{self.nodes.index(node)}", lambda: LINK_S)
        node.links[at] = near
        node.service.accept(far)
        self.directories[at].add(near)

    def kill(self, node: Node) -> None:
        """Ends a dispatcher as SIGKILL does; its links are lost."""
        node.task.cancel()
        node.log.crash(lambda count: count)
        for wire in node.links.values():
            wire.close("killed")

    async def owned(self) -> None:
        """Waits until every ingest is linked to the owners of all shards, and a tick has passed."""
        async with asyncio.timeout(120):
            while any(directory.missing() for directory in self.directories):
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.6)

    async def stop(self) -> None:
        for node in self.nodes:
            node.task.cancel()
        await asyncio.gather(*(node.task for node in self.nodes), return_exceptions=True)

    async def call(self, at: int, method: str, path: str, body: Any, caller: Caller) -> Answered:
        """Serves one request by ingest number `at`; the path may have a query."""
        path, _, query = path.partition("?")
        token = mint(KEY, caller, now_s=self.clock.wall_ms() / 1_000, ttl_s=3_600)
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": msgspec.json.encode(body), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.ingests[at].app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent[1:])
        return Answered(sent[0]["status"], dict(sent[0]["headers"]), msgspec.json.decode(text) if text else None)

    async def create(self, topic_id: str, caller: Caller, **settings: Any) -> None:
        body = {"topic_id": topic_id, "name": topic_id, "settings": settings}
        answer = await self.call(0, "POST", "/api/v1/topics", body, caller)
        assert answer.status == 201, answer
        for at in range(len(self.ingests)):
            await self.call(at, "GET", f"/api/v1/topics/{topic_id}", None, caller)

    async def publish(self, at: int, topic_id: str, caller: Caller, items: int = 1) -> Answered:
        """Publishes one message or a batch; notes what was accepted."""
        path = f"/api/v1/topics/{topic_id}/publish"
        if items == 1:
            answer = await self.call(at, "POST", path, {"payload": 1}, caller)
            accepted = int(answer.status == 200)
        else:
            answer = await self.call(at, "POST", f"{path}/batch", [{"payload": n} for n in range(items)], caller)
            assert answer.status == 200
            accepted = sum(result["status"] == 200 for result in answer.body["results"])
        self.published += [self.clock.now()] * accepted
        return answer

    async def press(
        self, at: int, topic_id: str, caller: Caller, *, every_s: float, for_s: float, items: int = 1
    ) -> None:
        """Publishes again and again, whatever the answer is."""
        end = self.clock.now() + for_s
        while self.clock.now() < end:
            await self.publish(at, topic_id, caller, items)
            await asyncio.sleep(every_s)


def play(
    scene: Callable[[Cluster], Awaitable[None]], ingests: int, dispatchers: int = 1, limits: RateLimits = FREE
) -> None:
    """Runs a scene on a cluster in virtual time."""

    async def main() -> None:
        cluster = Cluster(ingests, dispatchers, limits)
        await cluster.start()
        try:
            await scene(cluster)
        finally:
            await cluster.stop()

    run(VirtualLoop(), main())
