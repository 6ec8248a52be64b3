"""A stranger sends 10 MB/s of anything for 12 s: what does a good client notice, and what does the process pay?

`python -m tests.attack.flood [--seconds 12] [--rate 10] [kind ...]` runs `headgate dev` in mode jwt, asks /livez and
publishes with a good token all the while, and prints one line a kind. Exit status 1 when a bound was passed: a p95 of
250 ms, 64 MiB more memory, or a culprit that was never cut.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from websockets.frames import Frame, Opcode

from headgate.core.wire.rights import Caller
from headgate.runtime.tokens import TokenKey, mint
from tests.attack.served import Served, dev
from tests.integration.http_twin import chunked, request

SECRET = "a secret of at least thirty-two bytes"
_P95_MS = 250.0
_GROWN_MIB = 64.0
_CONNECTIONS = 8  # that one flood keeps open at a time
_HALF_OPEN = 400
_PAUSE_S = 0.02  # between two of the good client's requests
_HANDSHAKE = (
    b"GET /ws/subscribe HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Kind(NamedTuple):
    """One flood: what each connection begins with, what it then repeats, and whether the server must end it."""

    begin: bytes
    repeat: Callable[[], bytes]
    connections: int = _CONNECTIONS
    cut: bool = True


def _frames(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def _many(piece: bytes) -> Callable[[], bytes]:
    block = piece * max(1, 65_536 // len(piece))
    return lambda: block


_BODY = request("POST", "/api/v1/publish/batch", b"", "Content-Length: 8000000")
_CHUNKED = request("POST", "/api/v1/publish/batch", b"", "Transfer-Encoding: chunked")

KINDS: dict[str, Kind] = {
    "pings": Kind(_HANDSHAKE, _many(_frames(Opcode.PING, b""))),
    "pongs": Kind(_HANDSHAKE, _many(_frames(Opcode.PONG, b"x" * 100))),
    "empty fragments": Kind(
        _HANDSHAKE + _frames(Opcode.TEXT, b"", fin=False), _many(_frames(Opcode.CONT, b"", fin=False))
    ),
    "fragments": Kind(_HANDSHAKE + _frames(Opcode.TEXT, b"", fin=False), _many(_frames(Opcode.CONT, b"x", fin=False))),
    "text frames": Kind(_HANDSHAKE, _many(_frames(Opcode.TEXT, b'{"type":"ping"}'))),
    "half a frame": Kind(_HANDSHAKE + b"\x81\xfe\xff\xff\0\0\0\0", lambda: b"x" * 60_000, 200),
    "pipelined heads": Kind(b"", _many(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    "heads without end": Kind(b"GET / HTTP/1.1\r\n", _many(b"a: b\r\n")),
    "half heads": Kind(b"GET / HTTP/1.1\r\na: ", lambda: b"x" * 63_000, _HALF_OPEN),
    "heads of many fields": Kind(b"", _many(request("GET", "/", b"", *["a:b"] * 10_000))),
    "empty lines": Kind(b"", _many(b"\r\n")),
    "bodies": Kind(_BODY, _many(os.urandom(65_536))),
    "chunks of one byte": Kind(_CHUNKED, _many(chunked(b"x" * 10_000, 1)[:-5])),
    "chunks": Kind(_CHUNKED, _many(chunked(b"x" * 65_536, 4_096)[:-5])),
    "half-open handshakes": Kind(_HANDSHAKE, lambda: b"", _HALF_OPEN),
    "noise": Kind(b"", _many(os.urandom(65_536))),
}


class Outcome(NamedTuple):
    """What one flood did: MB offered and CPU seconds, the good client's milliseconds, MiB grown, connections ended."""

    sent_mb: float
    cpu_s: float
    p95_ms: float
    worst_ms: float
    grown_mib: float
    cut: int

    def good(self, kind: Kind) -> bool:
        """Says that every bound held."""
        return self.p95_ms < _P95_MS and self.grown_mib < _GROWN_MIB and (self.cut > 0 or not kind.cut)


class _Flood:
    def __init__(self, port: int, kind: Kind, bytes_per_s: float) -> None:
        self._port = port
        self._kind = kind
        self._rate = bytes_per_s
        self._began = time.monotonic()
        self.sent = 0
        self.cut = 0

    async def run(self) -> None:
        """Floods until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._kind.connections):
                tasks.create_task(self._one())

    async def _one(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                reading = asyncio.create_task(_swallow(reader))
                try:
                    await self._send(writer, self._kind.begin)
                    while not reading.done():
                        await self._send(writer, self._kind.repeat())
                finally:
                    self.cut += reading.done()
                    reading.cancel()
                    writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while self.sent > (time.monotonic() - self._began) * self._rate:
            await asyncio.sleep(0.005)
        writer.write(data)
        self.sent += len(data)
        await writer.drain()
        if not data:
            await asyncio.sleep(0.05)


async def _swallow(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass


@contextlib.asynccontextmanager
async def _good_client(served: Served) -> AsyncIterator[list[float]]:
    """Publishes and looks at /livez all the while; yields the milliseconds of each request."""
    token = mint(TokenKey(SECRET), Caller("good", service=True), now_s=time.time(), ttl_s=600)
    body = json.dumps({"payload": 1}).encode()
    fields = (f"Authorization: Bearer {token}", "Content-Type: application/json")
    asked = [
        (served.port, request("POST", "/api/v1/topics/good/publish", body, *fields)),
        (served.admin, request("GET", "/livez")),
    ]
    took: list[float] = []

    async def ask() -> None:
        while True:
            for port, raw in asked:
                began = time.monotonic()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(raw)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                took.append((time.monotonic() - began) * 1_000)
                writer.close()
            await asyncio.sleep(_PAUSE_S)

    task = asyncio.create_task(ask())
    try:
        yield took
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def run(served: Served, kind: Kind, seconds: float, mb_per_s: float) -> Outcome:
    """Runs one flood beside a good client."""
    async with _good_client(served) as took:
        await asyncio.sleep(0.5)
        took.clear()
        flood = _Flood(served.port, kind, mb_per_s * 1e6)
        cpu, memory, most = served.cpu_s(), served.rss_bytes(), 0
        task = asyncio.create_task(flood.run())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
            most = max(most, served.rss_bytes())
        cpu = served.cpu_s() - cpu
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    ranked = sorted(took)
    p95 = statistics.quantiles(ranked, n=20)[-1] if len(ranked) > 20 else float("inf")
    return Outcome(flood.sent / 1e6, cpu, p95, ranked[-1], (most - memory) / 2**20, flood.cut)


def main() -> int:
    """Runs the kinds named, or all, and prints one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="kind", help=", ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=12.0, help="deadlines are 10 s")
    parser.add_argument("--rate", type=float, default=10.0, help="MB/s")
    options = parser.parse_args()
    failed = 0
    sys.stdout.write("| flood | MB taken | CPU s | CPU ms/MB | p95 ms | worst ms | MiB | KiB/MB | cut |  |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|---|---|\n")
    for name in options.kinds:
        with dev(HEADGATE_AUTH__MODE="jwt", HEADGATE_AUTH__SECRET=SECRET) as served:
            found = asyncio.run(run(served, KINDS[name], options.seconds, options.rate))
        good = found.good(KINDS[name])
        failed += not good
        sys.stdout.write(_line(name, found, "" if good else "bound passed"))
        sys.stdout.flush()
    return int(failed > 0)


def _line(name: str, found: Outcome, verdict: str) -> str:
    sent = max(found.sent_mb, 0.001)
    cells = [
        name,
        f"{found.sent_mb:.1f}",
        f"{found.cpu_s:.2f}",
        f"{found.cpu_s / sent * 1e3:.1f}",
        f"{found.p95_ms:.0f}",
        f"{found.worst_ms:.0f}",
        f"{found.grown_mib:.1f}",
        f"{found.grown_mib * 1024 / sent:.0f}",
        str(found.cut),
        verdict,
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    raise SystemExit(main())
