"""The page of faults and availability, `docs/project/chaos.md`, from the runs kept in `chaos.json` beside it.

A run replaces the one of the same seed, however long; the tables are of all runs together.
"""

import math
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.e2e.harness import ROOT
from tests.soak import chaos_text as text
from tests.soak.availability import ALLOWED_S, MONTH_S, NONE, TARGET, TWO, Cost, month_of, nines
from tests.soak.states import STATES

FOLDER: Final = ROOT / "docs" / "project"
RATE: Final = 200.0  # single publishes a second
CARRIED: Final = 0.999  # share in time, without a fault, from which on figures are of the faults
VERDICTS: Final = ("lost", "repeated", "reordered", "invented", "refused and there", "gaps")

# How often a month: assumed, for three dispatchers, two ingests, two gateways and three brokers. Two faults at once are
# not in it: they are as rare as the product of two of these.
ASSUMED: Final = {
    "dispatcher killed": 4,
    "dispatcher killed, index wiped": 1,
    "gateway killed": 10,
    "ingest killed": 4,
    "process stopped in order": 56,  # eight upgrades of seven processes
    "process frozen": 4,
    "sockets cut": 30,
    "dispatcher cut off from other roles": 2,
    "role cut off from one dispatcher": 2,
    "role cut off from all brokers": 2,
    "role cut off from one broker": 2,
    "broker killed": 2,
    "broker frozen": 2,
    "broker cut off from other brokers": 1,
    "broker cut off from all": 1,
    "memory taken by a neighbour": 4,
    "clock of a role wrong": 2,
    "slow disk of a dispatcher": 4,
    "slow disk of a broker": 4,
}


class Run(msgspec.Struct):
    """What one run found."""

    seed: int
    minutes: float
    machine: str
    date: str
    publishes: int  # requests
    acked: int  # messages
    delivered: int
    refused: int
    verdict: dict[str, int]
    states: dict[str, dict[str, int]]
    costs: dict[str, Cost]
    left_out: list[str]
    kept: bool  # every promise, memory and disk included
    rate: float = RATE

    @property
    def command(self) -> str:
        """What makes it again."""
        rate = "" if self.rate == RATE else f" RATE={self.rate:g}"
        return f"make chaos SEED={self.seed} MINUTES={self.minutes:g}{rate}"


def machine() -> str:
    """Says on what it ran."""
    gib = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return f"{os.cpu_count()} cores, {gib} GiB, Linux {platform.release().partition('-')[0]}"


def today() -> str:
    """Returns the date."""
    return time.strftime("%Y-%m-%d")


def keep(run: Run, folder: Path = FOLDER) -> None:
    """Adds a run, in place of the one of the same seed, and writes the page."""
    path = folder / "chaos.json"
    runs = msgspec.json.decode(path.read_bytes(), type=dict[str, Run]) if path.exists() else {}
    runs[str(run.seed)] = run
    path.write_bytes(msgspec.json.format(msgspec.json.encode(runs, order="sorted")) + b"\n")
    (folder / "chaos.md").write_text(page(list(runs.values())), "utf-8")


def page(runs: Sequence[Run]) -> str:
    """Returns the page in Markdown."""
    costs = together(runs)
    parts = [
        text.HEAD,
        text.MESSAGES, *_verdicts(runs),
        text.STATES_TEXT, *fault_table(runs),
        text.SHARES, *_shares(costs),
        text.NINES, *_month(costs),
        text.STANDS_FOR,
    ]  # fmt: skip
    return "\n".join(parts)


def together(runs: Sequence[Run]) -> dict[str, Cost]:
    """Returns the costs of all runs by kind."""
    found: dict[str, Cost] = {}
    for run in runs:
        for kind, cost in run.costs.items():
            found[kind] = found[kind].plus(cost) if kind in found else cost
    return found


def _verdicts(runs: Sequence[Run]) -> Iterator[str]:
    kinds = " | ".join(VERDICTS)
    yield f"| command | publishes | messages | delivered | refused | {kinds} | every promise kept | machine, date |"
    yield "|" + "---|" * (7 + len(VERDICTS))
    for run in runs:
        counts = " | ".join(str(run.verdict.get(kind, 0)) for kind in VERDICTS)
        figures = f"{run.publishes:,} | {run.acked:,} | {run.delivered:,} | {run.refused:,} | {counts}"
        yield f"| `{run.command}` | {figures} | {'yes' if run.kept else '**no**'} | {run.machine}, {run.date} |"
    for run in runs:
        if run.left_out:
            yield f"\n`{run.command}` left out {', '.join(run.left_out)}: there was no C compiler."


def fault_table(runs: Sequence[Run]) -> Iterator[str]:
    """Yields the lines of the table of faults by state."""
    counts: dict[str, Counter[str]] = {}
    for run in runs:
        for kind, by_state in run.states.items():
            counts.setdefault(kind, Counter()).update(by_state)
    counts["**all**"] = sum(counts.values(), start=Counter())
    yield f"| fault | {' | '.join(STATES)} | all |"
    yield "|" + "---|" * (2 + len(STATES))
    for kind in sorted(counts, key=lambda kind: (kind.startswith("*"), kind)):
        cells = [str(counts[kind][state] or "") for state in STATES]
        yield f"| {kind} | {' | '.join(cells)} | {counts[kind].total()} |"


def _shares(costs: Mapping[str, Cost]) -> Iterator[str]:
    yield "| fault | played | window | publishes | in time | deliveries | in time | costs | a month |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for kind, cost in sorted(costs.items(), key=lambda pair: (pair[0] == NONE, -pair[1].lost_s)):
        shares = " | ".join(f"{each.total:,} | {_percent(each.within)}" for each in (cost.publishes, cost.deliveries))
        seconds = cost.publishes.seconds
        if kind == NONE:
            yield f"| {kind} | | {seconds:.0f} s in all | {shares} | | |"
        else:
            window = f"{seconds / max(cost.played, 1):.0f} s each"
            yield f"| {kind} | {cost.played} | {window} | {shares} | {cost.lost_s:.2f} s | {_count(cost.a_month)} |"

    quiet = costs.get(NONE)
    if quiet is not None and min(quiet.publishes.within, quiet.deliveries.within) < CARRIED:
        yield text.SLOW


def _month(costs: Mapping[str, Cost]) -> Iterator[str]:
    lost, available = month_of(costs, ASSUMED)
    total = sum(lost.values())
    yield "| fault | a month (assumed) | costs each | sum |"
    yield "|---|---|---|---|"
    for kind, seconds in sorted(lost.items(), key=lambda pair: -pair[1]):
        yield f"| {kind} | {ASSUMED[kind]} | {costs[kind].lost_s:.2f} s | {seconds:.1f} s |"
    yield f"| **all** | {sum(ASSUMED[kind] for kind in lost)} | | **{total:.0f} s** |"
    if missing := sorted(set(ASSUMED) - set(costs)):
        yield f"\nNot played, and not in the sum: {', '.join(missing)}."
    sums = f"1 - {total:.0f} s / {MONTH_S:,.0f} s = **{_percent(available)}**"
    yield f"\n{sums}: {nines(available):.1f} nines, for these faults."
    yield _left(ALLOWED_S - total)
    if (quiet := costs.get(NONE)) is not None:
        publishes, deliveries = _percent(quiet.publishes.within), _percent(quiet.deliveries.within)
        yield f"\nOutside of all windows {publishes} of the publishes and {deliveries} of the deliveries were in time;"
        yield "what is missing there is not in the sum."
    if TWO in costs:
        yield f"Nor are two faults at once, {costs[TWO].lost_s:.1f} s each: both have to come within seconds."


def _left(seconds: float) -> str:
    allowed = f"{TARGET * 100:g} % allows {ALLOWED_S:,.0f} s"
    if seconds < 0:
        return f"{allowed}: **{-seconds:,.0f} s too many**."
    return f"{allowed}: {seconds:,.0f} s are left for what is not played here (balancer, all of Kafka, a zone)."


def _percent(share: float) -> str:
    """Rounds down: 99.9999 % is never shown as 100 %."""
    return "100 %" if share == 1 else f"{math.floor(share * 1e6) / 1e4:.4f} %"


def _count(number: float) -> str:
    return "any number" if math.isinf(number) else f"{number:,.0f}"
