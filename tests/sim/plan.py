"""What happens in a run, as values drawn from the seed: sizes, and faults that can be taken out one by one."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headgate.core.sequencer.snapshot import CHUNK_BYTES
from headgate.core.sequencer.window import BLOCK_IDS
from tests.sim.loop import SimRng

WIDE: Final = 1_000_000  # seeds from here on: batches, foreign producers, retention, damage, clocks, full disks
HEAVY: Final = 2_000_000  # and from here on: batches of up to 1,000 into a small duplicate window
MONTH: Final = 3_000_000  # and from here on: 30 days of log time, slow traffic, a deploy every other day
MEMBERS: Final = 4_000_000  # and from here on: members come and go, permissions change, clients have no other rights
EDITS: Final = 5_000_000  # and from here on: messages are edited, redacted and reacted to, under the plain faults
ACKS: Final = (
    6_000_000  # and from here on: devices acknowledge, refuse, fall silent and take over, under the plain faults
)
MOST: Final = 3  # attempts of a delivery
RETRY: Final = {"kind": "fixed", "first_ms": 400, "max_ms": 400, "jitter": 0, "max_attempts": MOST}
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
    batch_share: float = 0.15
    batch: tuple[int, int] = (2, 5)
    full_batches: float = 0.0  # share of batches that are as large as can be
    unkeyed: float = 0.0  # share of a batch's items that have no client_msg_id
    repeats: float = 0.0  # share of batches that are sent again, whole or in part
    foreign: int = 0  # records of a foreign producer
    unkeyed_kept: int = 100_000  # `dedup_unkeyed_ids` of the config record
    chunk_bytes: int = CHUNK_BYTES  # small ones: many chunks a snapshot, and bases often
    block_ids: int = BLOCK_IDS  # small ones: ids leave the window although there are few
    permissions: str = "PUBLIC"  # of the topics
    batched: bool = False  # the topics' messages are delivered in batches
    door_changes: int = 0  # of members and permissions; with any, a client has only the rights of its role
    changes: int = 0  # edits, redactions and reactions of three users
    ackers: int = 0  # devices that acknowledge
    warm: bool = False  # index files outlive a crash
    wall_rate: float = 1.0  # seconds of wall time a second of the loop
    slice_sockets: int = 0  # sockets of a slice: all topics are swept in slices; 0: they are written at once
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_wide(self) -> bool:
        """Whether the run is one of those with batches, retention, damage and clocks."""
        return WIDE <= self.seed < MEMBERS


Kinds = dict[str, tuple[tuple[str, ...], int, float, float]]  # kind: (who, weight, shortest, longest)
_KINDS: Final[Kinds] = {
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

_ACK_KINDS: Final = {kind: how for kind, how in _KINDS.items() if kind not in ("delete", "forget", "client", "stall")}


# What only wide runs have; as above.
_WIDE_KINDS: Final[Kinds] = {
    "retain": ((), 6, 0.0, 0.0),
    "damage": ((), 3, 0.0, 0.0),
    "clock": (("broker",), 3, 0.5, 6.0),
    "full": (DISPATCHERS, 4, 1.0, 12.0),
    "wipe": (DISPATCHERS, 4, 0.5, 8.0),
}


def draw(seed: int, skip: frozenset[int] = frozenset()) -> Plan:
    """Returns the plan of a seed."""
    rng = SimRng(f"{seed}:plan")
    plan = Plan(seed, skip, slice_sockets=SimRng(f"{seed}:slices").choice((0, 1, 2, 3)))
    _draw_sizes(plan, rng)
    if seed >= ACKS:
        _acknowledge(plan, rng)
    elif seed >= EDITS:
        _edit(plan, rng)
    elif seed >= MEMBERS:
        _let_in_and_out(plan, rng)
    elif seed >= MONTH:
        _month(plan, rng)
    elif seed >= WIDE:
        _widen(plan, rng)
    elif rng.random() < 0.15:
        _take_over(plan, rng)
    else:
        _mix(plan, rng, _KINDS)
        _stir(plan, rng)
    plan.faults.sort()
    return plan


def batches(seed: int, skip: frozenset[int] = frozenset()) -> Plan:
    """Returns the plan of a seed with topics that are delivered in batches."""
    plan = draw(seed, skip)
    plan.batched = True
    return plan


def crowd(seed: int, skip: frozenset[int] = frozenset()) -> Plan:
    """Returns a plan in which many clients come and go over slow links just when a shard changes hands."""
    rng = SimRng(f"{seed}:crowd")
    plan = Plan(seed, skip, shards=1, topics=tuple(f"t{n}" for n in range(6)), clients=10, link_s=0.8, active_s=18.0)
    plan.snapshot_s, plan.snapshot_changes, plan.ring_frames = 30.0, 10_000, 4
    plan.faults = [Fault(3.0, "zombie", who, 12.0, 0.0) for who in plan.dispatchers[:2]]
    _churn(plan, rng, 2.0, 75)  # before the group's session is over
    _churn(plan, rng, 4.5, 75)
    plan.faults.sort()
    return plan


def _draw_sizes(plan: Plan, rng: SimRng) -> None:
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


def _mix(plan: Plan, rng: SimRng, kinds: Kinds) -> None:
    """Two to eight faults of any kind."""
    names = list(kinds)
    weights = [kinds[name][1] for name in names]
    for _ in range(rng.randint(2, 8)):
        kind = rng.choices(names, weights)[0]
        who, _, shortest, longest = kinds[kind]
        if kind == "delete":
            who = plan.topics
        elif kind in ("forget", "retain", "damage"):
            who = tuple(str(n) for n in range(plan.shards))
        elif kind in ("client", "stall"):
            who = tuple(f"c{n}" for n in range(plan.clients))
        else:
            who = tuple(name for name in who if name not in DISPATCHERS or name in plan.dispatchers)
        at = rng.uniform(1.0, plan.active_s)
        fault = Fault(at, kind, rng.choice(who), rng.uniform(shortest, longest), rng.random())
        plan.faults.append(fault)


def _let_in_and_out(plan: Plan, rng: SimRng) -> None:
    """Members, roles and permissions change all the time, under the faults of the plain family."""
    plan.permissions = rng.choice(("PRIVATE", "PUBLIC"))
    plan.door_changes = rng.choice((30, 80, 160))
    plan.publishes = rng.choice((60, 120, 240))
    plan.auto_create = False
    plan.snapshot_s, plan.chunk_bytes = rng.choice((0.3, 1.0, 4.0)), rng.choice((1_000, CHUNK_BYTES))
    _mix(plan, rng, _KINDS)
    _stir(plan, rng)


def _edit(plan: Plan, rng: SimRng) -> None:
    """Three users change messages all the time; owners die twice at least, with and without their index files."""
    plan.changes = rng.choice((120, 300, 999))
    plan.publishes = rng.choice((60, 120))
    plan.auto_create = False
    plan.active_s = 22.0
    plan.warm = rng.random() < 0.4
    plan.ring_frames = rng.choice((4, 1_000, 1_000))
    plan.queue_bytes = rng.choice((40_000, 1 << 20))
    plan.snapshot_s, plan.chunk_bytes = rng.choice((0.3, 1.0, 4.0)), rng.choice((1_000, CHUNK_BYTES))
    _mix(plan, rng, _KINDS)
    plan.faults += [Fault(rng.uniform(2.0, 20.0), "crash", who, 2.0, rng.random()) for who in plan.dispatchers[:2]]
    for n in range(4 * plan.clients):  # they miss messages and what is done to them
        who = f"c{n % plan.clients}"
        plan.faults.append(Fault(rng.uniform(2.0, 20.0), "client", who, rng.uniform(0.5, 3.0), rng.random()))


def _acknowledge(plan: Plan, rng: SimRng) -> None:
    """Devices acknowledge; every third run is without a fault but theirs."""
    plan.ackers = rng.choice((3, 4, 5))
    plan.pad = 0
    plan.clients = 1
    plan.publishes = rng.choice((60, 120))
    plan.auto_create = False
    plan.active_s = 22.0
    plan.snapshot_s = rng.choice((0.3, 1.0, 4.0))
    plan.link_s = rng.choice((0.004, 0.05, 0.2))
    plan.queue_bytes = max(plan.queue_bytes, 40_000)
    if plan.seed % 3:
        _mix(plan, rng, _ACK_KINDS)


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


def _widen(plan: Plan, rng: SimRng) -> None:
    """Batches, foreign producers, and the faults of logs, disks and clocks among the others."""
    plan.publishes = rng.choice((80, 200, 400))
    plan.batch, plan.batch_share = (1, rng.choice((5, 40, 120))), rng.choice((0.15, 0.4, 0.8))
    plan.unkeyed, plan.repeats = rng.choice((0.0, 0.2, 0.6)), rng.choice((0.0, 0.2, 0.4))
    plan.foreign = rng.choice((0, 6, 20))
    plan.warm = rng.random() < 0.4
    plan.snapshot_s = rng.choice((0.3, 1.0, 4.0, 8.0))
    plan.chunk_bytes = rng.choice((1_000, 20_000, CHUNK_BYTES))
    plan.block_ids = rng.choice((16, BLOCK_IDS))
    plan.pad = rng.choice((0, 0, 300))
    plan.queue_bytes = max(plan.queue_bytes, 40_000)  # a page must carry more than two of them
    if plan.seed < HEAVY and rng.random() < 0.1:
        _relink(plan, rng)
        return
    if plan.seed >= HEAVY:
        plan.publishes = 20_000
        plan.batch, plan.batch_share, plan.full_batches = (1, 1_000), 0.9, 0.5
        plan.unkeyed, plan.unkeyed_kept = rng.choice((0.8, 1.0)), 1_000
        plan.clients, plan.queue_bytes, plan.pad = 3, 1 << 20, 0
        plan.topics, plan.shards = plan.topics[:2], 1
        plan.link_s, plan.read_s = min(plan.link_s, 0.05), min(plan.read_s, 0.02)
        plan.faults += [Fault(rng.uniform(2.0, plan.active_s), "delete", t, 0.5, 0.0) for t in plan.topics[:1]]
        if plan.seed % 2:  # more than one chunk can hold
            plan.publishes, plan.unkeyed, plan.unkeyed_kept = 80_000, 0.3, 100_000
            plan.clients, plan.chunk_bytes, plan.block_ids = 2, CHUNK_BYTES, BLOCK_IDS
    _mix(plan, rng, _KINDS)
    _mix(plan, rng, _WIDE_KINDS)
    if any(fault.kind == "clock" for fault in plan.faults):
        plan.block_ids = BLOCK_IDS  # a day of log time passes in 24 records: ids would leave that are still repeated


def _relink(plan: Plan, rng: SimRng) -> None:
    """An owner is replaced while its links are cut; it does not know it, and links again while its successor is cut."""
    old, new = plan.dispatchers = DISPATCHERS[:2]
    plan.active_s = 16.0
    at = rng.uniform(1.0, 3.0)
    plan.faults = [
        Fault(at, "zombie", old, 14.0, 0.0),
        Fault(at + 4.0, "cut", old, 5.0, 0.99),
        Fault(at + 8.7, "cut", new, 2.0, 0.99),
    ]


def _month(plan: Plan, rng: SimRng) -> None:
    """30 days of log time in an hour: retention of 7 days, a deploy every other day, clients away for days."""
    plan.active_s, plan.wall_rate = 3_600.0, 720.0
    plan.shards, plan.dispatchers, plan.clients = 1, DISPATCHERS[:2], 4
    plan.publishes, plan.foreign = 1_500, 20  # several bases in the seven days that the log keeps
    plan.batch, plan.batch_share, plan.repeats, plan.unkeyed = (1, 20), 0.05, 0.1, 0.3
    plan.snapshot_s, plan.snapshot_changes, plan.pad, plan.chunk_bytes = 30.0, 10_000, 0, 400
    plan.block_ids, plan.unkeyed_kept = 16, 20
    plan.link_s, plan.read_s = 0.004, 0.0
    for n in range(1, 30):
        at = n * 120.0 + rng.uniform(0.0, 60.0)
        kind = rng.choice(("drain", "drain", "crash", "wipe", "delete"))
        who = rng.choice(plan.topics) if kind == "delete" else rng.choice(plan.dispatchers)
        plan.faults.append(Fault(at, kind, who, rng.uniform(1.0, 20.0), rng.random()))
        away = f"c{rng.randrange(plan.clients)}"
        plan.faults.append(
            Fault(at - 30.0, "client", away, min(rng.uniform(1.0, 600.0), 3_600.0 - at), rng.uniform(0.2, 1.0))
        )
    plan.faults += [Fault(60.0 * n, "expire", "0", 0.0, 0.0) for n in range(1, 60)]
    if plan.seed % 2:  # less can be asked of a shard with damaged snapshots
        plan.faults += [Fault(rng.uniform(200.0, 3_000.0), "damage", "0", 0.0, rng.random()) for _ in range(3)]
