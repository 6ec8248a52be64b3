"""`python -m tests.sim --seed N [--trace] [--shrink]`, or `--from A --count N` for many."""

import argparse
import time

from tests.sim.witness import describe, shrink
from tests.sim.world import simulate


def main() -> int:
    """Runs seeds and prints what was found; exit status 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run one seed")
    parser.add_argument("--skip", default="", help="numbers of faults to leave out, comma-separated")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--shrink", action="store_true", help="leave out faults while it still fails")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    if options.seed is None:
        return _many(range(options.first, options.first + options.count))
    skip = frozenset(int(n) for n in options.skip.split(",") if n)
    result = simulate(options.seed, skip=skip, on_trace=print if options.trace else None)
    if options.shrink and result.violations:
        result = shrink(result)
    print(describe(result))
    return 1 if result.violations else 0


def _many(seeds: range) -> int:
    started = time.perf_counter()
    failed = []
    for seed in seeds:
        result = simulate(seed)
        if result.violations:
            failed.append(seed)
            print(describe(result), flush=True)
    seconds = time.perf_counter() - started
    print(f"{len(seeds)} seeds in {seconds:.1f} s ({len(seeds) / seconds:.1f}/s); failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
