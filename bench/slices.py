"""How long one turn of a task holds the loop, and what a process has resident. Shared by the benches of a shard."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock


class Slices:
    """The longest step of CPU by task name, in milliseconds."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measures every callback of the loop meanwhile."""
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # of a task's step: the task
            name = owner.get_name() if isinstance(owner, asyncio.Task) else "callbacks"
            started = time.process_time()
            run(handle)
            took = (time.process_time() - started) * 1e3
            self.longest[name] = max(self.longest.get(name, 0.0), took)

        with mock.patch.object(asyncio.Handle, "_run", timed):
            yield

    def take(self) -> str:
        """Returns them as one line, the longest first, and begins anew."""
        found, self.longest = sorted(self.longest.items(), key=lambda pair: -pair[1]), {}
        return ", ".join(f"{name} {ms:.0f} ms" for name, ms in found[:4])


def resident_mb() -> float:
    """Returns the resident megabytes of this process."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
