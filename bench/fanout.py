"""First engine figures: what one gateway process delivers a CPU-second, and what an idle connection costs it.

    python -m bench.fanout                     all runs, server on core 0, load on core 1
    python -m bench.fanout --only websocket    one of floor, websocket, sse
    python -m bench.fanout --quick             a third of the time, 2,000 idle connections

`floor` is the least a Python process can do (bench/floor.py: no cursors, no bounds, no checks). Messages come in over a
TCP link as link version 1 batches, one batch a message or one a burst. Every socket must get every byte once, in order
(a checksum a socket). Servers take turns; figures are medians over the rounds, server CPU from /proc. Compare the
shares: the absolute figures go up and down with whatever else the machine does.
"""

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench.cpu import cpu_s
from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.wire.frames import message_frame
from headgate.core.wire.link import Messages
from headgate.core.wire.linkcodec import encode_batch

PAGE = os.sysconf("SC_PAGE_SIZE")
EPOCH = 1 << 44
QUIET_S, HEARTBEAT_S = 3_600, 30
KINDS = ("floor", "websocket", "sse")


class Figures(NamedTuple):
    """One run: deliveries, CPU seconds of the server, latency in milliseconds at the median and at 99 %."""

    deliveries: int
    cpu_s: float
    p50_ms: float
    p99_ms: float

    @property
    def per_cpu_s(self) -> float:
        return self.deliveries / self.cpu_s


class Server:
    """A server process on core 0; `tree` is the checkout that it is of, None for this one."""

    module = "bench.engine"
    errors: int | None = None  # where its error output goes, see `subprocess.Popen`

    def __init__(self, kind: str, heartbeat_s: float, ready_s: float = 10.0, tree: Path | None = None) -> None:
        self.kind = kind
        self.seq = 0
        self.port, self.link = free_port(), free_port()
        self.heartbeat_s = heartbeat_s
        environment = os.environ if tree is None else os.environ | {"PYTHONPATH": str(tree)}
        self.process = subprocess.Popen(self.command(), cwd=tree, env=environment, stderr=self.errors)
        os.sched_setaffinity(self.process.pid, {0})
        deadline = time.monotonic() + ready_s
        while not all(map(listens, self.ports())):
            if time.monotonic() > deadline:
                self.process.kill()
                raise SystemExit(f"{kind} did not start")
            time.sleep(0.05)

    def command(self) -> list[str]:
        module = "bench.floor" if self.kind == "floor" else self.module
        return [sys.executable, "-m", module, str(self.port), str(self.link), str(self.heartbeat_s)]

    def ports(self) -> list[int]:
        return [self.port, self.link]

    def cpu_s(self) -> float:
        return cpu_s(self.process.pid)

    def rss_kb(self) -> float:
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE / 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)

    def request(self, position: str = "") -> bytes:
        """Returns the request of a client; with a `position` it comes back."""
        query = b"topic_id=t&presence=false" + (f"&from={position}".encode() if position else b"")
        if self.kind == "sse":
            return b"GET /sse/subscribe?%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % query
        return (
            b"GET /ws/subscribe?%b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n" % query
            + b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )


class Tally:
    """What all subscribers of a run have got so far, in bytes."""

    def __init__(self) -> None:
        self.size = 0
        self.wanted = 0
        self.all_there = asyncio.Event()


class Subscriber(asyncio.Protocol):
    """Reads, counts and sums; its opening ends with the frame `subscribed`."""

    __slots__ = ("began", "check", "request", "tail", "tally", "transport")

    def __init__(self, request: bytes, tally: Tally) -> None:
        self.request = request
        self.tally = tally
        self.began = False
        self.tail = b""
        self.check = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or transport is not None
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.began:
            self.tail += data
            self.began = b'"subscribed"' in self.tail
            return
        self.check = zlib.crc32(data, self.check)
        tally = self.tally
        tally.size += len(data)
        if tally.size >= tally.wanted:
            tally.all_there.set()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def subscribe(server: Server, count: int, tally: Tally) -> list[Subscriber]:
    loop, request = asyncio.get_running_loop(), server.request()
    subscribers: list[Subscriber] = []
    for at in range(0, count, 200):
        wave = [
            loop.create_connection(lambda: Subscriber(request, tally), "127.0.0.1", server.port)
            for _ in range(min(200, count - at))
        ]
        made = [protocol for _, protocol in await asyncio.gather(*wave)]
        async with asyncio.timeout(30):
            while not all(subscriber.began for subscriber in made):
                await asyncio.sleep(0.005)
        subscribers += made
    return subscribers


def batch(seq: int, burst: int) -> tuple[bytes, list[bytes]]:
    """Returns a batch for the link and its frames, about 132 bytes each on the wire."""
    ts = time.time_ns() // 1_000_000
    tail = b'"message_id":"m","publisher_id":"p","payload":"%b"}' % (b"x" * 12)
    frames = [message_frame("t", seq + n, ts, tail) for n in range(burst)]
    data = encode_batch([Messages("t", EPOCH, seq, [ts] * burst, frames)])
    return len(data).to_bytes(4, "big") + data, frames


async def fan_out(server: Server, subscribers: list[Subscriber], burst: int, per_s: float, seconds: float) -> Figures:
    """Sends bursts on schedule, never two at a time; latency is from the scheduled time to the last socket."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.link)
    framing = SSE if server.kind == "sse" else WEBSOCKET
    tally = subscribers[0].tally
    count, check, late = int(per_s * seconds), 0, []
    tally.size = tally.wanted = 0
    for subscriber in subscribers:
        subscriber.check = 0
    begin, cpu = time.monotonic() + 0.05, server.cpu_s()
    for n in range(count):
        due = max(begin + n / per_s, time.monotonic())
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        data, frames = batch(server.seq + 1, burst)
        wire = framing.messages(EPOCH, server.seq + 1, frames)
        server.seq += burst
        check = zlib.crc32(wire, check)
        tally.wanted += len(wire) * len(subscribers)
        tally.all_there.clear()
        writer.write(data)
        async with asyncio.timeout(10):
            await tally.all_there.wait()
        late.append((time.monotonic() - due) * 1000)
    cpu = server.cpu_s() - cpu
    if tally.size != tally.wanted or any(s.check != check for s in subscribers):
        raise SystemExit(f"{server.kind}: a socket got other bytes")
    writer.close()
    late.sort()
    return Figures(count * burst * len(subscribers), cpu, statistics.median(late), late[int(len(late) * 0.99)])


async def idle(server: Server, count: int, hold_s: float) -> tuple[float, float, float]:
    """Returns KB a connection in the server, CPU us a connect, and CPU us a connection and second while idle."""
    warm = await subscribe(server, 200, Tally())
    before, cpu = server.rss_kb(), server.cpu_s()
    subscribers = await subscribe(server, count, Tally())
    connect_us = (server.cpu_s() - cpu) / count * 1e6
    kb = (server.rss_kb() - before) / count
    cpu = server.cpu_s()
    await asyncio.sleep(hold_s)
    idle_us = (server.cpu_s() - cpu) / hold_s / count * 1e6
    for subscriber in warm + subscribers:
        subscriber.transport.close()
    await asyncio.sleep(0.5)
    return kb, connect_us, idle_us


async def fan_outs(kinds: list[str], arguments: argparse.Namespace) -> dict[tuple[str, int], float]:
    """All servers stand at once and take turns, so that a busy machine is busy for each of them.

    Returns by kind and burst the rate of deliveries as a share of that of the first kind.
    """
    servers = [Server(kind, QUIET_S) for kind in kinds]
    shares = {}
    try:
        groups = [await subscribe(server, arguments.sockets, Tally()) for server in servers]
        for server, group in zip(servers, groups, strict=True):
            await fan_out(server, group, 1, 60, 0.5)  # warm
        for burst in (1, 10):
            rounds = [
                [
                    await fan_out(s, group, burst, 60, arguments.seconds)
                    for s, group in zip(servers, groups, strict=True)
                ]
                for _ in range(arguments.rounds)
            ]
            for at, kind in enumerate(kinds):
                shares[kind, burst] = report(kind, burst, [turn[at] for turn in rounds], [turn[0] for turn in rounds])
    finally:
        for server in servers:
            server.stop()
    return shares


def report(kind: str, burst: int, figures: list[Figures], floor: list[Figures]) -> float:
    """Prints the medians; returns the share."""
    rate = statistics.median(f.per_cpu_s for f in figures) / 1000
    share = statistics.median(f.per_cpu_s / base.per_cpu_s for f, base in zip(figures, floor, strict=True))
    half = statistics.median(f.p50_ms for f in figures)
    tail = statistics.median(f.p99_ms for f in figures)
    print(
        f"{kind:10} bursts of {burst:2}: {rate:6.0f} thousand deliveries a CPU-second, {share:5.0%} of the first; "
        f"to the last socket p50 {half:.1f} ms, p99 {tail:.1f} ms",
        flush=True,
    )
    return share


async def idles(kinds: list[str], arguments: argparse.Namespace) -> None:
    for kind in kinds:
        server = Server(kind, HEARTBEAT_S)
        try:
            kb, connect_us, idle_us = await idle(server, arguments.idle, arguments.hold)
        finally:
            server.stop()
        print(
            f"{kind:10} {arguments.idle} idle: {kb:.2f} KB each, {connect_us:.0f} us of CPU a connect and subscribe, "
            f"{idle_us:.2f} us/s each over {arguments.hold:g} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--sockets", type=int, default=1_000)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--hold", type=float, default=8.0)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.rounds, arguments.idle, arguments.hold = 1.0, 3, 2_000, 3.0
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    kinds = list(dict.fromkeys(["floor", arguments.only])) if arguments.only else list(KINDS)
    uvloop.run(fan_outs(kinds, arguments))
    uvloop.run(idles(kinds, arguments))


if __name__ == "__main__":
    main()
