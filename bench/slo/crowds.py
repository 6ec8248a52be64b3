"""The run `crowd`: very many sockets of one topic, churn beside messages, a gateway killed."""

import asyncio
import os
import time
from collections import Counter
from typing import Final

from bench.crowd import Crowd, Report, quantile_of
from bench.slo.place import Place, cpu_of, progress, resident_of
from bench.slo.rows import Found
from bench.stream_of_messages import Messages

SOCKETS: Final = 100_000
PER_PROCESS: Final = 14_000  # of 20,000 descriptors: beside its sockets a process has those of the churn
CHURN: Final = 10_000  # connects and as many disconnects a minute: 10 % of the sockets
MOST: Final = (25_000, 50_000, 75_000, 100_000)  # what is tried next, up to the figure for a million sockets
STEP_S: Final = 20
BESIDE: Final = 10  # small topics of ten sockets each
BESIDE_PER_S: Final = 50.0
SUBSCRIBE_MS, MESSAGE_MS = 100, 50


class Churned:
    """One step of the churn: what was offered, the milliseconds of subscribes, the latency of messages beside."""

    def __init__(self, per_minute: float, took: Counter[int], failed: list[str], beside: Report, cpu_s: float) -> None:
        self.per_minute = per_minute
        self.failed = failed
        self.count = took.total()
        self.subscribe_p95 = quantile_of(took, 0.95)
        self.subscribe_ms = f"p50 {quantile_of(took, 0.5)}, p99 {quantile_of(took, 0.99)}"
        self.message_p95 = beside.quantile(0.95)
        self.cpu_us = 1e6 * cpu_s / max(1, self.count)

    @property
    def good(self) -> bool:
        """Both limits hold, for at least one connect and one message, and nobody was not let in."""
        both = 0 <= self.subscribe_p95 < SUBSCRIBE_MS and 0 <= self.message_p95 < MESSAGE_MS
        return both and not self.failed

    def __str__(self) -> str:
        faults = f", {len(self.failed)} failed ({self.failed[0]})" if self.failed else ""
        return (
            f"{self.per_minute:,.0f} a minute: subscribe p95 {self.subscribe_p95} ms ({self.subscribe_ms}), messages "
            f"p95 {self.message_p95} ms, {self.cpu_us:.0f} us of all services for each{faults}"
        )


async def crowd(place: Place) -> list[Found]:
    """100,000 sockets of one topic: messages to all, churn in steps beside small topics, a gateway killed."""
    count, gateways = max(200, round(SOCKETS * place.scale)), place.gateways
    await place.topic("crowd")
    processes = max(2, -(-count // PER_PROCESS))
    async with Crowd(gateways, processes) as many, Crowd(gateways, 1, first=200) as small:
        each, socket_bytes, per_s = await _opened(place, many, count)
        async with Messages(place.admin, ["crowd"], 0.5) as messages:
            await asyncio.sleep(20)
        told = await many.report("crowd", await messages.last_seq("crowd"))
        progress(f"one message to all: {told}")
        steps = await _churned(place, many, small)
        back = await _killed(place, many, count)
    size = f"{count:,} sockets of one topic on {len(gateways)} gateway processes"
    held = [step.per_minute for step in steps if step.good]
    first, text = steps[0], "; ".join(map(str, steps))
    largest = max(steps, key=lambda step: step.count)
    return [
        Found("sockets", count, f"{size}; {each}; one message to all: {told}"),
        Found("sockets_each", count // len(gateways), f"a server is one gateway process; {each}"),
        Found("socket_bytes", round(socket_bytes), f"resident memory of the gateways, {size}"),
        Found("churn_p95", first.subscribe_p95, f"{size}; {first}"),
        Found("churn_message_p95", first.message_p95, f"{BESIDE} topics of ten sockets beside {size}; {first}"),
        Found("churn_highest", max(held, default=0.0), f"{size}; both below their limits; {text}"),
        Found("connect_us", round(largest.cpu_us), f"CPU of all services, a connect and a disconnect; {largest}"),
        Found("connects_per_s_many", round(per_s), f"{size} beside their clients on {os.cpu_count()} cores"),
        Found("back_p95", quantile_of(back, 0.95), f"{back.total():,} of {count:,} sockets, their gateway killed"),
    ]


async def _opened(place: Place, many: Crowd, count: int) -> tuple[str, float, float]:
    """Lets all follow; returns a text, the bytes of gateway memory of each, and connects a second."""
    opened, empty = 0.0, resident_of(place.deployment.gateways)
    for at in range(0, count, 10_000):
        opened += await many.open("crowd", [f"user-{n}" for n in range(at, min(at + 10_000, count))])
        progress(f"{min(at + 10_000, count):,} of {count:,} follow after {opened:.0f} s of connects")
    socket_bytes = 1_024 * (resident_of(place.deployment.gateways) - empty) / count
    each = f"{socket_bytes / 1_000:.1f} KB of gateway memory each, {count / opened:,.0f} connects/s"
    return each, socket_bytes, count / opened


async def _churned(place: Place, many: Crowd, small: Crowd) -> list[Churned]:
    """Churns in steps, up to the first that is not good."""
    topics = await place.topics("beside", BESIDE)
    for topic in topics:
        await small.open(topic, [f"{topic}-{n}" for n in range(10)])
    base, steps = await _base(place, topics), list[Churned]()
    for per_minute, seconds in [(CHURN * place.scale, 60), *((rate * place.scale, STEP_S) for rate in MOST)]:
        users = [f"new-{len(steps)}-{n}" for n in range(max(20, round(per_minute * seconds / 60)))]
        before, begun = cpu_of(place.deployment.roles), time.monotonic()
        async with Messages(place.admin, topics, BESIDE_PER_S) as messages:
            took, failed = await many.churn("crowd", users, per_minute / 60)
        cpu_s = cpu_of(place.deployment.roles) - before - base * (time.monotonic() - begun)
        beside = Report([])
        for topic in topics:
            beside += await small.report(topic, await messages.last_seq(topic))
        steps.append(Churned(per_minute, took, failed, beside, cpu_s))
        await many.report("crowd", await place.message("crowd"))
        progress(f"{steps[-1]}; then one message reached every socket")
        if not steps[-1].good:
            break
    return steps


async def _base(place: Place, topics: list[str]) -> float:
    """Returns how many cores the services use for all but the churn."""
    before, begun = cpu_of(place.deployment.roles), time.monotonic()
    async with Messages(place.admin, topics, BESIDE_PER_S):
        await asyncio.sleep(STEP_S)
    return (cpu_of(place.deployment.roles) - before) / (time.monotonic() - begun)


async def _killed(place: Place, many: Crowd, count: int) -> Counter[int]:
    """Kills a gateway; returns the milliseconds until each of its sockets follows again, elsewhere."""
    place.deployment.gateways[0].kill9()
    back = await many.come_back("crowd", place.gateways[1:], 2.8)
    await many.report("crowd", await place.message("crowd"))
    wanted = count // len(place.gateways)
    assert back.total() > wanted / 2, f"{back.total()} sockets came back, about {wanted} were lost"
    return back
