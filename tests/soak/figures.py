"""Memory and disk of a soak's processes over time, and whether they are flat. Must not know what the processes do."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.harness import Role

EVERY_S = 2.0
FLAT = 1.10
SLACK_MB = 8.0  # a process of 60 MB is not held to 6


class Sample(NamedTuple):
    """Resident megabytes of a process at a second of the run."""

    at: float
    mb: float


class Memory:
    """Samples every process until cancelled. One that was killed and started again is the same line."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self.samples: dict[str, list[Sample]] = {role.name: [] for role in roles}
        self._roles = roles
        self._began = time.monotonic()

    async def run(self) -> None:
        """Samples."""
        while True:
            for role in self._roles:
                mb = resident_mb(role.pid)
                if mb is not None:
                    self.samples[role.name].append(Sample(time.monotonic() - self._began, mb))
            await asyncio.sleep(EVERY_S)

    def lines(self) -> tuple[list[str], bool]:
        """Returns a line a process (peak in each third of the run) and whether the last third is flat."""
        lines, flat = [], True
        for name, samples in self.samples.items():
            length = samples[-1].at if samples else 0.0
            thirds = [max((s.mb for s in samples if n <= s.at / length * 3 < n + 1), default=0.0) for n in range(3)]
            is_flat = thirds[2] <= thirds[1] * FLAT + SLACK_MB
            flat = flat and is_flat
            peaks = ", ".join(f"{mb:.0f}" for mb in thirds)
            lines.append(f"memory of {name}: peaks {peaks} MB{'' if is_flat else '  NOT FLAT'}")
        return lines, flat


def folder_mb(path: Path) -> float:
    """Returns the megabytes of the files in a folder; 0 where it is not there."""
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total / 1e6


def resident_mb(pid: int | None) -> float | None:
    """Returns the resident megabytes of a process, None when it does not run."""
    if pid is None:
        return None
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024
    return None
