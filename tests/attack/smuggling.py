"""Victims behind a proxy with one upstream connection, a smuggler beside them: does anybody get another's answer?

`python -m tests.attack.smuggling [--port 8080] [--answers 2000]` runs `headgate dev` (or takes what serves at
--port), puts Go's ReverseProxy and nginx in front of it, and counts. Exit status 1 when an answer was foreign.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from typing import NamedTuple

from tests.attack.proxies import PROXIES, missing
from tests.attack.served import dev
from tests.integration.http_twin import request

_VICTIMS = 4
_SMUGGLERS = 2
_LONGEST_S = 120.0
_PAUSE_S = 0.003


class Count(NamedTuple):
    """What the victims saw; `offered` are the requests of the smugglers."""

    answers: int
    foreign: int
    failed: int
    offered: int


async def run(port: int, answers: int, *, smuggling: bool) -> Count:
    """Asks through the proxy at `port` until the victims have `answers` answers."""
    tally = _Tally(answers)
    async with asyncio.timeout(_LONGEST_S):
        victims = [asyncio.create_task(_victim(port, number, tally)) for number in range(_VICTIMS)]
        smugglers = [asyncio.create_task(_smuggler(port, number, tally)) for number in range(_SMUGGLERS * smuggling)]
        await asyncio.gather(*victims)
        for task in smugglers:
            task.cancel()
        await asyncio.gather(*smugglers, return_exceptions=True)
    return Count(tally.answers, tally.foreign, tally.failed, tally.offered)


class _Tally:
    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.answers = self.foreign = self.failed = self.offered = 0


async def _victim(port: int, number: int, tally: _Tally) -> None:
    """Asks for a topic of its own, whose name the answer must carry."""
    topic = f"victim-{number}"
    while tally.answers < tally.wanted:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while tally.answers < tally.wanted:
                    writer.write(request("GET", f"/api/v1/topics/{topic}"))
                    status, body = await _answer(reader)
                    tally.answers += 1
                    tally.failed += status in (502, 504)
                    tally.foreign += status not in (502, 504) and (status != 200 or topic.encode() not in body)
            finally:
                writer.close()


async def _smuggler(port: int, number: int, tally: _Tally) -> None:
    inner = request("GET", f"/api/v1/topics/smuggled-{number}") * 4
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = request("POST", "/api/v1/topics/x/publish", b"", "Connection: Upgrade", "Upgrade: h2c")
            length = f"Content-Length: {len(inner)}\r\n\r\n".encode()
            writer.write(head[:-2] + length)
            await writer.drain()
            await asyncio.sleep(_PAUSE_S)
            writer.write(inner)
            tally.offered += 1
            async with asyncio.timeout(1):
                with contextlib.suppress(TimeoutError):
                    await _answer(reader)
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" in head:
        body = await reader.readuntil(b"0\r\n\r\n")
    else:
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))
    return status, body


async def prepare(port: int) -> None:
    """Creates the victims' topics on the server at `port`."""
    for number in range(_VICTIMS):
        body = json.dumps({"topic_id": f"victim-{number}", "name": "v"}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST", "/api/v1/topics", body, "Content-Type: application/json"))
        status, text = await _answer(reader)
        assert status in (201, 409), text
        writer.close()


def main() -> int:
    """Runs it and prints one line a proxy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="of a server on loopback in mode open; default: one of our own")
    parser.add_argument("--answers", type=int, default=2_000)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        port = options.port or stack.enter_context(dev()).port
        asyncio.run(prepare(port))
        return max(_through(name, port, options.answers) for name in PROXIES)


def _through(name: str, port: int, answers: int) -> int:
    if missing(name):
        sys.stdout.write(f"{name}: not on this machine, not run\n")
        return 0
    with PROXIES[name](port) as front:
        quiet = asyncio.run(run(front, answers, smuggling=False))
        began = time.monotonic()
        count = asyncio.run(run(front, answers, smuggling=True))
    sys.stdout.write(
        f"{name}: {count.foreign} foreign answers of {count.answers} beside {count.offered} smuggled requests in "
        f"{time.monotonic() - began:.1f} s ({count.failed} were 502 or 504); "
        f"{quiet.foreign} of {quiet.answers} without a smuggler\n"
    )
    return int(count.foreign > 0)


if __name__ == "__main__":
    raise SystemExit(main())
