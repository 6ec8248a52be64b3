"""A gateway without sockets: its connections are values, its clock moves by hand, its owners are in memory."""

import asyncio
import errno
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.gateway_options import GatewayOptions
from gateway.head import Head
from gateway.protocol import GatewayProtocol
from gateway.server_shared import ServerShared
from gateway.service import GatewayService
from headgate.core.client.limits import Limits
from headgate.core.fanout.ports import GatewayMetrics
from headgate.core.fanout.wheel import TICK_S
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.http.heads import HeadBudget
from headgate.runtime.jwks import JwksKeys
from headgate.runtime.ports import Clock, Shell
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from tests.numbers_twin import Numbers
from tests.owners_twin import Owners

SECRET = "a secret of at least thirty-two bytes"
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


class HandClock:
    """Time that moves by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return int(self.seconds * 1_000)


class Chance:
    """Randomness that is always the same."""

    def __init__(self, value: float = 0.5) -> None:
        self.value = value
        self._count = 0

    def random(self) -> float:
        return self.value

    def entropy(self, count: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(count, "big")


class Wire(asyncio.Transport):
    """A transport that keeps the bytes written to it. While `stuck` none leaves, as if the client did not read."""

    def __init__(self, *, half_closes: bool = True, is_gone: bool = False) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.protocol: Any = None
        self.marks = (0, 0)
        self.ends: list[str] = []
        self.reads = True
        self.stuck = False
        self.queue = 0
        self._half_closes = half_closes
        self._is_gone = is_gone

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        self.writes += 1
        if self.stuck:
            self.queue += len(data)

    def get_write_buffer_size(self) -> int:
        return self.queue

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.marks = (high or 0, low or 0)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def can_write_eof(self) -> bool:
        return self._half_closes

    def write_eof(self) -> None:
        if self._is_gone:
            raise OSError(errno.ENOTCONN, "the client has just gone")
        self.ends.append("eof")

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.ends or "abort" in self.ends

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_reading(self) -> bool:
        return self.reads

    # The client

    def say(self, data: bytes) -> None:
        """The client sends bytes."""
        self.protocol.data_received(data)

    @property
    def kind(self) -> str:
        """The name of the class of the protocol that has the connection."""
        return type(self.protocol).__name__

    @property
    def status(self) -> int:
        """The status of the first answer."""
        return int(self.written.split(b" ", 2)[1])

    def goes(self) -> None:
        """The client closes the connection."""
        self.ends.append("close")
        self.protocol.connection_lost(None)


class Bed:
    """A gateway and one server of its."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        mode: str = "open",
        app: Any = None,
        clock: Clock | None = None,
        keys: JwksKeys | None = None,
        **options: Any,
    ) -> None:
        self.clock: Clock = clock or HandClock()
        self.numbers, self.owners, self.chance = Numbers(), Owners(), Chance()
        secret = SECRET if mode == "jwt" else None
        self.authenticator = Authenticator(mode, TokenKey(secret), self.clock, keys=keys)  # type: ignore[arg-type]  # by name
        shell: Shell[GatewayMetrics] = Shell(self.clock, self.chance, self.numbers)
        self.service = GatewayService(
            GatewayOptions(limits=limits or Limits(), **options), self.owners, self.authenticator, shell
        )
        self.owners.deliver_to(self.service)
        self.hub, self.sessions = self.service.hub, self.service.sessions
        self.state = ServerState()
        self._config = Config(app or self.service.app(), ws="none", loop="none", log_config=None, lifespan="off")
        self.bound_heads(HeadBudget())

    def bound_heads(self, budget: HeadBudget) -> None:
        """Connections that are made from now on share this budget."""
        service = self.service
        self.shared = ServerShared(
            self._config, self.state, {}, self.sessions, service.hosts, service.origins, self.chance, budget
        )

    @property
    def connections(self) -> set[Any]:
        return self.shared.connections

    def connect(self, wire: Wire | None = None) -> Wire:
        """A connection is made."""
        wire = wire or Wire()
        wire.protocol = GatewayProtocol(self.shared)
        wire.protocol.connection_made(wire)
        return wire

    def asked(self, data: bytes) -> Wire:
        """A connection is made and the client sends its first bytes."""
        wire = self.connect()
        wire.say(data)
        return wire

    def forward(self, seconds: float) -> None:
        """Time passes, a tick at a time."""
        for _ in range(int(seconds / TICK_S)):
            self.clock.seconds += TICK_S  # type: ignore[attr-defined]  # only with the clock of this module
            self.service.tick()

    def flush(self) -> None:
        """The loop turn ends: what is pending is written."""
        self.service._flush()

    def token(self, sub: str = "bob", **claims: Any) -> str:
        return mint(TokenKey(SECRET), Caller(sub, **claims), now_s=self.clock.wall_ms() / 1_000, ttl_s=600)


def request(method: str, target: str, *fields: str) -> bytes:
    """A complete head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *fields, "\r\n"]).encode()


def head(*query: tuple[str, str], **headers: str) -> Head:
    """The head of a GET that was read."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head("GET", "1.1", list(query), named, b"")


def code_of(refusal: Refusal | None) -> str | None:
    return None if refusal is None else refusal.code
