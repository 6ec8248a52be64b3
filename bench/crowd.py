"""Many WebSockets in a few processes: each byte that a socket gets is checked, and each message timed.

A crowd follows topics on any gateways. Of each topic a process keeps the bytes that its sockets got, once: what a
socket gets must be these very bytes, from the message behind its `subscribed` on, so every message once and in order.
The payload's `at` is when the message was due (Unix seconds); latency counts from there. Each process connects from
loopback addresses of its own: an address has 28,000 ports, a closed socket keeps its port for a minute, and where half
are in use the kernel searches long for a free one.

`python -m bench.crowd NUMBER` is one of the processes: JSON lines in, and one for each of them out.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import uvloop

from bench.follower import Follower, Stream, request
from tests.e2e.harness import environment

WAVE: Final = 100  # connects under way in a process
SOURCES: Final = 8  # addresses of a process
OPEN_S: Final = 120.0
CATCH_UP_S: Final = 60.0


class Process:
    """The sockets of one process, by topic."""

    def __init__(self, number: int) -> None:
        self.sources = [f"127.0.{number}.{n}" for n in range(2, 2 + SOURCES)]
        self.streams: dict[str, Stream] = {}
        self.followers: dict[str, list[Follower]] = {}

    async def open(self, topic: str, users: list[str], gateways: list[str]) -> dict[str, Any]:
        """Connects a socket a user, in turn to each gateway, from each source; returns how many follow."""
        stream, mine = self.streams.setdefault(topic, Stream()), self.followers.setdefault(topic, [])
        gate, begun = asyncio.Semaphore(WAVE), time.monotonic()

        async def connect(n: int, user: str) -> None:
            async with gate:
                mine.append(await self._connect(request(topic, user), stream, n, gateways))

        first = 0 if mine else 1  # one of them begins the stream, before the others
        if first:
            await connect(0, users[0])
        await asyncio.gather(*(connect(n, user) for n, user in enumerate(users) if n >= first))
        return {"followers": len(mine), "seconds": time.monotonic() - begun}

    async def churn(self, topic: str, users: list[str], gateways: list[str], per_s: float) -> dict[str, Any]:
        """Connects these on schedule, and closes as many, the oldest first.

        Returns the milliseconds from when each was due until it followed, and why others were not let in. Tokens are
        signed before the first is due: a real client has its own.
        """
        stream, mine = self.streams[topic], self.followers[topic]
        requests = [request(topic, user) for user in users]
        took, failed, begun = Counter[int](), list[str](), time.monotonic()

        async def turn(n: int, wish: bytes) -> None:
            due = begun + n / per_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                mine.append(await self._connect(wish, stream, n, gateways))
                took[int((time.monotonic() - due) * 1_000)] += 1
            except (OSError, TimeoutError) as error:
                failed.append(repr(error))
                return
            oldest = mine.pop(0)
            stream.faults += ["a socket was closed by its gateway"] * oldest.lost
            oldest.transport.close()

        await asyncio.gather(*(turn(n, wish) for n, wish in enumerate(requests)))
        return {"took": took, "failed": failed}

    async def come_back(self, topic: str, gateways: list[str], spread_s: float) -> dict[str, Any]:
        """Lets those that were lost come back where they were, each a random while after its loss.

        Returns the milliseconds from its loss until it follows again.
        """
        stream, mine = self.streams[topic], self.followers[topic]
        known, deadline = 0, time.monotonic() + CATCH_UP_S
        while (now_lost := sum(follower.lost for follower in mine)) > known or not now_lost:
            if time.monotonic() > deadline:
                break
            known = now_lost
            await asyncio.sleep(0.2)  # the kernel has not told of all at once
        lost = [follower for follower in mine if follower.lost]
        self.followers[topic] = mine = [follower for follower in mine if not follower.lost]
        took = Counter[int]()

        async def back(n: int, before: Follower) -> None:
            await asyncio.sleep(before.lost_at + random.uniform(0, spread_s) - time.monotonic())
            wish = request(topic, f"back-{n}", before.place)
            mine.append(await self._connect(wish, stream, n, gateways, before))
            took[int((time.monotonic() - before.lost_at) * 1_000)] += 1

        await asyncio.gather(*(back(n, before) for n, before in enumerate(lost)))
        return {"took": took, "failed": []}

    async def _connect(
        self, wish: bytes, stream: Stream, n: int, gateways: list[str], before: Follower | None = None
    ) -> Follower:
        host, port = gateways[n % len(gateways)].split(":")
        follower = Follower(wish, stream, before)
        source = self.sources[n // len(gateways) % len(self.sources)], 0
        async with asyncio.timeout(OPEN_S):
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: follower, host, int(port), local_addr=source)
            await follower.following
        return follower

    async def close(self, topic: str, count: int) -> dict[str, Any]:
        """Closes sockets, the oldest first."""
        mine = self.followers[topic]
        gone, self.followers[topic] = mine[:count], mine[count:]
        for at, follower in enumerate(gone):
            if follower.lost:
                follower.stream.faults.append("a socket was closed by its gateway")
            follower.transport.close()
            if at % WAVE == 0:
                await asyncio.sleep(0.01)
        return {"followers": len(self.followers[topic])}

    async def report(self, topic: str, seq: int) -> dict[str, Any]:
        """Returns the latencies since the last report; above 0: waits until every socket has message `seq`."""
        stream, mine = self.streams[topic], self.followers[topic]
        deadline = time.monotonic() + CATCH_UP_S
        while seq and any(f.position < 0 or stream.first_seq + f.index <= seq for f in mine):
            if time.monotonic() > deadline:
                behind = sum(f.position < 0 or stream.first_seq + f.index <= seq for f in mine)
                stream.faults.append(f"{behind} of {len(mine)} sockets never had message {seq}")
                break
            await asyncio.sleep(0.05)
        stream.faults += ["a socket was closed by its gateway" for follower in mine if follower.lost]
        times = enumerate(zip(stream.last, stream.due, strict=True), stream.first_seq)
        found = {
            "late": dict(stream.late),
            "last": {seq: last - due for seq, (last, due) in times if last},
            "faults": stream.faults[:5],
        }
        stream.clear()
        return found


async def serve() -> None:
    """Does what the lines on standard input say."""
    process, reader = Process(int(sys.argv[1])), asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, *arguments = json.loads(line)
        try:
            answer = await getattr(process, name)(*arguments)
        except (OSError, TimeoutError) as error:  # a socket that was not let in
            answer = {"error": f"{name}: {error!r}"}
        print(json.dumps(answer), flush=True)


class Report:
    """Latencies of deliveries in milliseconds, and of the last socket of each message in seconds."""

    def __init__(self, parts: Iterable[dict[str, Any]]) -> None:
        self.late: Counter[int] = Counter()
        self.faults: list[str] = []
        last: dict[str, float] = {}
        for part in parts:
            self.late.update({int(ms): count for ms, count in part["late"].items()})
            last |= {seq: max(late, last.get(seq, 0.0)) for seq, late in part["last"].items()}
            self.faults += part["faults"]
        self.last = list(last.values())

    def __add__(self, other: "Report") -> "Report":
        total = Report([])
        total.late, total.last, total.faults = (
            self.late + other.late,
            self.last + other.last,
            self.faults + other.faults,
        )
        return total

    def quantile(self, q: float) -> int:
        """Returns a quantile of the deliveries."""
        return quantile_of(self.late, q)

    def __str__(self) -> str:
        quantiles = ", ".join(f"p{q * 100:g} {self.quantile(q)} ms" for q in (0.5, 0.95, 0.99))
        last = sorted(self.last) or [0.0]
        middle, most = last[len(last) // 2], last[-1]
        slowest = f"last socket {middle:.3f} s at the median, {most:.3f} s at most"
        return f"{self.late.total()} deliveries, {quantiles}; {slowest}"


def quantile_of(counts: Counter[int], q: float) -> int:
    """Returns a quantile of values that were counted; -1 where there is none."""
    left = q * counts.total()
    for value, count in sorted(counts.items()):
        left -= count
        if left <= 0:
            return value
    return -1


class Crowd:
    """All processes together. Raises SystemExit for a fault of any socket.

    With `nice` they run only when nothing else wants the core: the clients of a real crowd are on other machines.
    """

    def __init__(self, gateways: list[str], processes: int, *, nice: int = 0, first: int = 0) -> None:
        """`first` keeps the addresses of two crowds apart."""
        self._gateways = gateways
        self._count = processes
        self._nice = nice
        self._first = first
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> "Crowd":
        pipe = asyncio.subprocess.PIPE
        for number in range(self._count):
            command = (sys.executable, "-m", "bench.crowd", str(self._first + number))
            started = asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, limit=1 << 26, env=environment({})
            )
            self._processes.append(process := await started)
            os.setpriority(os.PRIO_PROCESS, process.pid, self._nice)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [process.pid for process in self._processes]

    async def open(self, topic: str, users: list[str]) -> float:
        """Lets each of these users follow, spread over processes and gateways; returns the seconds it took."""
        shares = [users[n :: self._count] for n in range(self._count)]
        found = await self._all("open", [(topic, share, self._gateways) for share in shares if share])
        return max(float(part["seconds"]) for part in found)

    async def close(self, topic: str, count: int) -> None:
        """Closes so many sockets."""
        shares = [len(range(n, count, self._count)) for n in range(self._count)]
        await self._all("close", [(topic, share) for share in shares if share])

    async def churn(self, topic: str, users: list[str], per_s: float) -> tuple[Counter[int], list[str]]:
        """Lets these come on schedule, and as many go; returns milliseconds and why some were not let in."""
        shares = [users[n :: self._count] for n in range(self._count)]
        lines: list[tuple[object, ...]] = [(topic, share, self._gateways, per_s / self._count) for share in shares]
        return _sums(await self._all("churn", lines))

    async def come_back(self, topic: str, gateways: list[str], spread_s: float) -> Counter[int]:
        """Lets those that were lost come back; returns milliseconds from now until each follows."""
        return _sums(await self._all("come_back", [(topic, gateways, spread_s)] * self._count))[0]

    async def report(self, topic: str, seq: int = 0) -> Report:
        """Returns the latencies since the last report; with `seq` once every socket has that message."""
        found = Report(await self._all("report", [(topic, seq)] * self._count))
        if found.faults:
            raise SystemExit(f"{topic}: {found.faults[:5]}")
        return found

    async def _all(self, name: str, arguments: list[tuple[object, ...]]) -> list[Any]:
        pairs = zip(self._processes, arguments, strict=False)
        return await asyncio.gather(*(_one(process, [name, *given]) for process, given in pairs))


def _sums(parts: list[dict[str, Any]]) -> tuple[Counter[int], list[str]]:
    took: Counter[int] = Counter()
    for part in parts:
        took.update({int(ms): count for ms, count in part["took"].items()})
    return took, [error for part in parts for error in part["failed"]]


async def _one(process: asyncio.subprocess.Process, line: list[object]) -> Any:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(line).encode() + b"\n")
    answer = await process.stdout.readline()
    if not answer:
        raise SystemExit("a process of the crowd has died")
    found = json.loads(answer)
    if "error" in found:
        raise SystemExit(f"a process of the crowd: {found['error']}")
    return found


if __name__ == "__main__":
    uvloop.run(serve())
