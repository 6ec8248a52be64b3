"""Many small topics in one process: each socket follows ten of a thousand topics, and batches come over HTTP.

    python -m bench.small                       the highest rate with p95 < 50 ms, beside the floor in the same run
    python -m bench.small --rate 5000           one rate: delivered a second, latency, server CPU a delivery
    python -m bench.small --beside ../before    `headgate dev` of another checkout takes turns

`headgate dev` (in memory, open mode) is on core 0, the load on core 1. Open loop: a batch of 100 is due at its time,
whatever became of those before, and latency counts from then. Each topic has ten subscribers, so a message is ten
deliveries. Every socket must get every message of its topics once and in order. The floor (bench/small_floor.py) parses
the same batches and writes once a socket and loop turn.
"""

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import uvloop

from bench.cpu import cpu_s
from bench.fanout import free_port, listens

SOCKETS, TOPICS, EACH, BATCH = 1_000, 1_000, 10, 100
LIMIT_MS = 50.0
STEP = 1.15
SENDERS = 8
LATE_S = 8.0  # for the last delivery
_MESSAGE = re.compile(rb'"topic_id":"t(\d+)","seq":(\d+)[^}]*?"payload":\{"due":(\d+)\}')


class Load(NamedTuple):
    """One run at one rate: latencies in milliseconds, CPU of the server in us a delivery."""

    rate: float
    delivered: int
    seconds: float
    p50_ms: float
    p95_ms: float
    cpu_us: float

    @property
    def per_s(self) -> float:
        return self.delivered / self.seconds


class Small:
    """A server process on core 0: `dev` of a checkout, or the floor."""

    def __init__(self, label: str, tree: Path | None = None) -> None:
        self.label = label
        self.port = free_port()
        environment = os.environ if tree is None else os.environ | {"PYTHONPATH": str(tree)}
        command = [sys.executable, "-m", *self.command()]
        with open(os.devnull, "w") as nowhere:
            self.process = subprocess.Popen(command, cwd=tree, env=environment, stderr=nowhere)
        os.sched_setaffinity(self.process.pid, {0})
        deadline = time.monotonic() + 30
        while not listens(self.port):
            if time.monotonic() > deadline:
                raise SystemExit(f"{label} did not start")
            time.sleep(0.05)

    def command(self) -> list[str]:
        if self.label == "floor":
            return ["bench.small_floor", str(self.port)]
        return ["headgate.cli.main", "dev", "--port", str(self.port), "--admin.port", "0"]

    def cpu_s(self) -> float:
        return cpu_s(self.process.pid)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Server(Protocol):
    """What a `Turn` loads."""

    port: int

    def cpu_s(self) -> float: ...

    def stop(self) -> None: ...


def authorization(bearer: str) -> bytes:
    """Returns the header line of a token; nothing without one."""
    return f"Authorization: Bearer {bearer}\r\n".encode() if bearer else b""


class Follower(asyncio.Protocol):
    """One socket. `seqs` has the newest number of each topic that it follows; a hole or a repeat ends the bench."""

    def __init__(self, number: int, port: int, bearer: str = "") -> None:
        self.bearer = bearer
        self.topics = [(number * EACH + n) % TOPICS for n in range(EACH)]
        self.port = port
        self.seqs = dict.fromkeys(self.topics, 0)
        self.count = 0
        self.told = 0
        self.rest = b""
        self.late: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        query = "&".join(f"topic_id=t{topic}" for topic in self.topics)
        self.transport = transport
        transport.write(  # type: ignore[attr-defined]
            f"GET /ws/subscribe?{query}&presence=false HTTP/1.1\r\nHost: localhost:{self.port}\r\n".encode()
            + authorization(self.bearer)
            + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        if self.told < EACH:
            self.told += data.count(b'"subscribed"')
            self.rest = b"" if self.told < EACH else self.rest
            return
        end = 0
        now_us = time.monotonic_ns() // 1_000
        for found in _MESSAGE.finditer(data):
            topic, seq = int(found[1]), int(found[2])
            if seq != self.seqs[topic] + 1:
                raise SystemExit(f"t{topic}: {seq} after {self.seqs[topic]}")
            self.seqs[topic] = seq
            self.count += 1
            end = found.end()
        if end:
            self.late.append((now_us - int(found[3])) / 1000)
        self.rest = data[end:]


class Batch(NamedTuple):
    """A batch to consecutive topics from `first` on, due at a time of the monotonic clock."""

    first: int
    due: float
    body: bytes


def all_taken(batch: Batch, head: bytes, answer: bytes) -> None:
    """Ends the bench where a message was refused."""
    if answer.count(b'"status":200') != BATCH:
        raise SystemExit(f"a batch was answered {head!r} {answer[:500]!r}")


class Publisher:
    """Posts batches over a few connections; each waits for its answer, which `take` gets, before it sends the next.

    A batch that could not be sent within `patience_s` of its time goes to `give_up`.
    """

    def __init__(
        self,
        port: int,
        take: Callable[[Batch, bytes, bytes], None] = all_taken,
        patience_s: float = float("inf"),
        give_up: Callable[[Batch], None] = lambda batch: None,
        bearer: str = "",
    ) -> None:
        self.port = port
        self._authorization = authorization(bearer)
        self.queue: asyncio.Queue[Batch] = asyncio.Queue()
        self._take = take
        self._patience_s = patience_s
        self._give_up = give_up

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            batch = await self.queue.get()
            if time.monotonic() - batch.due > self._patience_s:
                self._give_up(batch)
                continue
            writer.write(
                f"POST /api/v1/publish/batch HTTP/1.1\r\nHost: localhost:{self.port}\r\n".encode()
                + self._authorization
                + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(batch.body), batch.body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            self._take(batch, head, await reader.readexactly(size))


def body(first: int, due_us: int) -> bytes:
    """Returns a batch of messages to consecutive topics."""
    items = [b'{"topic_id":"t%d","payload":{"due":%d}}' % ((first + n) % TOPICS, due_us) for n in range(BATCH)]
    return b"[" + b",".join(items) + b"]"


class Turn:
    """A server with its sockets and publishers."""

    def __init__(self, server: Server, publisher: Publisher | None = None, bearer: str = "") -> None:
        self.server = server
        self.bearer = bearer
        self.followers: list[Follower] = []
        self.publisher = publisher or Publisher(server.port)
        self.senders: list[asyncio.Task[None]] = []
        self.next = 0

    async def prepare(self, senders: int = SENDERS) -> None:
        self.senders = [asyncio.ensure_future(self.publisher.run()) for _ in range(senders)]
        self.followers = await self.connect()

    async def connect(self) -> list[Follower]:
        """Connects the sockets, a wave at a time, and waits until each follows its topics."""
        loop, port, followers = asyncio.get_running_loop(), self.server.port, list[Follower]()
        for at in range(0, SOCKETS, 100):
            new = [Follower(n, port, self.bearer) for n in range(at, at + 100)]
            wave = [loop.create_connection(partial(_same, follower), "127.0.0.1", port) for follower in new]
            made = [protocol for _, protocol in await asyncio.gather(*wave)]
            async with asyncio.timeout(60):
                while not all(follower.told >= EACH for follower in made):
                    await asyncio.sleep(0.01)
            followers += made
        return followers

    async def connect_us(self) -> float:
        """Connects as many sockets again, and closes them; returns what one costs the server, in us of CPU."""
        cpu = self.server.cpu_s()
        again = await self.connect()
        cpu = self.server.cpu_s() - cpu
        for follower in again:
            follower.transport.close()
        await asyncio.sleep(0.5)
        return cpu / SOCKETS * 1e6

    async def load(self, rate: float, seconds: float) -> Load:
        """Publishes `rate` messages a second; each reaches ten sockets."""
        batches = max(int(rate * seconds / BATCH), 1)
        before = sum(follower.count for follower in self.followers)
        for follower in self.followers:
            follower.late.clear()
        begin, cpu = time.monotonic() + 0.05, self.server.cpu_s()
        await self.offer(begin, rate, batches)
        wanted = before + batches * BATCH * SOCKETS * EACH // TOPICS
        deadline = time.monotonic() + LATE_S
        while sum(follower.count for follower in self.followers) < wanted:
            if time.monotonic() > deadline or any(sender.done() for sender in self.senders):
                break
            await asyncio.sleep(0.02)
        took, cpu = time.monotonic() - begin, self.server.cpu_s() - cpu
        got = sum(follower.count for follower in self.followers) - before
        late = sorted(ms for follower in self.followers for ms in follower.late) or [float("inf")]
        missing = wanted - before - got
        p95 = late[int(len(late) * 0.95)] if not missing else float("inf")
        return Load(rate, got, took, statistics.median(late), p95, cpu / max(got, 1) * 1e6)

    async def offer(self, begin: float, rate: float, batches: int) -> None:
        """Hands batches to the publisher, each at its time, whatever became of those before."""
        for n in range(batches):
            due = begin + n * BATCH / rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            self.publisher.queue.put_nowait(Batch(self.next, due, body(self.next, int(due * 1e6))))
            self.next = (self.next + BATCH) % TOPICS

    async def highest(self, first: float, seconds: float) -> Load:
        """Returns the load at the highest rate whose p95 is below the limit, in steps."""
        best = await self.load(first, seconds)
        rate = first
        while True:
            rate *= STEP
            found = await self.load(rate, seconds)
            if found.p95_ms > LIMIT_MS:
                found = await self.load(rate, seconds)  # the machine may have been busy
            if found.p95_ms > LIMIT_MS:
                return best
            best = found


def _same(follower: Follower) -> Follower:
    return follower


def said(label: str, load: Load) -> str:
    return (
        f"{label:8} {load.rate:7.0f} msg/s, {load.per_s / 1000:6.1f} thousand deliveries/s; p50 {load.p50_ms:5.1f} ms,"
        f" p95 {load.p95_ms:5.1f} ms; {load.cpu_us:.1f} us of server CPU a delivery"
    )


async def one_round(label: str, tree: Path | None, rate: float | None, seconds: float) -> Load:
    """Starts a server and loads it: at one rate, or up to the highest."""
    turn = Turn(Small(label, tree))
    try:
        await turn.prepare()
        await turn.load(1_000, 1.0)  # warm
        connect_us = await turn.connect_us()
        if rate:
            found = await turn.load(rate, seconds)
        else:
            found = await turn.highest(10_000 if label == "floor" else 2_000, seconds)
        print(f"{said(label, found)}, {connect_us:.0f} us a connect with {EACH} topics", flush=True)
        return found
    finally:
        for sender in turn.senders:
            sender.cancel()
        turn.server.stop()


async def run(arguments: argparse.Namespace) -> None:
    labels: list[tuple[str, Path | None]] = [("floor", None), ("dev", None)]
    labels += [("before", arguments.beside.resolve())] if arguments.beside else []
    for _ in range(arguments.rounds):
        for label, tree in labels:
            await one_round(label, tree, arguments.rate, arguments.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beside", type=Path)
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
