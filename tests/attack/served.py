"""A `headgate dev` of its own for a run, and what it costs: CPU seconds and resident memory of the process."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 30.0


class Served(NamedTuple):
    """A running process."""

    pid: int
    port: int
    admin: int

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_bytes(self) -> int:
        """Resident memory now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0


@contextlib.contextmanager
def dev(**settings: str) -> Iterator[Served]:
    """Runs `headgate dev` in mode open on free ports of loopback; `settings` are environment variables."""
    port, admin = _free(), _free()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    environment |= {"HEADGATE_DEV__PORT": str(port), "HEADGATE_ADMIN__PORT": str(admin), **settings}
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "headgate.cli.main", "dev"]
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        try:
            _until_ready(admin)
            yield Served(process.pid, port, admin)
        finally:
            process.terminate()
            process.wait(30)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_ready(admin: int) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2):
            return
        time.sleep(0.1)
    raise RuntimeError("headgate dev is not ready")
