"""The gateway role: builds its objects, ticks its hub and drains its sessions."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.app import make_app
from gateway.delivery_traces import DeliveryTraces
from gateway.gateway_options import GatewayOptions
from gateway.protocol import GatewayProtocol
from gateway.server_shared import ServerShared
from gateway.sessions import Sessions
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.ports import GatewayMetrics, Moment
from headgate.core.fanout.user_requests import UserRequests
from headgate.core.fanout.wheel import TICK_S
from headgate.core.fanout.write_counts import WriteCounts
from headgate.core.wire.link import FromOwner, Message, Messages
from headgate.core.wire.link_dead_letters import Redeliver
from headgate.core.wire.link_deliveries import CountWritten
from headgate.core.wire.link_events import WatchEvents
from headgate.core.wire.link_stats import ReleaseHeld
from headgate.core.wire.link_users import Revocations
from headgate.runtime.http.callers import Users
from headgate.runtime.http.heads import HeadBudget
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.origins import Origins
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Shell
from headgate.runtime.tokens import Authenticator

logger = structlog.get_logger("gateway")
_SLICE_S: Final = 0.05  # how often a drain ends a share of the sessions
_WAKE_S: Final = 0.01  # topics whose strategies wait for times so close together are looked at once
_SWEEP_OUT_SLICES: Final = 1_000  # that a drain waits at most for sweeps over large topics: 2 s, 200,000 sockets
_CURSOR_SLICES: Final = 20  # how long it waits behind them until the log has their cursors: 1 s


class GatewayService:
    """One gateway. Its caller makes a task of `run`, and serves `app` and `protocol` on a port."""

    def __init__(
        self,
        options: GatewayOptions,
        directory: Directory,
        authenticator: Authenticator,
        shell: Shell[GatewayMetrics],
        traces: DeliveryTraces | None = None,
    ) -> None:
        self._traces = traces
        self._shell = shell
        self._directory = directory
        self._authenticator = authenticator
        self._servers: dict[int, ServerShared] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self.hub = Hub(
            options.limits,
            directory,
            shell.metrics,
            self._schedule,
            self._later,
            self._moment(),
            auto_create=options.auto_create,
            draw=shell.rng.random,
            clock=shell.clock.now,
            pace=options.pace,
        )
        self.users = UserRequests(self.hub, options.node)
        self.counts = WriteCounts(self.hub.feeds, directory)
        self.sessions = Sessions(options, self.hub, directory, authenticator, shell)
        self.origins = Origins(options.origins, is_open=authenticator.open)
        self.hosts = Hosts(self.origins, options.listening, is_open=authenticator.open)

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """See `headgate.runtime.links.port.DirectoryUser`."""
        if type(message) is Messages:  # nearly all
            if self._traces is not None and message.traces:
                self._traces.arrived(message)
            self.hub.on_push(shard_epoch, message)
        else:
            self._take_rare(shard_epoch, message)

    def on_owner(self, shard: int, up: bool) -> None:
        """See `headgate.runtime.links.port.DirectoryUser`."""
        self.counts.owner_changed(shard)
        if not up:
            self.hub.events.watch(shard, None)  # the next owner says what it wants
        self.hub.on_owner(shard, up)

    def app(self, fallback: ASGIApp | None = None) -> ASGIApp:
        """Returns the application behind the protocol. It passes unknown paths to `fallback`, or answers 404."""
        users, shell = Users(self._authenticator, self.origins), self._shell
        limits, refused = self.sessions.limits, shell.metrics.refused
        return self.hosts.guard(make_app(limits, self.users, self._directory, users, shell.clock, refused, fallback))

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Makes the protocol of one connection: the value of uvicorn's setting `http`."""
        shared = self._servers.get(id(server_state))
        if shared is None:
            shared = self._servers[id(server_state)] = ServerShared(
                config,
                server_state,
                app_state,
                self.sessions,
                self.hosts,
                self.origins,
                self._shell.rng,
                HeadBudget(),
            )
        return GatewayProtocol(shared)

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()
            self._log_faults()

    def tick(self) -> None:
        """Does what is due in the hub; `run` calls it every quarter second."""
        moment = self._moment()
        self.hub.tick(moment)
        self.counts.tick(moment.now)
        for batch in self.hub.events.take():
            self._directory.send(batch.shard, batch)
        self.hub.counts.tick(moment.now)

    def _log_faults(self) -> None:
        """A defect that shows with one session must end neither the others nor this process, and be seen."""
        faults, more = self.hub.faults.take()
        for error in faults:
            logger.error("what was due for a session failed", exc_info=error)
        if more:
            logger.error("what was due for further sessions failed", count=more)

    async def drain(self, spread_s: float) -> None:
        """Accepts no more streams and tells every session to reconnect elsewhere, spread over `spread_s` seconds."""
        self.sessions.begin_drain()
        for feed in list(self.hub.feeds.values()):
            if feed.blocks is None:
                self.hub.held.flush(feed)
            else:
                self.hub.write_out(feed)
        await asyncio.sleep(0)  # what strategies hold is written first
        clock = self._shell.clock
        await self._sweep_out()
        sessions = self.hub.connections.all()
        begin = clock.now()
        told = 0
        while told < len(sessions):
            passed = clock.now() - begin
            share = 1.0 if passed >= spread_s else (passed + _SLICE_S) / spread_s
            upto = min(len(sessions), max(told + 1, int(len(sessions) * share)))
            for session in sessions[told:upto]:
                self.sessions.leave(session)
            told = upto
            await asyncio.sleep(_SLICE_S if told < len(sessions) else 0)
        for session in self.hub.connections.all():
            self.sessions.leave(session)
        self.hub.counts.report()
        await self._store_cursors()

    async def _sweep_out(self) -> None:
        """Waits a short while until the sweeps over large topics are over."""
        for _ in range(_SWEEP_OUT_SLICES):
            if not self.hub.sweeps:
                return
            await asyncio.sleep(0)

    async def _store_cursors(self) -> None:
        """Waits a short while until the log has the cursors and read marks of the sessions that were ended."""
        for _ in range(_CURSOR_SLICES):
            await asyncio.sleep(_SLICE_S)
            if not (self.hub.acknowledging.reports.is_pending or self.hub.audience.reads.is_pending):
                return

    def _take_rare(self, shard_epoch: int, message: Message) -> None:
        if isinstance(message, FromOwner):
            self.users.receive(message, self._moment())
        elif isinstance(message, CountWritten):
            self.counts.begin(message, self._shell.clock.now())
        elif isinstance(message, Revocations):
            self.sessions.revoke(message.revocations)
        elif isinstance(message, WatchEvents):
            self.hub.events.watch(message.shard, message.wanted)
        elif isinstance(message, ReleaseHeld):
            self._release(message)
        else:
            if isinstance(message, Redeliver):  # its delivery and its timeout begin now
                self.hub.advance(self._moment())
            self.hub.on_push(shard_epoch, message)

    def _schedule(self) -> None:
        self._running_loop().call_soon(self._flush)

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        self._running_loop().call_later(seconds, then)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Returns the loop, looked up once: each look is a system call (getpid)."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def _flush(self) -> None:
        self.hub.flush(self._moment())
        if self._traces is not None:
            self._traces.flushed(self._shell.clock.wall_ms())
        self.counts.report()
        self._plan_wake()

    def _release(self, told: ReleaseHeld) -> None:
        feed = self.hub.feeds.get(told.topic_id)
        if feed is not None and feed.epoch == told.epoch:
            self.hub.held.flush(feed)

    def _plan_wake(self) -> None:
        """Has one timer for all topics whose strategy waits for a time; it is at most _WAKE_S late."""
        due = self.hub.held.next_due
        if due is None or (self._wake is not None and self._wake_at <= due + _WAKE_S):
            return
        if self._wake is not None:
            self._wake.cancel()
        after_s = max(due - self._shell.clock.now(), 0.0) + _WAKE_S
        self._wake_at = due + _WAKE_S
        self._wake = asyncio.get_running_loop().call_later(after_s, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self.hub.held.wake(self._shell.clock.now())
        self._plan_wake()

    def _moment(self) -> Moment:
        return Moment(self._shell.clock.now(), self._shell.clock.wall_ms())
