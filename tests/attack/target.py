"""A deployment under attack, and a good client beside it whose messages must go on coming; judges only the servers."""

import asyncio
import contextlib
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from tests.e2e.clients import Publisher, Seen, Subscriber
from tests.e2e.harness import Deployment, Role, token, until

GOOD: Final = "good"  # the neighbour's topic
EVERY_S: Final = 0.05  # between the neighbour's publishes
SLOWEST_S: Final = 5.0  # generous: two slow cores shared with others
ANSWER_S: Final = 2.0
FEW: Final = 5  # messages, without which nothing can be said
MASK: Final = b"\x01\x02\x03\x04"


class Neighbour:
    """Publishes a number and hears it again, all the time; remembers how long each took."""

    def __init__(self, deployment: Deployment) -> None:
        self.took: list[float] = []
        self.refused: list[object] = []
        self._sent: dict[bytes, float] = {}  # by payload
        self._publisher = Publisher(deployment.ingests[0].url, token("neighbour", service=True))
        self.subscriber = Subscriber(
            "neighbour", [deployment.gateways[0].url], [GOOD], token=token("neighbour"), on_message=self._heard
        )

    def _heard(self, _topic: str, seen: Seen) -> None:
        sent_at = self._sent.pop(seen.payload, None)
        if sent_at is not None:
            self.took.append(time.monotonic() - sent_at)

    @asynccontextmanager
    async def living(self) -> AsyncIterator["Neighbour"]:
        """Runs while the attack does."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._publisher)
            await self._publisher.create_all([GOOD])
            await stack.enter_async_context(self.subscriber)
            await until("the neighbour is subscribed", lambda: self.subscriber.connected, 20)
            task = asyncio.create_task(self._publish())
            try:
                yield self
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _publish(self) -> None:
        number = 0
        while True:
            number += 1
            self._sent[b"%d" % number] = time.monotonic()
            answer = await self._publisher.publish(GOOD, number)
            if answer.status != 200:
                self.refused.append(answer)
            await asyncio.sleep(EVERY_S)

    async def judge(self, what: str) -> str:
        """Asserts that nothing of the neighbour's was refused, lost or late; returns its figures and begins anew."""
        await until(f"the neighbour hears during {what}", lambda: len(self.took) > FEW, SLOWEST_S * 2)
        await until(f"what was published during {what} is heard", lambda: len(self._sent) <= 2, SLOWEST_S * 2)
        took, self.took = sorted(self.took), []
        assert not self.refused, f"{what}: the neighbour was refused: {self.refused[:3]}"
        assert took[-1] < SLOWEST_S, f"{what}: a neighbour's message took {took[-1]:.1f} s"
        assert self.subscriber.connections == 1, f"{what}: the neighbour was cut: {self.subscriber.closes}"
        return f"neighbour {len(took)} messages, p95 {took[int(len(took) * 0.95)] * 1000:.0f} ms, max {took[-1]:.2f} s"


async def healthy(roles: list[Role], what: str) -> None:
    """Asserts that every process runs, has answered no request with 500, and has lost no link."""
    for role in roles:
        assert role.running, f"{what}: {role.name} is gone\n{role.errors()[-3_000:]}"
        metrics = await role.metrics()
        failed = metrics.get('headgate_refusals_total{code="internal"}', 0)
        assert failed == 0, f"{what}: {role.name} answered {failed:.0f} times internal\n{role.errors()[-3_000:]}"
        for line in role.errors().splitlines():
            bad = "Traceback" in line or '"link closed"' in line or "a link failed" in line
            assert not bad, f"{what}: {role.name} wrote {line[:2_000]}"


async def say(role: Role, data: bytes) -> tuple[int, bytes]:
    """Sends bytes on a connection of its own; returns the status of the first answer (0: none) and what came."""
    came = await exchange(role, data, lambda came: b"\r\n\r\n" in came)
    first = came.split(b" ", 2)
    status = int(first[1]) if len(first) > 2 and first[0].startswith(b"HTTP/") and first[1].isdigit() else 0
    return status, came


async def exchange(role: Role, data: bytes, enough: Callable[[bytes], bool]) -> bytes:
    """Sends bytes; returns what came until it was enough, the far end closed, or ANSWER_S was over."""
    came = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", role.port)
    except OSError:
        return came
    try:
        writer.write(data)
        async with asyncio.timeout(ANSWER_S):
            while not enough(came) and (more := await reader.read(65_536)):
                came += more
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return came


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """Returns a masked WebSocket frame (RFC 6455 section 5.2)."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    if size > 65_535:
        length = b"\xff" + struct.pack(">Q", size)
    masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    return bytes([0x80 * fin | opcode]) + length + MASK + masked


def upgrade(path: str, *headers: str) -> bytes:
    """Returns the head of a WebSocket handshake."""
    asked = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    lines = (f"GET {path} HTTP/1.1", "Host: x", *asked, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1", "replace")


def seconds(default: float) -> float:
    """Returns how long each attack goes on: HEADGATE_ATTACK_S, which `make attack` sets, or `default`."""
    return float(os.environ.get("HEADGATE_ATTACK_S", default))
