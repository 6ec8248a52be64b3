"""The processes of a fleet: production services, and their links as `headgate.runtime.links.pool` keeps them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench.fleet.wires import CountedWire, Traffic, joined
from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.service import DispatcherService
from gateway.gateway_options import GatewayOptions
from gateway.service import GatewayService
from headgate.core.fanout.wheel import TICK_S
from headgate.runtime.appender import Appender
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.pool import BACKOFF_FIRST_S, BACKOFF_MAX_S, HINT_TRIES
from headgate.runtime.logs.memory_group import Coordinator
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import OwnerGroup, Shell
from headgate.runtime.testing.faulty_log import FaultyGroup, FaultyLog
from headgate.runtime.tokens import Authenticator, TokenKey
from ingest.ports import NoMetrics
from ingest.rates import RateLimits
from ingest.service import IngestOptions, IngestService

if TYPE_CHECKING:
    from bench.fleet.fleet import Fleet

LOG_S: Final = 0.002  # an append, and the read of a record behind it
START_S: Final = 2.0  # not all processes of a role are up at the same moment
MANY: Final = 1e9


class NoCounts:
    """Every counter that a service feeds; counts nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _count_nothing


def _count_nothing(*_what: object, **_named: object) -> None:
    pass


class KilledGroup(FaultyGroup):
    """A membership of a process that can be killed: then it does not leave, its session ends."""

    def __init__(self, coordinator: Coordinator, node: str) -> None:
        super().__init__(coordinator, node)
        self._killed = False

    def crash(self) -> None:
        """Sends no heartbeat from now on."""
        self._killed = True
        super().crash()

    async def stop(self) -> None:
        """Leaves, unless it was killed."""
        if not self._killed:
            await super().stop()


class NodeLog(FaultyLog):
    """A node's handle of the log."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, lambda _log, _shard: LOG_S)

    def _member(self, coordinator: Coordinator, node: str) -> OwnerGroup:
        group = KilledGroup(coordinator, node)
        self._groups.append(group)
        return group


class DispatcherProcess:
    """A dispatcher."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        self.traffic = Traffic(name, "dispatcher")
        self.address = f"{name}:1"
        self.log = NodeLog(fleet.store)
        options = DispatcherOptions(name, self.address, None, publish_per_topic_per_s=MANY)
        self.service = DispatcherService(options, self.log, Shell(fleet.loop, fleet.rng(name), NoCounts()))
        self.wires: dict[CountedWire, None] = {}
        self.task: asyncio.Task[None]

    async def start(self) -> None:
        """Runs it."""
        await self.log.open()
        self.task = asyncio.create_task(self.service.run(), name=self.traffic.name)

    def accept(self, wire: CountedWire) -> None:
        """Takes a link."""
        self.wires = {each: None for each in self.wires if not each.closed} | {wire: None}
        self.service.accept(wire)

    async def kill(self) -> None:
        """Ends it as SIGKILL does: no goodbye to the group, links are reset by its machine."""
        self.log.crash()
        for wire in self.wires:
            wire.deliver_to()  # the process sees nothing of it
            wire.close("connection reset")
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


class LinkedProcess:
    """A gateway or ingest: it links to `seeds`, and to every dispatcher that another one names."""

    def __init__(self, fleet: "Fleet", name: str, role: str) -> None:
        self.fleet = fleet
        self.traffic = Traffic(name, role)
        self.directory = LinkDirectory(role, name)
        self._rng = fleet.rng(f"links:{name}")
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._wires: dict[CountedWire, None] = {}
        self._finding: asyncio.Task[None]

    def begin(self) -> None:
        """Links from now on."""
        self._finding = asyncio.create_task(self._find(), name=self.traffic.name)

    async def _find(self) -> None:
        await asyncio.sleep(START_S * self._rng.random())
        hints = self.directory.hints
        while True:
            for address in (*self.fleet.seeds(), *hints.failures):
                if address not in self._keeping:
                    self._keeping[address] = asyncio.create_task(self._keep(address))
            await hints.added.wait()
            hints.added.clear()

    async def _keep(self, address: str) -> None:
        """Keeps one link; ends once the address has not answered HINT_TRIES times."""
        hints, backoff = self.directory.hints, BACKOFF_FIRST_S
        while hints.failures.get(address, 0) < HINT_TRIES:
            node = self.fleet.at(address)
            if node is None:
                hints.failed(address)
            else:
                await self._linked(node)
                backoff = BACKOFF_FIRST_S
            await asyncio.sleep(backoff * (0.5 + self._rng.random()))
            backoff = min(backoff * 2, BACKOFF_MAX_S)
        hints.failures.pop(address, None)
        del self._keeping[address]

    async def _linked(self, node: DispatcherProcess) -> None:
        """Links and waits for the end of the link."""
        near, far = joined(self.traffic, node.traffic)
        self._wires[near] = None
        node.accept(far)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.directory.add(near)
        close = near._on_close

        def closed(reason: str) -> None:
            close(reason)
            if not ended.done():
                ended.set_result(None)

        near._on_close = closed
        await ended
        del self._wires[near]

    async def unlink(self) -> None:
        """Ends its links as a process that stops does: the far ends know it."""
        tasks = [self._finding, *self._keeping.values()]
        for task in tasks:
            task.cancel()
        for wire in list(self._wires):
            wire._far.far_has_left = True
            wire.deliver_to()
            wire.close("going away")
        await asyncio.gather(*tasks, return_exceptions=True)


class GatewayProcess(LinkedProcess):
    """A gateway; its sockets are in `bench.fleet.readers`."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        super().__init__(fleet, name, "gateway")
        self.is_open = True
        shell = Shell(fleet.loop, fleet.rng(name), NoCounts())
        self.service = GatewayService(GatewayOptions(node=name), self.directory, _open_to_all(fleet), shell)
        self.directory.deliver_to(self.service)
        self._timer = fleet.loop.call_later(TICK_S * fleet.rng(f"tick:{name}").random(), self._tick)
        self.begin()

    def _tick(self) -> None:
        """What `GatewayService.run` does."""
        self.service.tick()
        self._timer = self.fleet.loop.call_later(TICK_S, self._tick)

    async def stop(self, spread_s: float) -> None:
        """Ends it as SIGTERM does."""
        self.is_open = False
        await self.service.drain(spread_s)
        self._timer.cancel()
        await self.unlink()


class IngestProcess(LinkedProcess):
    """An ingest; requests go through its application."""

    def __init__(self, fleet: "Fleet", name: str, log: NodeLog) -> None:
        super().__init__(fleet, name, "ingest")
        self.service = IngestService(
            options=IngestOptions(rates=RateLimits(MANY, 1_000_000, MANY, MANY)),
            log=log,
            appender=Appender(log, fleet.loop),
            directory=self.directory,
            authenticator=_open_to_all(fleet),
            shell=Shell(fleet.loop, fleet.rng(name), NoMetrics()),
        )
        self.directory.deliver_to(self.service)
        self.begin()

    async def call(self, method: str, path: str, user: str, body: object = None, query: str = "") -> tuple[int, Any]:
        """Serves one request; returns status and body."""
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"x-headgate-user", user.encode()), (b"content-type", b"application/json")],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            data = b"" if body is None else msgspec.json.encode(body)
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.service.app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], msgspec.json.decode(text) if text else None


def _open_to_all(fleet: "Fleet") -> Authenticator:
    return Authenticator("open", TokenKey(None), fleet.loop)
