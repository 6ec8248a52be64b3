"""The gateway role: builds its objects, ticks its hub and drains its sessions."""

import asyncio
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.app import make_app
from gateway.gateway_options import GatewayOptions
from gateway.protocol import GatewayProtocol
from gateway.server_shared import ServerShared
from gateway.sessions import Sessions
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.ports import GatewayMetrics, Moment
from headgate.core.fanout.user_requests import UserRequests
from headgate.core.fanout.wheel import TICK_S
from headgate.core.fanout.write_counts import WriteCounts
from headgate.core.wire.link import FromOwner, Message
from headgate.core.wire.link_deliveries import CountWritten
from headgate.core.wire.link_users import Revocations
from headgate.runtime.http.callers import Users
from headgate.runtime.http.heads import HeadBudget
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.origins import Origins
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Shell
from headgate.runtime.tokens import Authenticator

_SLICE_S: Final = 0.05  # how often a drain ends a share of the sessions
_CURSOR_SLICES: Final = 20  # how long it waits behind them until the log has their cursors: 1 s


class GatewayService:
    """One gateway. Its caller makes a task of `run`, and serves `app` and `protocol` on a port."""

    def __init__(
        self,
        options: GatewayOptions,
        directory: Directory,
        authenticator: Authenticator,
        shell: Shell[GatewayMetrics],
    ) -> None:
        self._shell = shell
        self._directory = directory
        self._authenticator = authenticator
        self._servers: dict[int, ServerShared] = {}
        self.hub = Hub(
            options.limits,
            directory,
            shell.metrics,
            self._schedule,
            self._moment(),
            auto_create=options.auto_create,
            draw=shell.rng.random,
        )
        self.users = UserRequests(self.hub, options.node)
        self.counts = WriteCounts(self.hub.feeds, directory)
        self.sessions = Sessions(options, self.hub, directory, authenticator, shell)
        self.origins = Origins(options.origins, is_open=authenticator.open)
        self.hosts = Hosts(self.origins, options.listening, is_open=authenticator.open)

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """See `headgate.runtime.links.port.DirectoryUser`."""
        if isinstance(message, FromOwner):
            self.users.receive(message, self._moment())
        elif isinstance(message, CountWritten):
            self.counts.begin(message, self._shell.clock.now())
        elif isinstance(message, Revocations):
            self.sessions.revoke(message.revocations)
        else:
            self.hub.on_push(shard_epoch, message)

    def on_owner(self, shard: int, up: bool) -> None:
        """See `headgate.runtime.links.port.DirectoryUser`."""
        self.counts.owner_changed(shard)
        self.hub.on_owner(shard, up)

    def app(self, fallback: ASGIApp | None = None) -> ASGIApp:
        """Returns the application behind the protocol. It passes unknown paths to `fallback`, or answers 404."""
        users = Users(self._authenticator, self.origins)
        return self.hosts.guard(
            make_app(self.sessions.limits, self.users, self._directory, users, self._shell.metrics.refused, fallback)
        )

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

    def tick(self) -> None:
        """Does what is due in the hub; `run` calls it every quarter second."""
        moment = self._moment()
        self.hub.tick(moment)
        self.counts.tick(moment.now)

    async def drain(self, spread_s: float) -> None:
        """Accepts no more streams and tells every session to reconnect elsewhere, spread over `spread_s` seconds."""
        self.sessions.begin_drain()
        clock = self._shell.clock
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
        await self._store_cursors()

    async def _store_cursors(self) -> None:
        """Waits a short while until the log has the cursors of the sessions that were ended."""
        for _ in range(_CURSOR_SLICES):
            await asyncio.sleep(_SLICE_S)
            if not self.hub.acknowledging.reports.is_pending:
                return

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self.hub.flush(self._moment())
        self.counts.report()

    def _moment(self) -> Moment:
        return Moment(self._shell.clock.now(), self._shell.clock.wall_ms())
