"""What happens in a run, as values drawn from the seed: sizes, and faults that can be taken out one by one."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.sim.loop import SimRng

DISPATCHERS: Final = ("d1", "d2", "d3")
GATEWAYS: Final = ("g1", "g2")
INGESTS: Final = ("i1", "i2")


class Fault(NamedTuple):
    """`kind` happens to `who` at second `at` of the run, for `length` seconds; `extra` in [0, 1) decides the rest."""

    at: float
    kind: str
    who: str
    length: float
    extra: float

    def __str__(self) -> str:
        return f"{self.at:5.2f} {self.kind} {self.who} {self.length:.1f} s ({self.extra:.2f})"


@dataclass
class Plan:
    """One run. `skip` are the numbers of faults that are left out (for the smallest witness)."""

    seed: int
    skip: frozenset[int] = frozenset()
    shards: int = 2
    dispatchers: tuple[str, ...] = DISPATCHERS
    topics: tuple[str, ...] = ()
    clients: int = 4
    publishes: int = 40
    active_s: float = 20.0
    auto_create: bool = False
    snapshot_s: float = 2.0
    snapshot_changes: int = 20
    ring_frames: int = 8
    queue_bytes: int = 1 << 20
    pad: int = 0
    link_s: float = 0.004
    read_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)


# kind: (who, weight, shortest, longest)
_KINDS: Final[dict[str, tuple[tuple[str, ...], int, float, float]]] = {
    "crash": (DISPATCHERS, 5, 0.5, 12.0),
    "drain": (DISPATCHERS, 2, 0.5, 6.0),
    "zombie": (DISPATCHERS, 5, 6.5, 14.0),
    "pause": (DISPATCHERS, 3, 1.0, 14.0),
    "cut": (DISPATCHERS, 4, 0.1, 6.0),
    "hole": (DISPATCHERS, 3, 1.0, 8.0),
    "gateway": (GATEWAYS, 3, 0.2, 4.0),
    "ingest": (INGESTS, 4, 0.2, 4.0),
    "refused": (DISPATCHERS + INGESTS, 3, 0.5, 8.0),
    "silent": (DISPATCHERS + INGESTS, 3, 0.5, 9.0),
    "slow": (INGESTS, 4, 1.0, 6.0),
    "delete": ((), 3, 0.1, 4.0),
    "forget": ((), 2, 0.0, 0.0),
    "client": ((), 5, 0.05, 3.0),
    "stall": ((), 3, 1.0, 6.0),
}


def draw(seed: int, skip: frozenset[int] = frozenset()) -> Plan:
    """Returns the plan of a seed."""
    rng = SimRng(f"{seed}:plan")
    plan = Plan(seed, skip)
    plan.shards = rng.choice((1, 2, 2, 3))
    plan.dispatchers = DISPATCHERS[: rng.choice((2, 3))]
    plan.topics = tuple(f"t{n}" for n in range(rng.choice((2, 3, 4))))
    plan.clients = rng.choice((3, 4, 5))
    plan.publishes = rng.choice((25, 40, 60))
    plan.active_s = rng.choice((10.0, 16.0, 22.0))
    plan.auto_create = rng.random() < 0.25
    plan.snapshot_s = rng.choice((0.3, 1.0, 4.0, 30.0))
    plan.snapshot_changes = rng.choice((3, 15, 10_000))
    plan.ring_frames = rng.choice((1, 4, 1_000))
    plan.queue_bytes = rng.choice((4_000, 40_000, 1 << 20))
    plan.link_s = rng.choice((0.004, 0.004, 0.05, 0.8))
    plan.read_s = rng.choice((0.0, 0.0, 0.02, 0.5))
    plan.pad = rng.choice((0, 0, 4_000))
    if rng.random() < 0.15:
        _take_over(plan, rng)
    else:
        _mix(plan, rng)
        _stir(plan, rng)
    plan.faults.sort()
    return plan


def _mix(plan: Plan, rng: SimRng) -> None:
    """Two to eight faults of any kind."""
    names = list(_KINDS)
    weights = [_KINDS[name][1] for name in names]
    for _ in range(rng.randint(2, 8)):
        kind = rng.choices(names, weights)[0]
        who, _, shortest, longest = _KINDS[kind]
        if kind == "delete":
            who = plan.topics
        elif kind == "forget":
            who = tuple(str(n) for n in range(plan.shards))
        elif kind in ("client", "stall"):
            who = tuple(f"c{n}" for n in range(plan.clients))
        else:
            who = tuple(name for name in who if name not in DISPATCHERS or name in plan.dispatchers)
        at = rng.uniform(1.0, plan.active_s)
        fault = Fault(at, kind, rng.choice(who), rng.uniform(shortest, longest), rng.random())
        plan.faults.append(fault)


def _stir(plan: Plan, rng: SimRng) -> None:
    """Clients come and go just when a shard changes hands: about a group's session after its owner fell silent."""
    for fault in [f for f in plan.faults if f.kind in ("zombie", "crash")]:
        _churn(plan, rng, fault.at, rng.choice((0, 0, 2, 4)))


def _take_over(plan: Plan, rng: SimRng) -> None:
    """Slow links, owners that serve on while others take over, and questions under way to the old ones meanwhile."""
    plan.link_s, plan.read_s = 0.8, 0.0
    plan.active_s = max(plan.active_s, 16.0)
    at = rng.uniform(2.0, 5.0)
    for who in rng.sample(plan.dispatchers, len(plan.dispatchers) - 1):
        plan.faults.append(Fault(at, "zombie", who, 12.0, rng.random()))
    _churn(plan, rng, at, 10)


def _churn(plan: Plan, rng: SimRng, since: float, count: int) -> None:
    for _ in range(count):
        who = f"c{rng.randrange(plan.clients)}"
        at = min(since + rng.uniform(5.0, 7.5), plan.active_s)
        plan.faults.append(Fault(at, "client", who, rng.uniform(0.02, 0.3), rng.uniform(0.2, 1.0)))
