"""What has become dearer: the ratios to the floor programs now, beside those reached before. `make bench`

    python -m bench.ratchet             all of them; exit status 1 if one is worse by more than 10 %
    python -m bench.ratchet --write     also keeps what is better in bench/ratchet.toml

Each ratio is of two programs in the same run that take turns, so that another machine, or a busy one, changes both.
A ratio that is worse is measured once more before it counts. It takes about five minutes.
"""

import argparse
import math
import os
import statistics
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from bench import connects, fanout, small

FILE: Final = Path(__file__).with_name("ratchet.toml")
WORSE: Final = 1.1
RATE: Final = 1_000  # messages a second of the small ones: below what saturates a slow core
HEAD: Final = """# Ratios to the floor programs, as `python -m bench.ratchet --write` found them (bench/ratchet.py).
# `fanout`: deliveries a CPU second, more is better. `connects`, `small`: CPU, less is better.
"""


class Verdict(NamedTuple):
    """A ratio before and now; `change` is above 1 where it is worse."""

    name: str
    before: float
    now: float

    @property
    def change(self) -> float:
        return self.before / self.now if self.name.startswith("fanout.") else self.now / self.before

    @property
    def is_worse(self) -> bool:
        return self.change > WORSE

    def __str__(self) -> str:
        word = "WORSE" if self.is_worse else "better" if self.change < 1 else "as before"
        return f"{self.name:28} {self.before:6.2f} -> {self.now:6.2f}  {word}"


async def fanouts(rounds: int) -> dict[str, float]:
    """Returns shares of the floor's deliveries a CPU second, by kind and burst."""
    options = argparse.Namespace(sockets=1_000, seconds=1.0, rounds=rounds)
    shares = await fanout.fan_outs(list(fanout.KINDS), options)
    return {f"fanout.{kind}_{burst}": share for (kind, burst), share in shares.items() if kind != "floor"}


async def openings(rounds: int) -> dict[str, float]:
    """Returns times the floor's CPU of a connect and of a resume."""
    floor, *others = turns = [connects.Turn(kind, kind, None) for kind in ("floor", *connects.KINDS[1:])]
    await connects.take_turns(turns, rounds, 2_000, resumes=True)
    return {f"connects.{turn.label}_{what}": turn.times(floor, what) for turn in others for what in turn.us}


async def smalls(rounds: int) -> dict[str, float]:
    """Returns times the floor's CPU of a delivery of a small message that came over HTTP."""
    found = []
    for _ in range(rounds):
        floor, dev = [await small.one_round(label, None, RATE, 2.0) for label in ("floor", "dev")]
        if math.inf in (floor.p95_ms, dev.p95_ms):
            raise SystemExit("small: not every message was delivered, so its cost says nothing")
        found.append(dev.cpu_us / floor.cpu_us)
    return {"small.dev": statistics.median(found)}


RUNS: Final[Mapping[str, Callable[[int], Awaitable[dict[str, float]]]]] = {
    "fanout": fanouts,
    "connects": openings,
    "small": smalls,
}


def read(text: str) -> dict[str, float]:
    """Returns what was reached, by name."""
    return {f"{group}.{name}": ratio for group, ratios in tomllib.loads(text).items() for name, ratio in ratios.items()}


def written(ratios: Mapping[str, float]) -> str:
    """Returns the file."""
    groups: dict[str, list[str]] = {}
    for name, ratio in sorted(ratios.items()):
        group, _, key = name.partition(".")
        groups.setdefault(group, []).append(f"{key} = {ratio:.2f}\n")
    return HEAD + "".join(f"\n[{group}]\n" + "".join(lines) for group, lines in groups.items())


def judge(before: Mapping[str, float], now: Mapping[str, float]) -> list[Verdict]:
    """Returns a verdict for each ratio. One that was never reached before is as before."""
    return [Verdict(name, before.get(name, ratio), ratio) for name, ratio in now.items()]


async def measure(rounds: int, before: Mapping[str, float]) -> list[Verdict]:
    """Runs all; what is worse once more."""
    verdicts = []
    for run in RUNS.values():
        found = judge(before, await run(rounds))
        if any(verdict.is_worse for verdict in found):
            print("worse: once more, the machine may have been busy", flush=True)
            again = judge(before, await run(rounds))
            found = [min(pair, key=lambda verdict: verdict.change) for pair in zip(found, again, strict=True)]
        verdicts += found
    return verdicts


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    before = read(FILE.read_text("utf-8")) if FILE.exists() else {}
    verdicts = uvloop.run(measure(options.rounds, before))
    print("\n".join(map(str, verdicts)))
    if options.write:
        better = {verdict.name: verdict.now for verdict in verdicts if verdict.change < 1 or verdict.name not in before}
        FILE.write_text(written(before | better), "utf-8")
    return int(any(verdict.is_worse for verdict in verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
