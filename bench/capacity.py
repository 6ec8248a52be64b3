"""What an installation of a given size needs, as arithmetic. `python -m bench.capacity`

Prints the tables of docs/system-design.md. Three kinds of numbers go in: sizes that this file encodes with the code of
the services, figures that another bench measured (docs/project/performance.md, docs/bounds.md), and assumptions about
the users. It measures no time itself.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.publish.body import frame_tail, read_publish
from headgate.core.wire.envelope import Item, encode_message
from headgate.core.wire.frames import message_frame
from headgate.core.wire.inbox_record import HeadEntry, encode_head

EPOCH: Final = (1 << 44) | 1_764_200_000_000
NOW_MS: Final = 1_764_200_000_000
DAY_S: Final = 86_400
REPLICAS: Final = 3
KEPT_DAYS: Final = 7
PEAK: Final = 10  # times the average: requirements name 578/s on average and up to 6,000/s
BUSY: Final = 0.5  # the part of a core that is planned with
PER_PROCESS: Final = 10_000  # connections of a gateway process; so many were measured idle
OBJECT_BYTES: Final = 1_024  # of a payload


class Figure(NamedTuple):
    """A measured figure: its value, what it is, and the command that measures it."""

    value: float
    what: str
    command: str


PUBLISH_US: Final = Figure(140, "us of CPU of an ingest for a publish over HTTP", "docs/project/performance.md")
NUMBER_US: Final = Figure(16.5, "us of CPU of an owner for a message, index included", "python -m bench.sequencer")
WRITE_US: Final = Figure(5.4, "us of CPU of a gateway for a delivery of its own write", "python -m bench.fanout")
CONNECT_US: Final = Figure(136, "us of CPU of a gateway for a connect and subscribe", "python -m bench.fanout")
CONNECTION: Final = Figure(2_050, "bytes of an idle connection in a gateway", "python -m bench.fanout")
TOPIC: Final = Figure(997, "bytes of a topic at its owner", "python -m bench.topics")
MEMBER: Final = Figure(105, "bytes of a member at the topic's owner", "python -m bench.members")
MEMBERSHIP: Final = Figure(520, "bytes of a membership at the user's owner", "python -m bench.inbox_rows")
HEAD: Final = Figure(240, "bytes of a head at the user's owner", "python -m bench.inbox_rows")
CURSOR: Final = Figure(192, "bytes of a device's cursor", "python -m bench.cursors")
MARK: Final = Figure(210, "bytes of a read mark", "python -m bench.inbox_rows")
PRESENT: Final = Figure(300, "bytes of a user in a list of presence", "python -m bench.presence_owner")
FIGURES: Final = (
    PUBLISH_US, NUMBER_US, WRITE_US, CONNECT_US, CONNECTION, TOPIC, MEMBER, MEMBERSHIP, HEAD, CURSOR, MARK, PRESENT,
)  # fmt: skip


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


class Sizes(NamedTuple):
    """Bytes of one message of OBJECT_BYTES in each place, and of one head in a pointer bundle."""

    record: int
    frame: int
    sse: int
    head: int


def sizes() -> Sizes:
    """Encodes a message and a head as the services do."""
    body = read_publish(b'{"payload":"%b"}' % (b"x" * (OBJECT_BYTES - 2)), 65_536)
    tail = frame_tail(bytes(range(16)), "user-1234567", body)
    frame = message_frame("channel:1234567", 123_456, NOW_MS, tail)
    return Sizes(
        record=len(encode_message(Item(bytes(range(16)), 0, tail), EPOCH)),
        frame=len(WEBSOCKET.messages(EPOCH, 123_456, [frame])),
        sse=len(SSE.messages(EPOCH, 123_456, [frame])),
        head=len(encode_head(HeadEntry("channel:1234567", EPOCH, 123_456, 123_000, NOW_MS))),
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
    members = plan.users * plan.memberships
    of_topic = plan.users * TOPIC.value + members * MEMBER.value
    return of_topic + members * (MEMBERSHIP.value + HEAD.value + CURSOR.value + MARK.value)


def _cores(per_s: float, each: Figure) -> str:
    cores = per_s * each.value / 1e6
    return f"{cores:.2f}; planned with half of a core: {max(2, round(cores / BUSY + 0.5))}"


def _gb(amount: float) -> str:
    return f"{amount / 1e9:,.1f} GB" if amount < 1e12 else f"{amount / 1e12:,.2f} TB"


def _mbit(amount: float) -> str:
    return f"{amount * 8 / 1e6:,.0f} Mbit/s"


_ROWS: Final[tuple[tuple[str, Callable[[Plan, Sizes], str]], ...]] = (
    ("messages a day", lambda p, s: f"{p.daily * p.a_day:,}"),
    ("messages a second, average", lambda p, s: f"{p.average:,.0f}"),
    (f"messages a second, peak ({PEAK} times)", lambda p, s: f"{p.peak:,.0f}"),
    ("deliveries a second, peak (all 10 members connected)", lambda p, s: f"{p.peak * p.memberships:,.0f}"),
    ("ingest: cores at the peak", lambda p, s: _cores(p.peak, PUBLISH_US)),
    ("dispatcher: cores at the peak", lambda p, s: _cores(p.peak, NUMBER_US)),
    ("gateway: cores at the peak", lambda p, s: _cores(p.peak * p.memberships, WRITE_US)),
    ("gateway processes for the connections", lambda p, s: f"{-(-p.connected // PER_PROCESS):,}"),
    ("memory of the connections", lambda p, s: _gb(p.connected * CONNECTION.value)),
    ("a tenth of them reconnects in a minute: gateway cores",
     lambda p, s: f"{p.connected / 600 * CONNECT_US.value / 1e6:.2f}"),
    ("dispatchers: memory of topics, members, inbox, cursors, marks", lambda p, s: _gb(_memory(p))),
    ("of that a shard", lambda p, s: f"{_gb(_memory(p) / p.shards)} in {p.shards:,} shards"),
    ("cursors a shard (bound: 1,000,000)", lambda p, s: f"{p.users * p.memberships // p.shards:,}"),
    ("presence, where every connected user is in one list", lambda p, s: _gb(p.connected * PRESENT.value)),
    ("payloads a day", lambda p, s: _gb(p.daily * p.a_day * OBJECT_BYTES)),
    ("messages log a day, one copy", lambda p, s: _gb(p.daily * p.a_day * s.record)),
    (f"messages log, {KEPT_DAYS} days, {REPLICAS} replicas",
     lambda p, s: _gb(p.daily * p.a_day * s.record * KEPT_DAYS * REPLICAS)),
    ("the same kept for a year", lambda p, s: _gb(p.daily * p.a_day * s.record * 365 * REPLICAS)),
    ("history index files, 7 days (1.5 times the frames; bound: 6 GiB a shard)",
     lambda p, s: _gb(min(p.daily * p.a_day * s.frame * KEPT_DAYS * 1.5, p.shards * 6 * 2**30))),
    ("inbox log at the peak, at most (10 heads a message)", lambda p, s: _mbit(p.peak * p.memberships * s.head)),
    ("network into the ingests, peak", lambda p, s: _mbit(p.peak * s.record)),
    ("network out of the gateways, peak", lambda p, s: _mbit(p.peak * p.memberships * s.frame)),
)  # fmt: skip


if __name__ == "__main__":
    print(capacity_tables())
