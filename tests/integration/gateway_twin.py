"""A gateway that serves on a loopback port, its owners in memory."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.gateway_options import GatewayOptions
from gateway.protocol import GatewayProtocol
from gateway.service import GatewayService
from headgate.core.client.limits import Limits
from headgate.core.wire.rights import Caller
from headgate.runtime.http.server import HttpServer
from headgate.runtime.ports import Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from tests.numbers_twin import Numbers
from tests.owners_twin import Owners

SECRET = "a secret of at least thirty-two bytes"


class Wall(SystemClock):
    """A clock that a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def wall_ms(self) -> int:
        return super().wall_ms() + int(self.ahead * 1000)


class Gateway:
    """A gateway that serves."""

    def __init__(self, owners: Owners, service: GatewayService, server: HttpServer, clock: Wall, numbers: Numbers):
        self.owners = owners
        self.service = service
        self.server = server
        self.clock = clock
        self.numbers = numbers

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def ws(self, path: str = "/ws/subscribe") -> str:
        return f"ws://{self.address}{path}"

    def http(self, path: str) -> str:
        return f"http://{self.address}{path}"

    @property
    def connections(self) -> list[object]:
        return [c for shared in self.service._servers.values() for c in shared.connections]

    @property
    def waiting_heads(self) -> int:
        """Connections whose request is not complete."""
        return len(self._heads())

    @property
    def half_heads(self) -> int:
        """Those of them that have sent something."""
        return sum(bool(head._buffer) for head in self._heads())

    def _heads(self) -> list[GatewayProtocol]:
        return [c for c in self.connections if isinstance(c, GatewayProtocol)]

    def forward(self, seconds: float) -> None:
        """Lets time pass, a quarter second at a time."""
        for _ in range(int(seconds * 4)):
            self.clock.ahead += 0.25
            self.service.tick()

    def token(self, sub: str = "bob", ttl_s: float = 600, **claims: Any) -> str:
        return mint(TokenKey(SECRET), Caller(sub, **claims), now_s=self.clock.wall_ms() / 1000, ttl_s=ttl_s)


@contextlib.asynccontextmanager
async def gateway(
    *, limits: Limits | None = None, mode: str = "open", owners: Owners | None = None, **options: Any
) -> AsyncIterator[Gateway]:
    owners = owners or Owners()
    clock, numbers = Wall(), Numbers()
    authenticator = Authenticator(mode, TokenKey(SECRET if mode == "jwt" else None), clock)  # type: ignore[arg-type]
    service = GatewayService(
        GatewayOptions(limits=limits or Limits(), **options), owners, authenticator, Shell(clock, SystemRng(), numbers)
    )
    owners.deliver_to(service)
    server = HttpServer("127.0.0.1", 0, service.app(), service.protocol)
    serving = asyncio.create_task(server.serve())
    ticking = asyncio.create_task(service.run())
    try:
        yield Gateway(owners, service, server, clock, numbers)
    finally:
        ticking.cancel()
        for session in list(service.hub.connections.all()):
            service.sessions.leave(session)
        await server.finish()
        await serving
        with contextlib.suppress(asyncio.CancelledError):
            await ticking


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Polls until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def frames_of(socket: Any, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        return [json.loads(await socket.recv()) for _ in range(count)]


async def seqs_until(socket: Any, last: int, seconds: float) -> tuple[list[int], list[str]]:
    """Reads the seqs up to `last`, or up to the end of the subscription and its reason, for at most `seconds`."""
    seqs: list[int] = []
    async with asyncio.timeout(seconds):
        while last not in seqs:
            frame = json.loads(await socket.recv())
            if frame["type"] == "unsubscribed":
                return seqs, [frame["reason"]]
            if frame["type"] == "message":
                seqs.append(frame["seq"])
    return seqs, []
