"""The processes of a run: dispatchers, gateways and ingests from production classes."""

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dispatcher.dispatcher_options import DispatcherOptions, SnapshotOptions
from dispatcher.service import DispatcherService
from gateway.gateway_options import GatewayOptions
from gateway.service import GatewayService
from headgate.core.client.limits import Limits
from headgate.core.fanout.pace import DEFAULT_PACE, Pace
from headgate.core.fanout.wheel import TICK_S
from headgate.core.wire.link import Attached, FromAnyDispatcher, FromOwner, Message
from headgate.core.wire.link_inbox import InboxNews
from headgate.core.wire.link_stats import Queued
from headgate.core.wire.link_users import Throttled
from headgate.core.wire.records import LogName
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.port import DirectoryUser
from headgate.runtime.logs.memory_group import Coordinator
from headgate.runtime.logs.memory_store import LogPart
from headgate.runtime.ports import OwnerGroup, Shell
from headgate.runtime.testing.faulty_log import FaultyGroup, FaultyLog
from headgate.runtime.tokens import Authenticator, TokenKey
from ingest.ports import NoMetrics
from ingest.rates import RateLimits
from ingest.service import IngestOptions, IngestService
from tests.sim.disk import Disk, disk_of_task
from tests.sim.members import PlainUsers

if TYPE_CHECKING:
    from tests.sim.world import World


class SimGroup(FaultyGroup):
    """Joins as slowly as a real group does; a node that crashed says no goodbye."""

    def __init__(self, coordinator: Coordinator, node: str, join_s: float) -> None:
        super().__init__(coordinator, node)
        self.crashed = False
        self._join_s = join_s

    async def start(self) -> None:
        """Joins."""
        await asyncio.sleep(self._join_s)
        await super().start()

    async def stop(self) -> None:
        """Leaves."""
        if not self.crashed:
            await super().stop()


class SimLog(FaultyLog):
    """A node's handle. `deaf` to claims: a zombie that goes on serving what it owned."""

    own_clock = False  # the brokers have one

    def __init__(self, world: "World", node: str) -> None:
        self._rng = world.rng(f"log:{node}")
        super().__init__(world.store, self._delay)
        self.node = node
        self.deaf = False
        self.slow_s = 0.0
        self._read_s = world.plan.read_s
        self._claims = [part for (name, _), part in world.store.parts.items() if name is LogName.OWNERSHIP]

    def _delay(self, _log: LogName, _shard: int) -> float:
        if self.slow_s and self._rng.random() < 0.3:
            return self._rng.random() * self.slow_s
        return 0.0005 + self._rng.random() * 0.004

    def group(self, node: str) -> OwnerGroup:
        """Returns the membership of this run of the node: no static membership."""
        assert self._store.coordinator is not None
        group = SimGroup(self._store.coordinator, self.node, self._rng.random() * 0.3)
        self._groups.append(group)
        return group

    async def ready(self, part: LogPart, offset: int, wait_s: float) -> bool:
        """Waits for records; what a zombie does not hear it hears later."""
        found = await super().ready(part, offset, wait_s)
        if self._read_s and found:
            await asyncio.sleep(self._rng.random() * self._read_s)
        while self.deaf and part in self._claims:
            await asyncio.sleep(0.1)
        return found

    def end_of(self, log: LogName, shard: int) -> int:
        """Returns the offset the next record of a part gets."""
        return self._store.parts[log, shard].end

    @property
    def is_open(self) -> bool:
        """Whether the node lives."""
        return self._opened

    def crash(self, kept: Callable[[int], int] | None = None) -> None:
        """Takes the node away."""
        for group in self._groups:
            assert isinstance(group, SimGroup)
            group.crashed = True
        super().crash(kept)


class _NoCounts:
    """Every counter a service feeds; counts nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _count_nothing


def _count_nothing(*_what: object, **_named: object) -> None:
    pass


class DispatcherNode:
    """A dispatcher that can crash and come back with nothing but its name."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.up = False
        self.run = 0
        self._world = world
        self._folder: Path | None = world.folder / name if world.folder is not None else None
        self.disk = Disk(self._folder)
        self.log: SimLog
        self.service: DispatcherService
        self._task: asyncio.Task[None]

    async def start(self) -> None:
        """Starts a new run of the node."""
        world = self._world
        self.run += 1
        node = f"{self.name}.{self.run}"
        self.log = SimLog(world, node)
        await self.log.open()
        self.disk = Disk(self._folder)
        snapshots = SnapshotOptions(interval_s=world.plan.snapshot_s, changes=world.plan.snapshot_changes)
        options = DispatcherOptions(
            self.name, f"{node}:1", self._folder, snapshots=snapshots, publish_per_topic_per_s=1e9
        )
        shell = Shell(world.loop, world.rng(f"node:{node}"), _NoCounts())
        self.service = DispatcherService(options, self.log, shell)
        outer = disk_of_task.set(self.disk)
        self._task = asyncio.create_task(self.service.run(), name=node)
        disk_of_task.reset(outer)
        self._task.add_done_callback(lambda task: self._ended(node, task))
        self.up = True
        world.trace("node", f"{node} starts")

    def _ended(self, node: str, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self._world.violate("X1", f"{node} died of {_innermost(task.exception())!r}")

    async def crash(self, extra: float) -> None:
        """Ends it without a goodbye; of what it handed over to the log the first part arrives."""
        self.up = False
        self.log.crash(lambda count: int(extra * (count + 1)))
        for line in self._world.lines_of(self.name):
            line.lose_far()
        self._world.trace("node", f"{self.name}.{self.run} crashes")
        self.disk.cut()
        await self.end()

    def wipe(self) -> None:
        """Deletes the index files of a node that is down."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def drain(self) -> None:
        """Ends it as SIGTERM does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(15):
                await self.service.drain()
        self._world.trace("node", f"{self.name}.{self.run} drained")
        self.up = False
        for line in self._world.lines_of(self.name):
            line.cut(0.0)
        await self.end()

    async def end(self) -> None:
        """Cancels the service and waits for it."""
        self._task.cancel()
        await asyncio.wait({self._task})


class ClientNode:
    """What gateways and ingests have in common: a directory over links to every dispatcher."""

    def __init__(self, world: "World", name: str, role: str) -> None:
        self.name = name
        self.up = False
        self.run = 0
        self.role = role
        self.world = world
        self.directory: LinkDirectory

    def begin(self) -> str:
        """Starts a new run; returns its name."""
        self.run += 1
        node = f"{self.name}.{self.run}"
        self.directory = LinkDirectory(self.role, node)
        self.world.trace("node", f"{node} starts")
        return node

    def connect(self) -> None:
        """Is up from now on and connects."""
        self.up = True
        for line in self.world.lines_of(self.name):
            line.connect()

    def vanish(self) -> None:
        """Loses its links without noticing."""
        self.up = False
        self.world.trace("node", f"{self.name}.{self.run} crashes")
        for line in self.world.lines_of(self.name):
            line.lose_near()


class HighestEpoch:
    """Between a directory and its user: what an owner pushes that was replaced must not come through (O1)."""

    def __init__(self, node: ClientNode, user: DirectoryUser) -> None:
        self._node = node
        self._user = user
        self._highest: dict[int, int] = {}

    def on_push(self, epoch: int, message: Message) -> None:
        """Looks and hands on."""
        if isinstance(message, FromOwner | FromAnyDispatcher | InboxNews):  # about users: no stream of messages
            self._user.on_push(epoch, message)
            return
        if isinstance(message, Attached):
            shard = message.shard
        elif isinstance(message, Throttled | Queued):
            shard = self._node.directory.shard_of(message.topics[0].topic_id)
        else:
            shard = self._node.directory.shard_of(getattr(message, "topic_id", ""))
        highest = self._highest.get(shard, 0)
        if epoch < highest:
            name = f"{self._node.name}.{self._node.run}"
            self._node.world.violate("O1", f"{name}: shard {shard}: an owner of epoch {epoch} is heard after {highest}")
        self._highest[shard] = max(epoch, highest)
        self._user.on_push(epoch, message)

    def on_owner(self, shard: int, up: bool) -> None:
        """Hands on."""
        self._user.on_owner(shard, up)


class IngestNode(ClientNode):
    """An ingest: the production service over a log handle of its own."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name, "ingest")
        self.log: SimLog
        self.service: IngestService
        self._requests: dict[asyncio.Task[Any], None] = {}

    async def start(self) -> None:
        """Starts a new run of the node."""
        world, node = self.world, self.begin()
        self.log = SimLog(world, node)
        await self.log.open()
        self.service = IngestService(
            options=IngestOptions(rates=RateLimits(publish_per_user_per_min=1e9, publish_per_topic_per_s=1e9)),
            log=self.log,
            appender=world.bugs.appender(self.log, world.loop),
            directory=self.directory,
            authenticator=_authenticator(world),
            shell=Shell(world.loop, world.rng(f"node:{node}"), NoMetrics()),
        )
        self.directory.deliver_to(HighestEpoch(self, self.service))
        self.connect()

    def crash(self, extra: float) -> None:
        """Ends it; requests under way get no answer."""
        self.vanish()
        self.log.crash(lambda count: int(extra * (count + 1)))
        requests, self._requests = self._requests, {}
        for task in requests:
            task.cancel()

    def request(self, method: str, path: str, query: str, user: str, body: bytes) -> "asyncio.Task[tuple[int, Any]]":
        """Serves one request through the ASGI application; the task is cancelled when the node crashes."""
        task = asyncio.create_task(self._serve(method, path, query, user, body))
        self._requests[task] = None
        task.add_done_callback(lambda done: self._requests.pop(done, None))
        return task

    async def _serve(self, method: str, path: str, query: str, user: str, body: bytes) -> tuple[int, Any]:
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
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.service.app(scope, receive, send)
        status: int = sent[0]["status"]
        text = b"".join(m.get("body", b"") for m in sent[1:])
        if status == 500:
            self.world.violate("X1", f"{self.name} answered 500 to {method} {path}")
        return status, msgspec.json.decode(text) if text else None


class GatewayNode(ClientNode):
    """A gateway: the production service; its sockets are in `tests.sim.clients`."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name, "gateway")
        self.service: GatewayService
        self.on_crash: dict[Any, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle

    def start(self) -> None:
        """Starts a new run of the node."""
        world, node = self.world, self.begin()
        limits = Limits(ring_frames=world.plan.ring_frames, queue_bytes=world.plan.queue_bytes, hold_s=12.0)
        if world.plan.ackers:
            limits = msgspec.structs.replace(limits, ack_window=16, ack_breaker_failures=6, ack_breaker_s=1.0)
        if world.plan.is_wide:  # no reader is so slow that its policy may leave something out
            limits = msgspec.structs.replace(limits, slow_messages=1 << 40, slow_bytes=1 << 40)
        self.service = GatewayService(
            GatewayOptions(limits=limits, auto_create=world.plan.auto_create, pace=_pace(world.plan.slice_sockets)),
            self.directory,
            _authenticator(world),
            Shell(world.loop, world.rng(f"node:{node}"), _NoCounts()),
        )
        self.directory.deliver_to(HighestEpoch(self, self.service))
        self._tick()
        self.connect()

    def _tick(self) -> None:
        """What `GatewayService.run` does, without its garbage collection."""
        self.service.tick()
        faults, _ = self.service.hub.faults.take()
        if faults:
            raise faults[0]
        self._timer = self.world.loop.call_later(TICK_S, self._tick)

    def crash(self) -> None:
        """Ends it; every socket is cut, and what was queued in it is lost."""
        self._timer.cancel()
        self.vanish()
        cut, self.on_crash = self.on_crash, {}
        for callback in cut.values():
            callback()


def _pace(slice_sockets: int) -> Pace:
    """Slices so small that sweeps of a few sockets are interleaved with everything else."""
    if not slice_sockets:
        return DEFAULT_PACE
    return Pace(plain_sockets=0, block_sockets=min(slice_sockets, 2), slice_sockets=slice_sockets)


def _authenticator(world: "World") -> Authenticator:
    return PlainUsers(world.loop) if world.plan.door_changes else Authenticator("open", TokenKey(None), world.loop)


def _innermost(error: BaseException | None) -> BaseException | None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
