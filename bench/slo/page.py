"""The page of the service levels, written from what was found so far; a run replaces its own rows only."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.slo.rows import LEVELS, PAGES, Found, ServiceLevel, is_met, min_scale_of
from bench.slo.sums import sums

HEAD: Final = """# Service levels, as measured

`python -m bench.slo` writes this page (`--list` says what there is to run): real Kafka, one process a role, open loop,
latency from when each message was due, each delivery of each socket checked. Clients, servers and Kafka share the
machine. A run replaces its own rows, and only at the scale that a row asks for. Misses come first. Where the machine is
too small for a target, the [last section](#beyond-this-machine) has the sum.

| row | target | figure | met | scale | command | machine | date |
|---|---|---|---|---|---|---|---|
"""
BEYOND: Final = """
## Beyond this machine

Computed from the figures that were measured here; each line names them. What cannot be seen on one machine (a network
between the parts, Kafka with several brokers) is in none of them.

| row | sum | from |
|---|---|---|
"""


class Entry(msgspec.Struct):
    """What the page says of a row."""

    value: float
    scale: str
    command: str
    machine: str
    date: str


def keep(found: Sequence[Found], run: str, scale: float, folder: Path = PAGES) -> list[str]:
    """Adds what was found, and writes the page; returns the figures that the scale is too small for."""
    path = folder / "slo.json"
    entries = msgspec.json.decode(path.read_bytes(), type=dict[str, Entry]) if path.exists() else {}
    machine = f"{os.cpu_count()} cores, {_memory_gib()} GiB, Linux {platform.release().partition('-')[0]}"
    command = f"python -m bench.slo --only {run} --scale {scale:g}"
    small = [figure for figure, _, _ in found if scale < min_scale_of(figure, run)]
    for figure, value, text in found:
        if figure not in small:
            entries[figure] = Entry(value, text, command, machine, time.strftime("%Y-%m-%d"))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(entries, order="sorted")) + b"\n")
    (folder / "slo.md").write_text(page(entries), "utf-8")
    return small


def page(entries: dict[str, Entry]) -> str:
    """Returns the page in Markdown."""
    lines = [_line(level, entries.get(level.figure)) for level in LEVELS]
    table = HEAD + "".join(line for _, line in sorted(lines, key=lambda pair: pair[0]))
    beyond = [f"| {' | '.join(line)} |\n" for line in sums({name: entry.value for name, entry in entries.items()})]
    return table + BEYOND + "".join(beyond)


def _line(level: ServiceLevel, entry: Entry | None) -> tuple[int, str]:
    """Returns a row, and where it stands: misses, then what was not run, then what is met."""
    if entry is None:
        order, cells = 1, ["", "not run", "", f"`python -m bench.slo --only {level.run}`", "", ""]
    else:
        good = is_met(level, entry.value)
        order, word = (2, "yes") if good else (0, "**no**")
        value = f"{entry.value:,.10g} {level.unit}"
        cells = [value, word, entry.scale, f"`{entry.command}`", entry.machine, entry.date]
    return order, "| " + " | ".join([level.row, level.target, *cells]) + " |\n"


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
