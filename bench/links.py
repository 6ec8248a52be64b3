"""What idle links cost: the keepalive of real WebSocket links. `python -m bench.links [--links 400] [--seconds 10]`

Both ends are in this process, over loopback, as `headgate.runtime.links.websocket_link` opens and serves them: pings
each 2 s from both ends, authenticated by the secret. Printed: CPU and memory for each end of a link.
"""

import argparse
import asyncio
import gc
import time
from pathlib import Path
from typing import Final

import uvloop

from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, open_link, serve_links
from headgate.runtime.system import SystemRng

AT_ONCE: Final = 50  # connects under way: fewer than the bound of links that have proved nothing
PAGE: Final = 4096


async def measure(links: int, seconds: float) -> None:
    """Opens the links, waits, and prints what they took."""
    rng, credentials = SystemRng(), Credentials(b"a secret of at least thirty-two bytes")
    tasks: list[asyncio.Task[None]] = []
    refused: list[str] = []
    accepted: list[WebSocketLink] = []
    server = await serve_links(
        "127.0.0.1", 0, credentials, "dispatcher", rng, accepted.append, lambda _code, why: refused.append(why)
    )
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gc.collect()
    before, began = _resident(), time.process_time()
    slots = asyncio.Semaphore(AT_ONCE)

    async def link(n: int) -> None:
        async with slots:
            wire = await open_link(address, credentials, "gateway", f"gateway-{n}", rng)
        tasks.append(asyncio.create_task(wire.run()))

    await asyncio.gather(*map(link, range(links)))
    opened = time.process_time() - began
    await asyncio.sleep(2 * 2.0)  # every end has pinged
    ends, size = 2 * links, _resident() - before
    began, clock = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    spent, passed = time.process_time() - began, time.monotonic() - clock
    if refused or len(accepted) != links or any(task.done() for task in tasks):
        raise SystemExit(f"{len(accepted)} of {links} links were accepted, {refused[:3]}")
    print("| links | us of CPU a second and end | us of CPU to open an end | bytes an end |")
    print("|---|---|---|---|")
    print(f"| {links} | {spent / passed / ends * 1e6:.0f} | {opened / ends * 1e6:.0f} | {size // ends:,} |")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.close()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> None:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.links", description=__doc__)
    parser.add_argument("--links", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    uvloop.run(measure(given.links, given.seconds))


if __name__ == "__main__":
    main()
