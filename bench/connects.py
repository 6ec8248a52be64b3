"""What a connect and a resume cost one gateway process, each beside a floor of the same kind in the same run.

    python -m bench.connects                        9 rounds of 5,000, medians, and how often the floor's CPU
    python -m bench.connects --beside ../before     the servers of another checkout take turns with these
    python -m bench.connects --connects             no resumes, which checkouts before this bench cannot do

A connect ends with `subscribed`, a resume with `caught_up` behind the one message that was missed, which each client
has to get once. `storm` is how long it takes until all of a round are back, with the clients on the other core. The
floor (bench/floor.py) answers each handshake with as many frames in one write. `websocket` and `sse` are the gateway
alone, whose owner answers at once; `dev` is `headgate dev`, with the owner and the log behind a link. Servers take
turns, and their order changes: read the medians and the shares, not single figures.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import uvloop

from bench.fanout import EPOCH, HEARTBEAT_S, Server, Subscriber, Tally, batch, subscribe

KINDS = ("floor", "websocket", "sse", "dev")
WAVE = 200
READY_S = 60.0  # for a server to listen: the machine may be busy


class Resuming(Subscriber):
    """Comes back with the position of the message before the newest, and has to get that one, once."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        self.tail += data
        self.began = b'"caught_up"' in self.tail


class Dev(Server):
    """`headgate dev`: messages come in over HTTP, and its owner says where they are."""

    errors = subprocess.DEVNULL

    def command(self) -> list[str]:
        return [sys.executable, "-m", "headgate.cli.main", "dev", "--port", str(self.port), "--admin.port", "0"]

    def ports(self) -> list[int]:
        return [self.port]

    def request(self, position: str = "") -> bytes:
        return super().request("seq:" + position.partition(":")[2] if position else "")

    async def publish(self, count: int) -> None:
        """Publishes one by one; an answer comes once the message is in the log."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = b'{"payload":"xxxxxxxxxxxx"}'
        done = 0
        while done < count:
            writer.write(
                b"POST /api/v1/topics/t/publish?wait=sequenced HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            if head.startswith(b"http/1.1 200"):
                done += 1
            elif head.startswith(b"http/1.1 503"):
                await asyncio.sleep(0.1)  # it was only just started
            else:
                raise SystemExit(f"a publish was answered {head!r} {answer!r}")
        self.seq += count
        writer.close()


class Turn:
    """A server that takes part, and what each of its rounds has cost."""

    def __init__(self, label: str, kind: str, tree: Path | None) -> None:
        self.label = label
        self.kind = kind
        self.tree = tree
        self.kb: list[float] = []
        self.us: dict[str, list[float]] = defaultdict(list)
        self.storm_s: list[float] = []

    def times(self, floor: "Turn", what: str) -> float:
        """Returns what a `connect` or `resume` costs, in units of the floor's."""
        return statistics.median(self.us[what]) / statistics.median(floor.us[what])


async def resume(server: Server, count: int) -> list[Subscriber]:
    """Brings `count` clients back, a wave at a time, each of which has missed one message."""
    loop, request = asyncio.get_running_loop(), server.request(f"{EPOCH}:{server.seq - 1}")
    back: list[Subscriber] = []
    for at in range(0, count, WAVE):
        wave = [
            loop.create_connection(lambda: Resuming(request, Tally()), "127.0.0.1", server.port)
            for _ in range(min(WAVE, count - at))
        ]
        made = [protocol for _, protocol in await asyncio.gather(*wave)]
        async with asyncio.timeout(30):
            while not all(subscriber.began for subscriber in made):
                await asyncio.sleep(0.002)
        back += made
    for subscriber in back:
        if subscriber.tail.count(b'"type":"message"') != 1:
            raise SystemExit(f"a client was told {subscriber.tail!r}")
    return back


async def publish(server: Server, count: int, tally: Tally) -> None:
    """Sends messages, and waits until the one subscriber of `tally` has them."""
    if isinstance(server, Dev):
        await server.publish(count)
        await asyncio.sleep(0.2)
        return
    _, writer = await asyncio.open_connection("127.0.0.1", server.link)
    data, frames = batch(server.seq + 1, count)
    server.seq += count
    tally.wanted = tally.size + sum(map(len, frames))  # and their framing
    tally.all_there.clear()
    writer.write(data)
    async with asyncio.timeout(10):
        await tally.all_there.wait()
    writer.close()


async def one_round(turn: Turn, count: int, *, resumes: bool) -> None:
    """A new server: connects, then messages, then the same number of resumes."""
    server = (Dev if turn.kind == "dev" else Server)(turn.kind, HEARTBEAT_S, READY_S, turn.tree)
    try:
        if isinstance(server, Dev):
            await server.publish(1)  # makes the topic
        tally = Tally()
        watcher = await subscribe(server, 1, tally)
        there = await subscribe(server, WAVE, Tally())
        before, cpu = server.rss_kb(), server.cpu_s()
        there += await subscribe(server, count, Tally())
        turn.us["connect"].append((server.cpu_s() - cpu) / count * 1e6)
        turn.kb.append((server.rss_kb() - before) / count)
        for subscriber in there:
            subscriber.transport.close()
        if resumes:
            await asyncio.sleep(0.5)
            await publish(server, 2, tally)
            await come_back(turn, server, count)
        watcher[0].transport.close()
    finally:
        server.stop()


async def come_back(turn: Turn, server: Server, count: int) -> None:
    cpu, begun = server.cpu_s(), time.monotonic()
    back = await resume(server, count)
    turn.storm_s.append(time.monotonic() - begun)
    turn.us["resume"].append((server.cpu_s() - cpu) / count * 1e6)
    for subscriber in back:
        subscriber.transport.close()


def report(turns: list[Turn]) -> None:
    floor = turns[0]
    for turn in turns:
        parts = []
        for what, figures in turn.us.items():
            middle, share = statistics.median(figures), turn.times(floor, what)
            parts.append(f"{what} {middle:.0f} us ({min(figures):.0f}-{max(figures):.0f}, {share:.1f})")
        parts.append(f"{statistics.median(turn.kb):.2f} KB each")
        if turn.storm_s:
            parts.append(f"storm {statistics.median(turn.storm_s):.2f} s")
        print(f"{turn.label:18} " + "; ".join(parts), flush=True)


async def take_turns(turns: list[Turn], rounds: int, count: int, *, resumes: bool) -> None:
    """Runs the rounds and prints what each has cost; `turns` have it afterwards, the floor's first."""
    for at in range(rounds):
        for turn in turns if at % 2 == 0 else turns[::-1]:
            await one_round(turn, count, resumes=resumes)
    print(f"{rounds} rounds of {count}: CPU a client at the median (lowest-highest, times the floor)")
    report(turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=KINDS[1:], action="append")
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--connects", action="store_true")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    kinds = arguments.only or list(KINDS[1:])
    turns = [Turn("floor", "floor", None)]
    for kind in kinds:
        turns += [Turn(kind, kind, None)]
        turns += [Turn(f"{kind} beside", kind, arguments.beside.resolve())] if arguments.beside else []
    uvloop.run(take_turns(turns, arguments.rounds, arguments.count, resumes=not arguments.connects))


if __name__ == "__main__":
    main()
