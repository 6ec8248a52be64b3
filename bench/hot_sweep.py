"""One message to very many sockets of one gateway process: how long until all have it, and what others notice of it.

    python -m bench.hot_sweep                       16,000 sockets, 34,000 in-memory ones, 10 messages
    python -m bench.hot_sweep --sockets 2000 --extra 0 --messages 3

The gateway is a process of its own (bench/engine.py) on core 0; the clients are processes on the others. A process may
hold 20,000 descriptors here, so what is above `--sockets` are in-memory outlets in the gateway: they count bytes and
take as long as a write to a socket does (`--write-us`). Each socket must get each message once.

A plain topic with 20 sockets gets a message every 7 ms all the time; its p95 is measured with and without the sweeps.
The longest slice and the time to the last socket are read from the gateway's own metrics, the wall-clock time to the
last real socket from the clients.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from bench.engine import EPOCH, BareLink, run_gateway
from bench.fanout import free_port
from gateway.service import GatewayService
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.fanout.ports import Moment
from headgate.core.fanout.session import Session
from headgate.core.wire.frames import message_frame
from headgate.core.wire.link import Messages
from headgate.core.wire.link_inbox import TopicHeat
from headgate.core.wire.linkcodec import encode_batch
from headgate.core.wire.rights import Caller, Identity

HOT, PLAIN = "hot", "plain"
PLAIN_SOCKETS, PLAIN_EVERY_S = 20, 0.007
PER_CLIENT = 4_000  # sockets of one client process
WAVE = 200


class Counted:
    """An outlet in memory that takes as long as a socket."""

    __slots__ = ("_write_s", "size")

    def __init__(self, write_s: float) -> None:
        self._write_s = write_s
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        until = time.perf_counter() + self._write_s
        while time.perf_counter() < until:
            pass

    def queued(self) -> int:
        return 0

    def end(self, code: int, reason: str) -> None:
        pass

    def refuse(self, refusal: Any) -> None:
        pass


def gateway(arguments: argparse.Namespace, port: int, link: int, pipe: Connection) -> None:
    """The gateway's process; `pipe` asks for its figures, and sets the topic's heat."""
    os.sched_setaffinity(0, {0})
    uvloop.run(_gateway(arguments, port, link, pipe))


async def _gateway(arguments: argparse.Namespace, port: int, link: int, pipe: Connection) -> None:
    bare = BareLink()
    await bare.listen(link)
    services: list[GatewayService] = []

    def attach(service: GatewayService) -> None:
        bare.deliver_to(service)
        services.append(service)
        asyncio.get_running_loop().add_reader(pipe.fileno(), _asked, service, arguments, pipe)

    await run_gateway(bare, port, Limits(heartbeat_s=3_600, comment_s=3_600), attach)


def _asked(service: GatewayService, arguments: argparse.Namespace, pipe: Connection) -> None:
    what = pipe.recv()
    if what == "extra":
        pipe.send(sum(_follow(service, arguments.write_us / 1e6) for _ in range(arguments.extra)))
    elif what == "heat":
        service.on_push(1, TopicHeat(HOT, EPOCH, arguments.heat))
        pipe.send(None)
    else:
        pipe.send(service._shell.metrics.render())  # type: ignore[attr-defined]  # the bench reads what a scrape would


def _follow(service: GatewayService, write_s: float) -> int:
    """Makes one in-memory session that follows the hot topic."""
    hub = service.hub
    moment = Moment(time.monotonic(), time.time_ns() // 1_000_000)
    session = Session(Counted(write_s), WEBSOCKET, os.urandom(16), moment.now)
    hub.open(session)
    hub.admit(session, Identity(Caller(session.connection_id)), moment)
    hub.subscribe(session, Subscribe(HOT, None, 0), moment)
    return session.follows


class Client(asyncio.Protocol):
    """A real socket: notes when it has got all that it waits for."""

    __slots__ = ("got", "on_open", "opened", "size", "tail", "topic", "transport", "wanted")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.tail = b""
        self.opened = False
        self.size = self.wanted = 0
        self.got = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        request = b"GET /ws/subscribe?topic_id=%b&presence=false HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        upgrade = (
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        transport.write(request % self.topic.encode() + upgrade)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.opened:
            self.tail += data
            self.opened = b'"subscribed"' in self.tail
            return
        self.size += len(data)
        if self.size >= self.wanted:
            self.got = time.monotonic()


async def connect(port: int, topic: str, count: int, first_host: int) -> list[Client]:
    """Opens sockets from several loopback addresses: one has 28,000 ports."""
    loop, clients = asyncio.get_running_loop(), []
    for at in range(0, count, WAVE):
        host = f"127.0.0.{first_host + at // 10_000}"
        wave = [
            loop.create_connection(lambda: Client(topic), "127.0.0.1", port, local_addr=(host, 0))
            for _ in range(min(WAVE, count - at))
        ]
        made = [protocol for _, protocol in await asyncio.gather(*wave)]
        while not all(client.opened for client in made):
            await asyncio.sleep(0.005)
        clients += made
    return clients


def client(port: int, count: int, host: int, pipe: Connection) -> None:
    """A process of clients: told how many bytes each will get, it answers when the last one had them."""
    os.sched_setaffinity(0, set(range(1, os.cpu_count() or 2)) or {0})
    uvloop.run(_client(port, count, host, pipe))


async def _client(port: int, count: int, host: int, pipe: Connection) -> None:
    clients = await connect(port, HOT, count, host)
    pipe.send("ready")
    while True:
        while not pipe.poll():
            await asyncio.sleep(0.002)
        size = pipe.recv()
        if not size:
            break
        for each in clients:
            each.wanted += size
        pipe.send("set")
        while any(each.size < each.wanted for each in clients):
            await asyncio.sleep(0.002)
        pipe.send((max(each.got for each in clients), max(each.size - each.wanted for each in clients)))


class Probe:
    """Publishes to the plain topic on schedule, and measures until its last socket has it."""

    def __init__(self, writer: asyncio.StreamWriter, clients: list[Client]) -> None:
        self._writer = writer
        self._clients = clients
        self._seq = 0
        self.late_ms: list[float] = []

    async def run(self, seconds: float) -> None:
        begin = time.monotonic()
        for n in range(int(seconds / PLAIN_EVERY_S)):
            due = begin + n * PLAIN_EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._seq += 1
            data, size = message(PLAIN, self._seq)
            for each in self._clients:
                each.wanted += size
            self._writer.write(data)
            while any(each.size < each.wanted for each in self._clients):
                await asyncio.sleep(0.001)
            self.late_ms.append((max(each.got for each in self._clients) - due) * 1e3)

    def p95(self) -> float:
        """Returns the 95th percentile in milliseconds, and begins anew."""
        found, self.late_ms = sorted(self.late_ms), []
        return found[int(len(found) * 0.95)]


def message(topic: str, seq: int) -> tuple[bytes, int]:
    """Returns a batch for the link with one message of about 250 bytes, and its size on the wire."""
    ts = time.time_ns() // 1_000_000
    tail = b'"message_id":"m","publisher_id":"p","payload":"%b"}' % (b"x" * 130)
    frame = message_frame(topic, seq, ts, tail)
    data = encode_batch([Messages(topic, EPOCH, seq, [ts], [frame])])
    return len(data).to_bytes(4, "big") + data, len(WEBSOCKET.messages(EPOCH, seq, [frame]))


class Clients:
    """The client processes."""

    def __init__(self, port: int, sockets: int) -> None:
        self._pipes: list[Connection] = []
        self.processes: list[multiprocessing.Process] = []
        for at in range(0, sockets, PER_CLIENT):
            near, far = multiprocessing.Pipe()
            count = min(PER_CLIENT, sockets - at)
            process = multiprocessing.Process(target=client, args=(port, count, 2 + at // PER_CLIENT, far), daemon=True)
            process.start()
            self._pipes.append(near)
            self.processes.append(process)
            near.recv()  # one after the other: the listen backlog is bounded

    def expect(self, size: int) -> None:
        for pipe in self._pipes:
            pipe.send(size)
        for pipe in self._pipes:
            pipe.recv()

    async def last(self) -> float:
        """Returns when the last of all sockets had the message."""
        times = []
        for pipe in self._pipes:
            while not pipe.poll():
                await asyncio.sleep(0.005)
            at, more = pipe.recv()
            if more:
                raise SystemExit("a socket got a message twice")
            times.append(at)
        return max(times, default=0.0)


async def measure(arguments: argparse.Namespace, port: int, link: int, pipe: Connection) -> dict[str, float]:
    clients = Clients(port, arguments.sockets)
    pipe.send("extra")
    while not pipe.poll():
        await asyncio.sleep(0.05)
    extra = pipe.recv()
    pipe.send("heat")
    pipe.recv()
    _, writer = await asyncio.open_connection("127.0.0.1", link)
    plain = await connect(port, PLAIN, PLAIN_SOCKETS, 200)
    probe = Probe(writer, plain)
    await probe.run(1.0)
    probe.p95()
    await probe.run(arguments.quiet)
    alone = probe.p95()
    probing = asyncio.create_task(probe.run(arguments.messages * arguments.every))
    took = []
    for seq in range(1, arguments.messages + 1):
        begin = time.monotonic()
        data, size = message(HOT, seq)
        clients.expect(size)
        sent = time.monotonic()
        writer.write(data)
        last = await clients.last()
        took.append(last - sent if last else 0.0)
        await asyncio.sleep(max(0.0, begin + arguments.every - time.monotonic()))
    await probing
    clients_done = [process for process in clients.processes if process.is_alive()]
    pipe.send("metrics")
    while not pipe.poll():
        await asyncio.sleep(0.05)
    figures = {"sockets": arguments.sockets, "in memory": extra, "plain p95 ms alone": alone}
    figures["plain p95 ms meanwhile"] = probe.p95()
    figures["last real socket s (median)"] = statistics.median(took)
    figures["last real socket s (worst)"] = max(took)
    figures |= slices(pipe.recv().decode())
    for process in clients_done:
        process.terminate()
    return figures


def slices(metrics: str) -> dict[str, float]:
    """Reads the slices and sweeps of a scrape: the bound of the bucket that the longest is in."""
    found = {}
    for name, label in (("headgate_flush_slice_seconds", "slice"), ("headgate_sweep_seconds", "sweep")):
        lines = [line for line in metrics.splitlines() if line.startswith(name)]
        count = next(float(line.split()[1]) for line in lines if line.startswith(f"{name}_count"))
        buckets = [line.split() for line in lines if line.startswith(f"{name}_bucket")]
        for share in (0.95, 1.0):
            bound = next((b for b, n in buckets if float(n) >= share * count), "none")
            found[f"{label} s, {share:.0%} at most"] = float(bound.partition('le="')[2].partition('"')[0] or "inf")
        found[f"{label}s"] = count
    return found


async def measured(arguments: argparse.Namespace) -> dict[str, float]:
    """Runs the whole bench once; returns the figures."""
    port, link = free_port(), free_port()
    near, far = multiprocessing.Pipe()
    process = multiprocessing.Process(target=gateway, args=(arguments, port, link, far), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.1)
        return await measure(arguments, port, link, near)
    finally:
        process.terminate()


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=16_000)
    parser.add_argument("--extra", type=int, default=34_000)
    parser.add_argument("--write-us", type=float, default=7.0)
    parser.add_argument("--messages", type=int, default=10)
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--quiet", type=float, default=5.0)
    parser.add_argument("--heat", default="paced")
    return parser.parse_args(words)


def main() -> None:
    for name, figure in uvloop.run(measured(parsed(sys.argv[1:]))).items():
        print(f"{name:32} {figure:.3f}")


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
