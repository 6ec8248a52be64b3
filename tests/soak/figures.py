"""Memory and disk of a soak's processes over time, and whether they are flat. Must not know what the processes do."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.harness import Role

EVERY_S = 2.0
WARM_S = 600.0  # a process fills its rings, caches and windows meanwhile; a third of shorter runs
FLAT = 1.10
ID_BYTES = 40  # of a message in the duplicate window: until a shard has 1,000,000 ids, what is acknowledged stays


class Sample(NamedTuple):
    """Resident megabytes of a process at a second of the run, and the messages acknowledged by then."""

    at: float
    mb: float
    acked: int = 0


class Memory:
    """Samples every process until cancelled. One that was killed and started again is another process."""

    def __init__(self, roles: Sequence[Role], acked: Callable[[], int]) -> None:
        self._acked = acked
        self.samples: dict[tuple[str, int], list[Sample]] = {}  # (role, pid)
        self._roles = roles
        self._began = time.monotonic()

    async def run(self) -> None:
        """Samples."""
        while True:
            for role in self._roles:
                pid = role.pid
                mb = resident_mb(pid)
                if pid is not None and mb is not None:
                    sample = Sample(time.monotonic() - self._began, mb, self._acked())
                    self.samples.setdefault((role.name, pid), []).append(sample)
            await asyncio.sleep(EVERY_S)

    def lines(self) -> tuple[list[str], bool]:
        """Returns a line a process that lived through the run or a role, and whether those that did are flat.

        A process that was killed on the way shows its peak and is not judged: it never left its first minutes.
        """
        length = max((samples[-1].at for samples in self.samples.values()), default=0.0)
        lines, flat, judged = [], True, 0
        peaks: dict[str, list[float]] = {}
        for (name, pid), samples in self.samples.items():
            if samples[0].at < length / 10 and samples[-1].at > length - 10 * EVERY_S:
                line, is_flat = judge(samples, ID_BYTES if name.startswith("dispatcher") else 0)
                lines.append(f"memory of {name} (pid {pid}): {line}{'' if is_flat else '  not flat'}")
                flat, judged = flat and is_flat, judged + 1
            else:
                peaks.setdefault(name, []).append(max(sample.mb for sample in samples))
        for name, found in sorted(peaks.items()):
            lines.append(f"memory of {name}: {len(found)} processes that were killed, highest peak {max(found):.0f} MB")
        if length < 2 * WARM_S:
            return [*lines, "memory: not judged, the run is shorter than 20 minutes"], True
        return lines, flat and judged > 0


def judge(samples: Sequence[Sample], message_bytes: int = 0) -> tuple[str, bool]:
    """Says a process's memory in words, and whether it is flat after its first minutes.

    Flat: of the time after WARM_S, the second half's 95th percentile is within FLAT of the first half's, and
    `message_bytes` for each message acknowledged in the second half: windows fill for hours. Not the peak: for a second
    or two a process holds what it reads to take a shard over, and chance decides when it has to.
    """
    length = samples[-1].at
    warm = min(WARM_S, length / 3)
    middle = (warm + length) / 2
    parts = [
        sorted(s.mb for s in samples if begin <= s.at <= end)
        for begin, end in ((0.0, warm), (warm, middle), (middle, length))
    ]
    levels = [part[int(len(part) * 0.95)] if part else 0.0 for part in parts]
    begins = next((s.acked for s in samples if s.at >= middle), samples[-1].acked)
    windows = message_bytes * (samples[-1].acked - begins) / 1e6
    said = f"{levels[0]:.0f} MB in the first {warm / 60:.0f} min, then {levels[1]:.0f} and {levels[2]:.0f} MB"
    said += f" (95th percentiles; peak {max(s.mb for s in samples):.0f}; {windows:.0f} for ids in windows)"
    return said, levels[2] <= levels[1] * FLAT + windows


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
