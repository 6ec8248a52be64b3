"""A neighbour that takes memory and its bandwidth: `python -m tests.soak.hog MIB`, until it is killed."""

import mmap
import os
import resource
import sys
from pathlib import Path
from typing import Final

MOST_MIB: Final = 4096
OWN_MIB: Final = 256
PAGE: Final = 4096


def size_mib(available_mib: float) -> int:
    """Returns how much a hog takes: half of what is free, and never more than MOST_MIB."""
    return int(min(MOST_MIB, available_mib / 2))


def available_mib() -> float:
    """Returns the memory that the kernel could give now."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) / 1024


def main() -> None:
    """Touches every page in turn until it is killed, or until the process that wanted it is gone."""
    parent = os.getppid()
    size = min(int(sys.argv[1]), MOST_MIB) << 20
    most = size + (OWN_MIB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    held = mmap.mmap(-1, size)
    while os.getppid() == parent:
        for at in range(0, size, PAGE):
            held[at] = (held[at] + 1) % 256


if __name__ == "__main__":
    main()
