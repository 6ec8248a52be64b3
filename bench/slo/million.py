"""The run `million`: as many sockets as this machine holds, one message to all, then all gateways restarted in turn.

Sockets are made in cells: a gateway and a process of clients (bench/raw_sockets.py), each with 20,000 descriptors.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.slo.place import Place, cpu_of, progress, resident_kb
from bench.slo.raw_clients import RawClient
from bench.slo.rows import Found
from tests.e2e.harness import Role

SOCKETS: Final = 1_000_000
PER_CELL: Final = 18_000  # of 20,000 descriptors
PART: Final = 3_000  # sockets of a cell between two looks at the memory
AT_ONCE: Final = 2  # cells that are filled at a time
OPENING: Final = 0.5  # of the minutes that the run has; the restart has the rest
GROUPS: Final = 12  # of gateways, restarted one after the other
LAST_S: Final = 120.0  # for a message to all
TOPIC: Final = "million"
WHY: Final = {
    "EMFILE": "descriptors",
    "ENFILE": "descriptors",
    "EADDRNOTAVAIL": "ports",
    "ENOBUFS": "kernel memory",
    "ENOMEM": "kernel memory",
}


class Cells:
    """The gateways with their clients, and what their memory was while they had no socket."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.gateways: list[Role] = []
        self.clients: list[RawClient] = []
        self.empty_kb: dict[str, int] = {}
        self.opened_s = 0.0
        self.machine_kb, self.kernel_kb = used_kb(), kernel_kb()

    @property
    def sockets(self) -> int:
        return sum(client.open for client in self.clients)

    async def gateway(self) -> Role:
        """Starts one more gateway; the first is the deployment's own."""
        deployment, number = self.place.deployment, len(self.gateways)
        if number:
            port, admin = deployment.stage.ports(2)
            own = {"gateway.host": "127.0.0.1", "gateway.port": port, "admin.port": admin}
            made = deployment.stage.role(f"gateway-{number}", ["gateway"], deployment.common | own).start()
        else:
            made = deployment.gateways[0]
        self.gateways.append(made)
        await made.ready()
        self.empty_kb[made.name] = resident_kb(made.pid)
        return made

    async def cell(self) -> tuple[Role, RawClient]:
        """Starts a gateway and its clients."""
        gateway, client = await self.gateway(), await RawClient.start(len(self.clients), TOPIC)
        self.clients.append(client)
        return gateway, client

    async def all(self, name: str, *arguments: object) -> list[dict[str, Any]]:
        """Asks all processes of clients. Raises SystemExit for a fault of any socket."""
        return await asyncio.gather(*(client.ask(name, *arguments) for client in self.clients))

    async def message(self) -> tuple[float, float]:
        """Publishes one message to all; returns the seconds to the last socket and gateway CPU us a delivery.

        Raises AssertionError when a socket did not get it.
        """
        cpu, due = cpu_of(self.gateways), time.time()
        seq = await self.place.message(TOPIC)
        parts = await self.all("wait", seq, LAST_S)
        count = sum(part["count"] for part in parts)
        assert count == self.sockets, f"{count:,} of {self.sockets:,} sockets had message {seq}"
        return max(part["at"] for part in parts) - due, 1e6 * (cpu_of(self.gateways) - cpu) / count

    def bytes_each(self) -> tuple[float, float, float]:
        """Returns bytes of a connection: in its gateway, in the kernel for one of its ends, of the machine for both."""
        gateways = sum(resident_kb(gateway.pid) - self.empty_kb[gateway.name] for gateway in self.gateways)
        per = 1_024 / max(1, self.sockets)
        return gateways * per, (kernel_kb() - self.kernel_kb) * per / 2, (used_kb() - self.machine_kb) * per


async def million(place: Place) -> list[Found]:
    """As many of a million sockets as the machine holds, one message to all, all gateways restarted in turn."""
    begun, wanted = time.monotonic(), max(200, round(SOCKETS * place.scale))
    await place.topic(TOPIC)
    cells = Cells(place)
    try:
        stopped, few, first_us = await _fill(cells, wanted, begun + 60 * place.minutes * OPENING)
        gateway_bytes, kernel_bytes, both = cells.bytes_each()
        sockets, per_s = cells.sockets, cells.sockets / cells.opened_s
        last_s, last_us = await cells.message()
        progress(f"{sockets:,} sockets; one message to all in {last_s:.2f} s, {last_us:.1f} us a delivery")
        try:
            after = await _restart(cells, begun + 60 * place.minutes)
            final_s, _ = await cells.message()
            after += f"; then a message to all after {final_s:.2f} s"
        except (AssertionError, SystemExit) as error:  # what was found before stands
            after = f"the restart of all gateways was broken off: {str(error)[:200]}"
            progress(after)
    finally:
        for client in cells.clients:
            await client.stop()
    size = f"{sockets:,} of {wanted:,} sockets on {len(cells.clients)} gateways; ended by {stopped}"
    each = (
        f"{gateway_bytes:,.0f} bytes in the gateway, {kernel_bytes:,.0f} in the kernel for one end; {both:,.0f} of the "
        f"machine for both"
    )
    told = f"one message to all after {last_s:.2f} s, {sockets / last_s:,.0f} deliveries/s"
    flat = f"with {sockets:,} sockets {last_us:.1f} us, with {few:,} {first_us:.1f} us"
    return [
        Found("sockets_most", sockets, f"{size}; {per_s:,.0f} connects/s; each {each}; {told}; {after}"),
        Found("gateway_bytes", round(gateway_bytes), f"resident memory of the gateways; {size}"),
        Found("kernel_bytes", round(kernel_bytes), f"slabs and socket buffers of /proc, half of both ends; {size}"),
        Found("connects_per_s", round(per_s), f"clients on the same {os.cpu_count()} cores; {size}"),
        Found("scale_flat", round(last_us / first_us, 2), flat),
    ]


async def _fill(cells: Cells, wanted: int, deadline: float) -> tuple[str, int, float]:
    """Opens sockets up to a bound; returns which, and how many sockets the first message had at which CPU us each."""
    few, first_us, stopped = 0, 0.0, ""
    while not stopped and cells.sockets < wanted:
        ahead = min(AT_ONCE, -(-(wanted - cells.sockets) // PER_CELL))
        pairs = [await cells.cell() for _ in range(ahead)]
        share = min(PER_CELL, -(-(wanted - cells.sockets) // ahead))
        stopped = await fill_cells(cells, pairs, share, deadline)
        if not few and (stopped or cells.sockets >= wanted / 10):
            few = cells.sockets
            first_s, first_us = await cells.message()
            progress(f"one message to {few:,} sockets in {first_s:.2f} s, {first_us:.1f} us a delivery")
    return stopped or "the number that was asked for", few, first_us


async def fill_cells(cells: Cells, pairs: Sequence[tuple[Role, RawClient]], share: int, deadline: float) -> str:
    """Fills these; returns what stopped it, or nothing."""
    for at in range(0, share, PART):
        begun = time.monotonic()
        count = min(PART, share - at)
        parts = await asyncio.gather(*(client.ask("open", count, [gateway.port]) for gateway, client in pairs))
        cells.opened_s += time.monotonic() - begun
        gib, per_s = used_kb() / 2**20, len(pairs) * count / (time.monotonic() - begun)
        progress(f"{cells.sockets:,} sockets, {per_s:,.0f} connects/s, {gib:.1f} GiB of the machine in use")
        errors = {part["stopped"] for part in parts if part["stopped"]}
        if errors:
            return " and ".join(f"{WHY.get(error, error)} ({error})" for error in sorted(errors))
        if gib > cells.place.memory_gib:
            return f"memory ({gib:.1f} of {cells.place.memory_gib:g} GiB; {kernel_kb() / 2**20:.1f} GiB of the kernel)"
        if time.monotonic() > deadline:
            return f"CPU ({per_s:,.0f} connects/s, the time was over; {gib:.1f} GiB in use)"
    return ""


async def _restart(cells: Cells, deadline: float) -> str:
    """Drains group after group, its sockets come back on the group before, and starts it again; returns a text."""
    full, size, done = list(cells.gateways), max(1, len(cells.gateways) // GROUPS), 0
    spare, worst, begun = [await cells.gateway() for _ in range(size)], 0.0, time.monotonic()
    for at in range(0, len(full), size):
        if time.monotonic() > deadline:
            progress("the time is over")
            break
        group = full[at : at + size]
        p95_s, back = await _moved(cells, group, [gateway.port for gateway in spare], replay=not done)
        worst, done = max(worst, p95_s), done + len(group)
        progress(f"{done} of {len(full)} gateways restarted, {back:,} sockets came back, {cells.sockets:,} follow")
        for gateway in group:
            await gateway.start().ready()
        spare = group
    took = time.monotonic() - begun
    return f"{done} of {len(full)} gateways restarted in {took:.0f} s, p95 of the way back at most {worst:.1f} s"


async def _moved(cells: Cells, group: Sequence[Role], ports: list[int], *, replay: bool) -> tuple[float, int]:
    """Drains gateways; their sockets come back on these ports as they are told to go.

    Returns the seconds from a loss to the way back, p95 of the slowest process, and how many came back. With `replay` a
    message is published while some are away. Raises AssertionError where not all came back.
    """
    before, worst, back = cells.sockets, 0.0, 0
    for gateway in group:
        gateway.sigterm()
    ended = asyncio.gather(*(gateway.ended(60) for gateway in group))
    while True:
        over = ended.done()
        if replay:
            await cells.place.message(TOPIC)
            replay = False
        parts = await cells.all("back", ports)
        worst, back = max(worst, *(part["p95_s"] for part in parts)), back + sum(part["back"] for part in parts)
        if over:
            break
        await asyncio.sleep(0.1)
    await ended
    assert cells.sockets == before, f"{cells.sockets:,} sockets of {before:,} after {back:,} came back: {parts}"
    return worst, back


def used_kb() -> int:
    """Returns the memory that this machine uses and cannot give away."""
    return _meminfo("MemTotal") - _meminfo("MemAvailable")


def kernel_kb() -> int:
    """Returns the kernel's slabs and what its TCP sockets have in buffers."""
    pages = Path("/proc/net/sockstat").read_text().partition("TCP:")[2].split("\n")[0].split()[-1]
    return _meminfo("Slab") + int(pages) * os.sysconf("SC_PAGE_SIZE") // 1_024


def _meminfo(name: str) -> int:
    return int(Path("/proc/meminfo").read_text().partition(f"{name}:")[2].split()[0])
