"""The control of `bench.hot`: as many deliveries to as many sockets, by programs beside the gateways (`bench.floor`).

What the plain topics wait then, they wait for a core: nothing of it is in the gateways.
"""

import asyncio
import json
import subprocess
import sys
import time
from itertools import count
from types import TracebackType
from typing import Final, Self

from bench.cpu import cpu_s
from bench.crowd import Crowd
from bench.fanout import free_port, listens
from headgate.core.wire.link import Messages
from headgate.core.wire.linkcodec import encode_batch

TOPIC: Final = "control"
PADDING: Final = "x" * 60  # a frame as long as one of a gateway, which has ids and times in it


class Floors:
    """Floor programs with a socket for each user, and `per_s` messages a second to all of them."""

    def __init__(self, programs: int, processes: int, nice: int) -> None:
        self._ports = [(free_port(), free_port()) for _ in range(programs)]
        self._programs: list[subprocess.Popen[bytes]] = []
        self._links: list[asyncio.StreamWriter] = []
        self.crowd = Crowd([f"127.0.0.1:{port}" for port, _ in self._ports], processes, nice=nice, first=processes + 1)
        self.sent = 0

    async def __aenter__(self) -> Self:
        for port, link in self._ports:
            self._programs.append(subprocess.Popen([sys.executable, "-m", "bench.floor", str(port), str(link)]))
            while not (listens(port) and listens(link)):
                await asyncio.sleep(0.05)
            self._links.append((await asyncio.open_connection("127.0.0.1", link))[1])
        await self.crowd.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.crowd.__aexit__()
        for program in self._programs:
            program.kill()
            program.wait()

    def cpu_s(self) -> float:
        """Returns the CPU seconds of the programs until now."""
        return sum(cpu_s(program.pid) for program in self._programs)

    async def publish(self, per_s: float, seconds: float) -> None:
        """Sends on schedule."""
        begun = time.time() + 0.05
        for n in count():
            due = begun + n / per_s
            if due >= begun + seconds:
                return
            await asyncio.sleep(max(0.0, due - time.time()))
            self.sent += 1
            frame = {"type": "message", "topic_id": TOPIC, "seq": self.sent, "payload": {"at": due, "padding": PADDING}}
            data = encode_batch([Messages(TOPIC, 1, self.sent, [int(due * 1_000)], [json.dumps(frame).encode()])])
            for link in self._links:
                link.write(len(data).to_bytes(4, "big") + data)
