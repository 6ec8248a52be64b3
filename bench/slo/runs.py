"""The runs by name: what measures, how many minutes it takes, and the processes that it needs."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from bench.slo.crowds import crowd
from bench.slo.kills import kills
from bench.slo.many_topics import topics
from bench.slo.million import million
from bench.slo.peak import peak
from bench.slo.place import Place, Shape
from bench.slo.rows import Found
from bench.slo.sizes import sizes
from bench.slo.small_runs import connect, create, history, latency, subscribe
from bench.slo.writes import writes

PER_GATEWAY: Final = 15_000  # of 20,000 descriptors, also when one gateway is killed and the others take its sockets


class Run(NamedTuple):
    """A run, how many minutes it takes at scale 1 at most, and the processes that it needs."""

    measure: Callable[[Place], Awaitable[list[Found]]]
    minutes: float
    shape: Callable[[float], Shape] = lambda _: Shape()

    @property
    def what(self) -> str:
        """What it does, by its docstring."""
        return " ".join((inspect.getdoc(self.measure) or "").split())


def for_crowd(scale: float) -> Shape:
    """Returns the gateways of a crowd: without one of them the others have descriptors enough."""
    return Shape(gateways=1 + max(1, -(-round(100_000 * scale) // PER_GATEWAY)))


RUNS: Final[dict[str, Run]] = {
    "latency": Run(latency, 2),
    "create": Run(create, 1.5),
    "subscribe": Run(subscribe, 1.5),
    "connect": Run(connect, 2.5),
    "history": Run(history, 2),
    "writes": Run(writes, 12),
    "kills": Run(kills, 4, lambda _: Shape(ingests=2, dispatchers=2, gateways=2)),
    "topics": Run(topics, 10, lambda _: Shape(dispatchers=2)),
    "sizes": Run(sizes, 4),
    "peak": Run(peak, 11),
    "crowd": Run(crowd, 10, for_crowd),
    "million": Run(million, 15, lambda _: Shape(gateways=1, settings={"heartbeat.interval": 120})),
}
