"""What the measured figures say of sizes that one machine does not have: a line for each target, as arithmetic."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from bench.figures import PRESENT
from bench.slo.rows import PAGES

SUBSCRIBERS: Final = 1_000_000
TOPICS: Final = 100_000
PEAK: Final = 1_000_000  # deliveries a second
PER_SERVER: Final = 10_000  # connections of a gateway process
DAY: Final = 50_000_000  # messages
CHURN: Final = 100_000  # connects and as many disconnects a minute
DAYS: Final = 30  # of a month


class Sum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the page: the rows that it is for, which sum it is, and the figures that go in."""

    rows: str
    name: str
    figures: tuple[str, ...]


def _million(most: float, gateway: float, kernel: float, per_s: float) -> str:
    in_gateways, in_kernels = SUBSCRIBERS * gateway / 1e9, SUBSCRIBERS * kernel / 1e9
    return (
        f"{SUBSCRIBERS:,} connections: {in_gateways:.1f} GB in {SUBSCRIBERS // PER_SERVER} gateway processes and "
        f"{in_kernels:.1f} GB of their kernels, {in_gateways + in_kernels:.1f} GB in all; "
        f"{SUBSCRIBERS / per_s / 60:.1f} minutes to open at {per_s:,.0f} connects a second of this machine, "
        f"whose most was {most:,.0f} connections"
    )


def _peak(gateway: float, servers: float, bursts: float, small: float, machine: float) -> str:
    return (
        f"{PEAK:,} deliveries a second of single messages to large topics: {PEAK / gateway:.1f} gateway cores, "
        f"{PEAK / servers:.1f} cores with the other services and Kafka; planned with half of a core, "
        f"{math.ceil(2 * PEAK / servers)}. With twelve messages a request {PEAK / bursts:.1f} cores; in topics of ten, "
        f"a request for each ten deliveries, {PEAK / small:.0f}. This machine, clients included, does {machine:,.0f} a "
        "second"
    )


def _churn(connect_us: float, highest: float) -> str:
    return (
        f"{CHURN:,} connects and as many disconnects a minute: {CHURN / 60 * connect_us / 1e6:.2f} cores of all "
        f"services; {highest:,.0f} a minute held on this machine beside its clients"
    )


def _state(topic: float, socket: float) -> str:
    parts = TOPICS * topic, SUBSCRIBERS * socket, SUBSCRIBERS * PRESENT.value
    added = " + ".join(f"{part / 1e6:,.0f}" for part in parts)
    return (
        f"{TOPICS:,} topics, {SUBSCRIBERS:,} connections, all in presence lists: {added} = {sum(parts) / 1e6:,.0f} MB, "
        f"where the requirement says 500 MB"
    )


def _log(message: float, index: float) -> str:
    day = DAY * message
    return (
        f"{DAY / 1e6:.0f} M messages of 1 KB a day: {day / 1e9:,.1f} GB of the messages log, one copy, "
        f"{3 * day / 1e9:,.0f} GB with three replicas, {3 * day * 365 / 1e12:.0f} TB if a year is kept; index files "
        f"{DAY * index / 1e9:,.1f} GB for each day kept"
    )


def _kills(minutes: float, dispatcher: float) -> str:
    kills = 21.6 * 60 / max(dispatcher, 0.1) / DAYS
    return (
        f"one kill of each process a day is {minutes:.2f} minutes a month in which some client waits, of 43.2 (99.9 %) "
        f"and 21.6 (99.95 %); 21.6 minutes are {kills:,.0f} kills of a dispatcher a day"
    )


def _members(member: float) -> str:
    total = 10 * SUBSCRIBERS
    return f"{total:,} memberships (ten topics for each of a million users): {total * member / 1e9:.1f} GB"


_TEXTS: Final[dict[str, Callable[..., str]]] = {
    "connections": _million, "peak": _peak, "churn": _churn, "kills": _kills, "state": _state, "log": _log,
    "members": _members,
}  # fmt: skip
SUMS: Final = msgspec.json.decode((PAGES / "slo_sums.json").read_bytes(), type=tuple[Sum, ...])


def sums(values: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Returns rows, sum and figures of each line; a line whose figures were not measured yet says which."""
    return [_line(each, values) for each in SUMS]


def _line(each: Sum, values: Mapping[str, float]) -> tuple[str, str, str]:
    missing = [name for name in each.figures if name not in values]
    if missing:
        return each.rows, f"not measured yet: {', '.join(missing)}", ""
    taken = [values[name] for name in each.figures]
    pairs = zip(each.figures, taken, strict=True)
    return each.rows, _TEXTS[each.name](*taken), ", ".join(f"`{name}` {value:,.10g}" for name, value in pairs)
