"""Makes a failing run small and says it in a few lines; runs, and decides nothing."""

from typing import Final

from tests.sim.world import Bugs, Result, simulate

SHOWN: Final = 5
TRIES: Final = 12


def shrink(result: Result, bugs: Bugs | None = None, tries: int = TRIES) -> Result:
    """Leaves out one fault after the other while the same invariant is still broken."""
    name = result.violations[0].name
    for at in range(len(result.plan.faults)):
        if at in result.plan.skip or tries == 0:
            continue
        tries -= 1
        smaller = simulate(result.plan.seed, bugs=bugs, skip=result.plan.skip | {at})
        if any(violation.name == name for violation in smaller.violations):
            result = smaller
    return result


def describe(result: Result) -> str:
    """Returns the findings, the faults that were in play, and how to run it alone."""
    plan = result.plan
    skip = f" --skip {','.join(map(str, sorted(plan.skip)))}" if plan.skip else ""
    alone = f"python -m tests.sim --seed {plan.seed}{skip} --trace"
    lines = [f"seed {plan.seed}: {len(result.violations)} violations; {alone}"]
    lines += [f"  {v.name}: {v.text}" for v in result.violations[:SHOWN]]
    lines += [f"  fault {at}: {fault}" for at, fault in enumerate(plan.faults) if at not in plan.skip]
    ran = f"{result.seconds:.0f} virtual s, {result.turns} turns, {result.acked} acked, {result.delivered} delivered"
    return "\n".join([*lines, f"  {ran}, {plan.shards} shards, digest {result.digest}"])
