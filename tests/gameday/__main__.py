"""A game day: `python -m tests.gameday [--factor 0.1] [--only PATTERN] [--write]`, or `make gameday`; ten minutes.

Dispatchers killed, Kafka stopped, gateways frozen, a disk full, a slow client: one after the other, on processes of
every role, a canary, one real Kafka, and a real Prometheus with the chart's alert rules. It prints which alerts fired
after how long and when they were resolved. All times of the rules are multiplied by `--factor`. The exit status is 1
when an alert that has to fire did not, when one stays, or when an acknowledged message is missing, twice or out of
order. It mounts a small file system, which needs root on Linux. Loopback only; it stops what it started.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from helm.observability.files import ROOT, RULES
from tests.deploy import tools
from tests.gameday.day import Played, play_all, quiet
from tests.gameday.faults import FAULTS, Fault
from tests.gameday.fleet import Fleet
from tests.gameday.table import page
from tests.kafka.cluster import KafkaCluster

PAGE: Final = ROOT / "docs" / "project" / "game-day.md"


async def _day(
    folder: Path, kafka: KafkaCluster, factor: float, faults: Sequence[Fault]
) -> tuple[list[Played], list[str], list[str]]:
    """Returns what was played, what was wrong beside it, and what was found about messages. Raises AssertionError."""
    fleet = Fleet(folder, kafka.bootstrap, "gameday", factor, kafka=kafka)
    async with fleet.running(tools.prometheus(), tools.node_exporter()):
        wrong = await quiet(fleet)
        played = await play_all(fleet, faults)
        checks = [
            f"Throughout, publishers repeated what was not acknowledged. {await fleet.traffic.check()}.",
            f"Of the large messages {await fleet.flood.check()} were acknowledged: each is in the history once.",
        ]
        wrong += fleet.stage.tracebacks()
    return played, wrong, checks


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns what was asked for. Exits with status 2 where a part of the faults would replace the whole page."""
    parser = argparse.ArgumentParser(prog="python -m tests.gameday", description=__doc__)
    parser.add_argument("--factor", type=float, default=0.1, help="of the times in the rules, 0.1 by default")
    parser.add_argument("--only", default="", help="only faults whose name matches this")
    parser.add_argument("--write", action="store_true", help=f"writes {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--write replaces the whole page, and --only plays a part of it: leave one of them out")
    return options


def main() -> int:
    """Runs it; the exit status says whether everything was as it should be."""
    options = options_of()
    faults = [fault for fault in FAULTS if re.search(options.only, fault.name)]
    with KafkaCluster(1) as kafka, tempfile.TemporaryDirectory(prefix="headgate-gameday-") as folder:
        played, wrong, checks = asyncio.run(_day(Path(folder), kafka, options.factor, faults))
    text = page(played, yaml.safe_load(RULES.read_text("utf-8")), options.factor, checks)
    print(text, *wrong, sep="\n", flush=True)
    if options.write:
        PAGE.write_text(text, "utf-8")
    return int(bool(wrong) or any(each.wrong for each in played))


if __name__ == "__main__":
    sys.exit(main())
