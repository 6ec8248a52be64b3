"""How many processes, cores, bytes and brokers a number of connections needs, each sum with its inputs.

The tables of docs/how-to/sizing.md, and with arguments of `python -m bench.capacity` those of another case.
"""

import argparse
from collections.abc import Callable
from math import ceil, log2
from typing import Final, NamedTuple

from bench.figures import (
    BUSY,
    CONNECT_US,
    CONNECTION,
    COPY_US,
    CURSOR,
    DAY_S,
    DISPATCHER,
    GATEWAY,
    HEAD,
    INDEX_BYTES,
    INDEX_FACTOR,
    INGEST,
    KAFKA_BYTES,
    KEPT_DAYS,
    LINK,
    LINK_US,
    MARK,
    MEMBER,
    MEMBERSHIP,
    MORE_US,
    NUMBER_US,
    OBJECT_BYTES,
    PEAK,
    PER_PROCESS,
    PUBLISH_US,
    REPLICAS,
    TOPIC,
    WRITE_US,
    Sizes,
    gb,
    mbit,
    sizes,
    state_bytes,
)

GIB: Final = 2**30
LEAST: Final = 2  # processes of a role, so that one may die
LEAST_BROKERS: Final = 3
LEAST_SHARDS: Final = 64  # the default of `headgate init`
CURSORS: Final = 1_000_000  # of a shard: the bound
LOGS: Final = 5  # with a partition for each shard; the sixth, of revocations, has one
ON_A_BROKER: Final = 4_000  # replicas of partitions: advice of Kafka's makers, not measured here
LEAST_CPU: Final = 0.05  # of a core, that is left for messages where links take nearly all
BACK_S: Final = 60  # in which a tenth of the connections comes back at once
MONTH_S: Final = 30 * DAY_S
BROKER_CORES: Final = 4  # with BROKER_GIB a usual size of a broker, not measured here
BROKER_GIB: Final = 16


class Prices(NamedTuple):
    """What a month costs, in any currency. Ours are round figures to begin with, not those of a provider."""

    core: float = 20.0
    gib: float = 3.0  # of memory
    disk_gb: float = 0.1
    out_gb: float = 0.05  # that leaves the gateways, once


class Cost(NamedTuple):
    """What the parts of an installation cost a month."""

    machines: float
    disks: float
    traffic: float


class Case(NamedTuple):
    """What an operator knows or assumes. A user has `memberships`; each topic as many members as they make."""

    connections: int
    rate: float  # messages a second at the peak
    receivers: float  # connected ones of a message
    users: int
    topics: int
    memberships: float
    payload: int
    days: float
    shards: int  # 0: as many as the sums say
    sockets: int  # of a gateway process
    memory_gib: float  # of a dispatcher process
    prices: Prices = Prices()

    @property
    def state(self) -> float:
        """Bytes of all topics, memberships, heads, cursors and marks."""
        return state_bytes(self.topics, self.users * self.memberships)

    @property
    def chosen_shards(self) -> int:
        """Shards: given, or the next power of two for the bound of cursors."""
        cursors = ceil(self.users * self.memberships / CURSORS)
        return self.shards or 2 ** ceil(log2(max(LEAST_SHARDS, cursors)))

    @property
    def ingest_cpu(self) -> float:
        """Cores that are busy."""
        return self.rate * PUBLISH_US.value / 1e6

    @property
    def ingests(self) -> int:
        """Processes."""
        return max(LEAST, ceil(self.ingest_cpu / BUSY))

    @property
    def copies(self) -> float:
        """Copies of a message to gateways: its receivers are on different ones, at worst."""
        return min(self.receivers, max(LEAST, ceil(self.connections / self.sockets)))

    @property
    def message_cpu(self) -> float:
        """Cores of all dispatchers: they number messages, send copies, and take a report a second for each shard."""
        reports = self.chosen_shards * self.gateways * MORE_US.value
        return (self.rate * (NUMBER_US.value + self.copies * COPY_US.value) + reports) / 1e6

    @property
    def links_cpu(self) -> float:
        """Cores of each dispatcher, however many there are: pings, and a batch of reports a second from each link."""
        return (self.gateways + self.ingests) * (LINK_US.value + COPY_US.value) / 1e6

    @property
    def dispatchers(self) -> int:
        """Processes: for the memory or for the CPU, whichever is more."""
        room = self.memory_gib * GIB - DISPATCHER.value - (self.gateways + self.ingests) * LINK.value
        left = max(BUSY - self.links_cpu, LEAST_CPU)
        return max(LEAST, ceil(self.state / room), ceil(self.message_cpu / left))

    @property
    def deliveries(self) -> float:
        """Deliveries a second at the peak."""
        return self.rate * self.receivers

    @property
    def gateway_cpu(self) -> float:
        """Cores that are busy at the peak, while a tenth of the clients comes back within a minute."""
        back, copies = self.connections / 10 / BACK_S, self.rate * self.copies
        return (self.deliveries * WRITE_US.value + copies * COPY_US.value + back * CONNECT_US.value) / 1e6

    @property
    def gateways(self) -> int:
        """Processes: for the connections or for the CPU, whichever is more."""
        return max(LEAST, ceil(self.connections / self.sockets), ceil(self.gateway_cpu / BUSY))

    @property
    def gateway_bytes(self) -> float:
        """Bytes of a gateway process."""
        return GATEWAY.value + self.connections / self.gateways * CONNECTION.value + self.dispatchers * LINK.value

    @property
    def dispatcher_bytes(self) -> float:
        """Bytes of a dispatcher process."""
        return DISPATCHER.value + self.state / self.dispatchers + (self.gateways + self.ingests) * LINK.value

    @property
    def links(self) -> int:
        """Links between gateways or ingests and dispatchers."""
        return (self.gateways + self.ingests) * self.dispatchers

    @property
    def partitions(self) -> int:
        """Partitions of all logs, replicas not counted."""
        return LOGS * self.chosen_shards + 1

    def written(self, size: Sizes) -> float:
        """Bytes a second into Kafka at the peak, one copy: messages, and at most one head for each member."""
        members = self.users * self.memberships / max(self.topics, 1)
        return self.rate * (size.record + members * size.head)

    def brokers(self, size: Sizes) -> int:
        """Brokers: for the bytes or for the partitions, whichever is more."""
        of_bytes = self.written(size) * REPLICAS / (KAFKA_BYTES.value * BUSY)
        return max(LEAST_BROKERS, ceil(of_bytes), ceil(self.partitions * REPLICAS / ON_A_BROKER))

    def log_bytes(self, size: Sizes) -> float:
        """Bytes of the messages log, all replicas."""
        return self.rate / PEAK * DAY_S * self.days * size.record * REPLICAS

    def index_bytes(self, size: Sizes) -> float:
        """Bytes of all index files."""
        kept = self.rate / PEAK * DAY_S * self.days * size.frame * INDEX_FACTOR
        return min(kept, self.chosen_shards * INDEX_BYTES)

    @property
    def cores(self) -> int:
        """Cores of our processes: a process uses one at most."""
        return self.ingests + self.dispatchers + self.gateways

    @property
    def memory(self) -> float:
        """Bytes of our processes."""
        of_gateways = self.gateways * self.gateway_bytes
        return self.ingests * INGEST.value + self.dispatchers * self.dispatcher_bytes + of_gateways

    def month(self, size: Sizes) -> Cost:
        """What a month costs: our processes and the brokers, the disks, and what leaves the gateways."""
        price, brokers = self.prices, self.brokers(size)
        cores = self.cores + brokers * BROKER_CORES
        gib = self.memory / GIB + brokers * BROKER_GIB
        return Cost(
            cores * price.core + gib * price.gib,
            (self.log_bytes(size) + self.index_bytes(size)) / 1e9 * price.disk_gb,
            self.deliveries / PEAK * size.frame * MONTH_S / 1e9 * price.out_gb,
        )


def case_of(connections: int) -> Case:
    """Returns the assumed case for so many connections."""
    users = 10 * connections
    return Case(connections, connections / 100, 10, users, users, 10, OBJECT_BYTES, KEPT_DAYS, 0, PER_PROCESS, 16)


CASES: Final = tuple(case_of(connections) for connections in (100_000, 1_000_000, 10_000_000))


def sizing_table(cases: tuple[Case, ...] = CASES) -> str:
    """Returns the table in Markdown: a column for each case, and how each row was computed."""
    heads = [f"{case.connections:,} connections" for case in cases]
    measured = [sizes(case.payload) for case in cases]
    lines = [
        "| " + " | ".join([what, *(value(c, s) for c, s in zip(cases, measured, strict=True)), how]) + " |"
        for what, value, how in _ROWS
    ]
    return "\n".join([
        "| | " + " | ".join(heads) + " | the sum |", "|---" * (len(cases) + 2) + "|", *lines, "",
    ])  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the inputs of one's own case."""
    parser.add_argument("--connections", type=int, help="connected clients at the peak")
    parser.add_argument("--rate", type=float, help="messages a second at the peak; default: connections / 100")
    parser.add_argument("--receivers", type=float, default=10, help="connected receivers of a message")
    parser.add_argument("--users", type=int, help="default: 10 for each connection")
    parser.add_argument("--topics", type=int, help="default: as many as users")
    parser.add_argument("--memberships", type=float, default=10, help="topics of a user")
    parser.add_argument("--payload", type=int, default=OBJECT_BYTES, help="bytes")
    parser.add_argument("--days", type=float, default=KEPT_DAYS, help="how long messages are kept")
    parser.add_argument("--shards", type=int, default=0, help="default: as many as the sums say")
    parser.add_argument("--sockets", type=int, default=PER_PROCESS, help="connections of a gateway process")
    parser.add_argument("--dispatcher-gib", type=float, default=16, help="memory of a dispatcher process")
    ours = Prices()
    parser.add_argument("--price-core", type=float, default=ours.core, help="a month of a core")
    parser.add_argument("--price-gib", type=float, default=ours.gib, help="a month of a GiB of memory")
    parser.add_argument("--price-disk-gb", type=float, default=ours.disk_gb, help="a month of a GB of disk")
    parser.add_argument("--price-out-gb", type=float, default=ours.out_gb, help="a GB that leaves the gateways")


def own_table(given: argparse.Namespace) -> str:
    """Returns the table of the case that the arguments tell."""
    usual = case_of(given.connections)
    users = usual.users if given.users is None else given.users
    case = Case(
        given.connections,
        usual.rate if given.rate is None else given.rate,
        given.receivers,
        users,
        users if given.topics is None else given.topics,
        given.memberships,
        given.payload,
        given.days,
        given.shards,
        given.sockets,
        given.dispatcher_gib,
        Prices(given.price_core, given.price_gib, given.price_disk_gb, given.price_out_gb),
    )
    notes = "".join(f"\n{note}\n" for note in _notes(case))
    return sizing_table((case,)) + notes


def _notes(case: Case) -> list[str]:
    notes = []
    cursors = ceil(case.users * case.memberships / case.chosen_shards)
    if cursors > CURSORS:
        notes.append(f"BOUND: {cursors:,} cursors a shard, at most {CURSORS:,}: take more shards.")
    if case.dispatchers > case.chosen_shards:
        notes.append(f"BOUND: {case.dispatchers:,} dispatchers for {case.chosen_shards} shards: take more shards.")
    if case.links_cpu > BUSY - LEAST_CPU:
        notes.append("BOUND: the links alone take half a core of each dispatcher: take more --sockets a gateway.")
    return notes


def _gib(amount: float) -> str:
    return f"{amount / GIB:,.1f} GiB" if amount >= GIB / 10 else f"{amount / GIB:,.2f} GiB"


def _us(seconds: float) -> str:
    return f"{seconds:,.2f}"


_OURS: Final = Prices()
_ROWS: Final[tuple[tuple[str, Callable[[Case, Sizes], str], str], ...]] = (
    ("messages a second, peak", lambda c, s: f"{c.rate:,.0f}", "`--rate`; assumed: one for 100 connections"),
    ("connected receivers of a message", lambda c, s: f"{c.receivers:g}", "`--receivers`; assumed"),
    ("users", lambda c, s: f"{c.users:,}", "`--users`; assumed: 10 for each connection"),
    ("topics", lambda c, s: f"{c.topics:,}", "`--topics`; assumed: as many as users"),
    ("memberships of a user", lambda c, s: f"{c.memberships:g}", "`--memberships`; assumed"),
    ("bytes of a payload; days kept", lambda c, s: f"{c.payload:,}; {c.days:g}", "`--payload`, `--days`"),
    ("deliveries a second, peak", lambda c, s: f"{c.deliveries:,.0f}", "messages x receivers"),
    ("**gateways**: processes", lambda c, s: f"**{c.gateways:,}**",
     f"the larger of connections / {PER_PROCESS:,} (`--sockets`) and cores / {BUSY:g}; at least {LEAST}"),
    ("cores that they use", lambda c, s: _us(c.gateway_cpu),
     f"deliveries x {WRITE_US.value:g} us + messages x copies x {COPY_US.value:g} us + "
     f"connections / 10 / {BACK_S} s x {CONNECT_US.value:g} us"),
    ("memory of one", lambda c, s: _gib(c.gateway_bytes),
     f"{GATEWAY.value / 1e6:.0f} MB + its connections x {CONNECTION.value:,g} B + dispatchers x {LINK.value:,g} B"),
    ("**dispatchers**: processes", lambda c, s: f"**{c.dispatchers:,}**",
     f"the larger of state / memory of one (`--dispatcher-gib`, 16) and cores / ({BUSY:g} - its links); "
     f"at least {LEAST}"),
    ("state: topics, members, inbox, cursors, marks", lambda c, s: gb(c.state),
     f"topics x {TOPIC.value:g} B + users x memberships x "
     f"({MEMBER.value:g} + {MEMBERSHIP.value:g} + {HEAD.value:g} + {CURSOR.value:g} + {MARK.value:g}) B"),
    ("copies of a message to gateways", lambda c, s: f"{c.copies:g}", "the receivers, at most the gateways"),
    ("cores for messages, all dispatchers", lambda c, s: _us(c.message_cpu),
     f"messages x ({NUMBER_US.value:g} us + copies x {COPY_US.value:g} us) + shards x gateways x {MORE_US.value:g} us "
     "of reports"),
    ("cores for links, each dispatcher", lambda c, s: _us(c.links_cpu),
     f"(gateways + ingests) x ({LINK_US.value:g} us of pings + {COPY_US.value:g} us for a batch of reports)"),
    ("memory of one", lambda c, s: _gib(c.dispatcher_bytes),
     f"{DISPATCHER.value / 1e6:.0f} MB + state / dispatchers + (gateways + ingests) x {LINK.value:,g} B"),
    ("**ingests**: processes", lambda c, s: f"**{c.ingests:,}**", f"cores / {BUSY:g}; at least {LEAST}"),
    ("cores that they use", lambda c, s: _us(c.ingest_cpu), f"messages x {PUBLISH_US.value:g} us"),
    ("memory of one", lambda c, s: _gib(INGEST.value), "measured, with 10 messages a second of a hot topic"),
    ("**shards**", lambda c, s: f"**{c.chosen_shards:,}**",
     f"the next power of two of users x memberships / {CURSORS:,}; at least {LEAST_SHARDS}"),
    ("links; of one dispatcher", lambda c, s: f"{c.links:,}; {c.gateways + c.ingests:,}",
     "(gateways + ingests) x dispatchers"),
    ("**brokers**", lambda c, s: f"**{c.brokers(s):,}**",
     f"the larger of bytes x {REPLICAS} / ({KAFKA_BYTES.value / 1e6:g} MB x {BUSY:g}) and partitions x {REPLICAS} / "
     f"{ON_A_BROKER:,}; at least {LEAST_BROKERS}"),
    ("partitions", lambda c, s: f"{c.partitions:,}", f"{LOGS} logs x shards + 1 (revocations)"),
    ("bytes into Kafka, peak, one copy", lambda c, s: mbit(c.written(s)),
     "messages x (record + members x head), at most"),
    ("network: into the ingests, peak", lambda c, s: mbit(c.rate * s.record), "messages x record"),
    ("network: dispatchers to gateways, peak", lambda c, s: mbit(c.rate * c.copies * s.frame),
     "messages x copies x frame"),
    ("network: out of the gateways, peak", lambda c, s: mbit(c.deliveries * s.frame), "deliveries x frame"),
    (f"disk: messages log, {REPLICAS} replicas", lambda c, s: gb(c.log_bytes(s)),
     f"messages / {PEAK} (average) x days x record x {REPLICAS}"),
    ("disk: index files of the dispatchers", lambda c, s: gb(c.index_bytes(s)),
     f"messages / {PEAK} x days x frame x {INDEX_FACTOR:g}; at most 6 GiB a shard"),
    ("**all our processes**: cores", lambda c, s: f"**{c.cores:,}**", "one for each process"),
    ("memory", lambda c, s: _gib(c.memory), "processes x memory of one"),
    ("cost a month: cores and memory", lambda c, s: f"{c.month(s).machines:,.0f}",
     f"cores x `--price-core` ({_OURS.core:g}) + GiB x `--price-gib` ({_OURS.gib:g}), of our processes and of the "
     f"brokers with {BROKER_CORES} cores and {BROKER_GIB} GiB each"),
    ("cost a month: disks", lambda c, s: f"{c.month(s).disks:,.0f}",
     f"GB of logs and index files x `--price-disk-gb` ({_OURS.disk_gb:g})"),
    ("cost a month: traffic", lambda c, s: f"{c.month(s).traffic:,.0f}",
     f"deliveries / {PEAK} (average) x frame x 30 days in GB x `--price-out-gb` ({_OURS.out_gb:g})"),
    ("**cost a month**; for 1,000 connections",
     lambda c, s: f"**{sum(c.month(s)):,.0f}**; {sum(c.month(s)) / c.connections * 1_000:,.1f}",
     "the three together; the prices in brackets are round figures to begin with, in any currency: give yours"),
)  # fmt: skip
