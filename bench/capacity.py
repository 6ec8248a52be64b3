"""What an installation of a given size needs, as arithmetic. `python -m bench.capacity [--connections N --rate R ...]`

Prints the tables of docs/system-design.md and docs/how-to/sizing.md, or with `--connections` the sizing of your
case. Three kinds of numbers go in (bench/figures.py): sizes encoded with the code of the services, figures that another
bench measured (docs/project/performance.md, docs/bounds.md), and assumptions about the users. It measures no time.
"""

import argparse
from collections.abc import Callable
from typing import Final, NamedTuple

from bench import sizing
from bench.figures import (
    BUSY,
    CONNECT_US,
    CONNECTION,
    DAY_S,
    FIGURES,
    INDEX_BYTES,
    INDEX_FACTOR,
    KEPT_DAYS,
    NUMBER_US,
    OBJECT_BYTES,
    PEAK,
    PER_PROCESS,
    PRESENT,
    PUBLISH_US,
    REPLICAS,
    WRITE_US,
    Figure,
    Sizes,
    gb,
    mbit,
    sizes,
    state_bytes,
)


class Plan(NamedTuple):
    """Assumptions: users, those of a day, connected at a time, and shards of the log."""

    name: str
    users: int
    daily: int
    connected: int
    shards: int
    a_day: int = 50  # messages of a daily user
    memberships: int = 10  # of a user; with as many topics as users, 10 members a topic

    @property
    def average(self) -> float:
        """Messages a second over a day."""
        return self.daily * self.a_day / DAY_S

    @property
    def peak(self) -> float:
        """Messages a second in the worst hour."""
        return self.average * PEAK


PLANS: Final = (
    Plan("1 M users, all connected", 1_000_000, 1_000_000, 1_000_000, 64),
    Plan("S4: 10 M users, 100 k connected", 10_000_000, 1_000_000, 100_000, 128),
    Plan("100 M users, 10 M connected", 100_000_000, 10_000_000, 10_000_000, 1_024),
)


def capacity_tables() -> str:
    """Returns the tables in Markdown."""
    size = sizes()
    inputs = [f"| {figure.value:,g} | {figure.what} | `{figure.command}` |" for figure in FIGURES]
    inputs += [
        f"| {size.record:,} | bytes of a 1,024-byte payload as a record's value | `python -m bench.capacity` |",
        f"| {size.frame:,} | bytes of it on a WebSocket; on SSE {size.sse:,} | `python -m bench.capacity` |",
        f"| {size.head} | bytes of a head in a pointer bundle | `python -m bench.capacity` |",
    ]
    rows = [[name, *(value(plan, size) for plan in PLANS)] for name, value in _ROWS]
    return "\n".join([
        "Inputs:\n", "| figure | what | from |", "|---|---|---|", *inputs, "",
        "Results:\n", "| | " + " | ".join(plan.name for plan in PLANS) + " |", "|---" * (len(PLANS) + 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows), "",
    ])  # fmt: skip


def _memory(plan: Plan) -> float:
    return state_bytes(plan.users, plan.users * plan.memberships)


def _cores(per_s: float, each: Figure) -> str:
    cores = per_s * each.value / 1e6
    return f"{cores:.2f}; planned with half of a core: {max(2, round(cores / BUSY + 0.5))}"


_ROWS: Final[tuple[tuple[str, Callable[[Plan, Sizes], str]], ...]] = (
    ("messages a day", lambda p, s: f"{p.daily * p.a_day:,}"),
    ("messages a second, average", lambda p, s: f"{p.average:,.0f}"),
    (f"messages a second, peak ({PEAK} times)", lambda p, s: f"{p.peak:,.0f}"),
    ("deliveries a second, peak (all 10 members connected)", lambda p, s: f"{p.peak * p.memberships:,.0f}"),
    ("ingest: cores at the peak", lambda p, s: _cores(p.peak, PUBLISH_US)),
    ("dispatcher: cores at the peak", lambda p, s: _cores(p.peak, NUMBER_US)),
    ("gateway: cores at the peak", lambda p, s: _cores(p.peak * p.memberships, WRITE_US)),
    ("gateway processes for the connections", lambda p, s: f"{-(-p.connected // PER_PROCESS):,}"),
    ("memory of the connections", lambda p, s: gb(p.connected * CONNECTION.value)),
    ("a tenth of them reconnects in a minute: gateway cores",
     lambda p, s: f"{p.connected / 600 * CONNECT_US.value / 1e6:.2f}"),
    ("dispatchers: memory of topics, members, inbox, cursors, marks", lambda p, s: gb(_memory(p))),
    ("of that a shard", lambda p, s: f"{gb(_memory(p) / p.shards)} in {p.shards:,} shards"),
    ("cursors a shard (bound: 1,000,000)", lambda p, s: f"{p.users * p.memberships // p.shards:,}"),
    ("presence, where every connected user is in one list", lambda p, s: gb(p.connected * PRESENT.value)),
    ("payloads a day", lambda p, s: gb(p.daily * p.a_day * OBJECT_BYTES)),
    ("messages log a day, one copy", lambda p, s: gb(p.daily * p.a_day * s.record)),
    (f"messages log, {KEPT_DAYS} days, {REPLICAS} replicas",
     lambda p, s: gb(p.daily * p.a_day * s.record * KEPT_DAYS * REPLICAS)),
    ("the same kept for a year", lambda p, s: gb(p.daily * p.a_day * s.record * 365 * REPLICAS)),
    ("history index files, 7 days (1.5 times the frames; bound: 6 GiB a shard)",
     lambda p, s: gb(min(p.daily * p.a_day * s.frame * KEPT_DAYS * INDEX_FACTOR, p.shards * INDEX_BYTES))),
    ("inbox log at the peak, at most (10 heads a message)", lambda p, s: mbit(p.peak * p.memberships * s.head)),
    ("network into the ingests, peak", lambda p, s: mbit(p.peak * s.record)),
    ("network out of the gateways, peak", lambda p, s: mbit(p.peak * p.memberships * s.frame)),
)  # fmt: skip


def main() -> None:
    """Prints the tables of the documentation, or the sizing of what is given."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    sizing.add_arguments(parser)
    given = parser.parse_args()
    if given.connections is None:
        print(capacity_tables())
        print(sizing.sizing_table())
    else:
        print(sizing.own_table(given))


if __name__ == "__main__":
    main()
