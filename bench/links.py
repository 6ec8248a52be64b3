"""What links cost, idle and with copies of messages. `python -m bench.links [--links 400] [--seconds 10]`

Both ends are in this process, over loopback, as `headgate.runtime.links.websocket_link` opens and serves them: pings
each 2 s from both ends, authenticated by the secret. Printed: CPU and memory for each end of an idle link, and CPU for
each end and message with 1 KiB of payload, alone in a batch and 20 in one (what a loop turn had for that gateway).
"""

import argparse
import asyncio
import gc
import time
from pathlib import Path
from typing import Final

import uvloop

from bench.figures import EPOCH, NOW_MS, sizes
from headgate.core.wire.link import Message, Messages
from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, open_link, serve_links
from headgate.runtime.system import SystemRng

AT_ONCE: Final = 10  # connects under way
PAGE: Final = 4096
MESSAGES: Final = 40_000


async def measure(links: int, seconds: float) -> None:
    """Opens the links, waits, and prints what they took."""
    rng, credentials = SystemRng(), Credentials(b"a secret of at least thirty-two bytes")
    tasks: list[asyncio.Task[None]] = []
    refused: list[str] = []
    accepted: list[WebSocketLink] = []
    wires: list[WebSocketLink] = []
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
        wires.append(wire)
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
    print("\n| messages a batch | us of CPU a message and end |\n|---|---|")
    for batch in (1, 20):
        print(f"| {batch} | {await _carry(accepted, wires, batch):.1f} |")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.close()


async def _carry(senders: list[WebSocketLink], receivers: list[WebSocketLink], batch: int) -> float:
    """Sends batches over all links in turn; returns us of CPU for each message and end."""
    arrived = 0

    def take(messages: list[Message]) -> None:
        nonlocal arrived
        arrived += len(messages)

    for wire in receivers:
        wire.deliver_to(take)
    frame = b"x" * (sizes().frame - 4)
    message = Messages("channel:1234567", EPOCH, 123_456, [NOW_MS], [frame])
    count = MESSAGES // batch
    began = time.process_time()
    for n in range(count):
        for _ in range(batch):
            senders[n % len(senders)].send(message)
        if n % len(senders) == len(senders) - 1:
            await asyncio.sleep(0)
    async with asyncio.timeout(60):
        while arrived < count * batch:
            await asyncio.sleep(0.001)
    return (time.process_time() - began) / (2 * count * batch) * 1e6


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
