"""The steps of a run: start, subscribe, publish, kill, add, restart, idle; what each took and what was sent in it."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from bench.fleet.fleet import Fleet

IDLE_S: Final = 5.0
SPREAD_S: Final = 1.0
ROUNDS: Final = 4  # in which gateways restart: the next ones once those before are ready


class Plan(NamedTuple):
    """What happens in the run."""

    killed: int
    added: int
    restarted: int
    rate: float = 200.0  # publishes a second during the faults


class Step(NamedTuple):
    """What one step took and what the nodes sent in it."""

    name: str
    virtual_s: float
    cpu_s: float
    messages: int
    bytes: int
    copies: int
    kinds: dict[str, int]
    most_sent: dict[str, int]  # by role: of the node that sent most
    most_received: dict[str, int]
    most_cpu_s: dict[str, float]  # by role: handling what came over links
    links: dict[str, int]  # by role: of the node that has most
    delivered: int
    events: dict[str, int]


class Run:
    """Runs the steps of one plan on a fleet. `steps` grow as they end."""

    def __init__(self, fleet: Fleet, plan: Plan, on_step: Callable[[Step], None] = lambda _: None) -> None:
        self.fleet = fleet
        self.plan = plan
        self.steps: list[Step] = []
        self._on_step = on_step

    async def play(self) -> None:
        """Plays all steps. Raises Late."""
        fleet, plan = self.fleet, self.plan
        await self._begin()
        async with self._step("publish one message to each topic"):
            expected = fleet.copies_of_one_each()
            await fleet.publish_to_all()
            await fleet.until("all have it", fleet.is_caught_up)
        if self.steps[-1].copies != expected:
            fleet.fault(f"{self.steps[-1].copies} copies went to gateways, {expected} were due")
        async with self._step(f"idle for {IDLE_S:g} s"):
            await _pass(fleet, IDLE_S)
        fleet.keep_publishing(plan.rate)
        async with self._step(f"kill {plan.killed} dispatchers"):
            await fleet.kill_dispatchers(plan.killed)
            await fleet.until("the owners of their shards are linked", fleet.is_routed)
        async with self._step(f"add {plan.added} dispatchers"):
            await fleet.add_dispatchers(plan.added)
            await fleet.until("they own shards and are linked", lambda: fleet.is_spread() and fleet.is_routed())
        at_once = -(-plan.restarted // ROUNDS)
        async with self._step(f"restart {plan.restarted} gateways, {at_once} at a time"):
            await fleet.restart_gateways(plan.restarted, at_once, SPREAD_S)
            await fleet.until("their clients are back", lambda: fleet.is_routed() and fleet.is_subscribed())
        await fleet.stop_publishing()
        async with self._step("until every reader has every message"):
            await fleet.until("every reader has every message", fleet.is_caught_up)
            await fleet.wrong_users()

    async def _begin(self) -> None:
        fleet, size = self.fleet, self.fleet.size
        async with self._step(f"start {size.dispatchers} dispatchers, {size.shards} shards"):
            await fleet.write_logic()
            await fleet.add_dispatchers(size.dispatchers)
            await fleet.until("every shard has an owner", fleet.is_spread)
        async with self._step(f"start and link {size.gateways} gateways"):
            await fleet.add_ingests()
            fleet.add_gateways()
            await fleet.until("all is routed", fleet.is_routed)
        async with self._step(f"create {size.topics} topics"):
            await fleet.create_topics()
        async with self._step(f"connect {size.readers} readers"):
            fleet.add_readers()
            await fleet.until("all are subscribed", fleet.is_subscribed)
            await fleet.wrong_users()

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        fleet = self.fleet
        for traffic in fleet.traffic():
            traffic.clear()
        events, delivered = fleet.events.copy(), fleet.delivered
        began, cpu = fleet.loop.now(), time.process_time()
        yield
        nodes = fleet.traffic()
        kinds: Counter[str] = Counter()
        for node in nodes:
            kinds.update({f"{node.role} {kind}": count for kind, count in node.kinds.items()})
        roles = sorted({node.role for node in nodes})
        step = Step(
            name,
            fleet.loop.now() - began,
            time.process_time() - cpu,
            sum(node.sent for node in nodes),
            sum(node.sent_bytes for node in nodes),
            sum(node.copies for node in nodes),
            dict(kinds.most_common()),
            {role: max(node.sent for node in nodes if node.role == role) for role in roles},
            {role: max(node.received for node in nodes if node.role == role) for role in roles},
            {role: max(node.cpu_s for node in nodes if node.role == role) for role in roles},
            {role: max(node.links for node in nodes if node.role == role) for role in roles},
            fleet.delivered - delivered,
            dict(fleet.events - events),
        )
        self.steps.append(step)
        self._on_step(step)


async def _pass(fleet: Fleet, seconds: float) -> None:
    end = fleet.loop.now() + seconds
    await fleet.until("time has passed", lambda: fleet.loop.now() >= end)
