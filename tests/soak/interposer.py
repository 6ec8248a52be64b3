"""Clock steps and slow disks of one process: a small library of C before the system's own (`interposer.c`).

Where there is no C compiler, or no Linux, `compiled` returns None, and these faults are left out.
"""

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("interposer.c")
CONTROL: Final = "HEADGATE_SOAK_CONTROL"
NS: Final = 1_000_000_000


class Interposer:
    """The control file of one process. It lasts longer than the process: one that is started again has the same."""

    def __init__(self, library: Path, control: Path) -> None:
        self._library = library
        self._control = control
        self._clock_s = self._disk_s = 0.0
        control.write_bytes(bytes(16))

    @property
    def before(self) -> list[str]:
        """What the command line of the process begins with."""
        return ["/usr/bin/env", f"LD_PRELOAD={self._library}", f"{CONTROL}={self._control}"]

    def shift_clock(self, seconds: float) -> None:
        """Sets by how much the wall clock of the process differs from the machine's."""
        self._clock_s = seconds
        self._write()

    def slow_disk(self, seconds: float) -> None:
        """Sets how much longer each write and fsync of a file takes."""
        self._disk_s = seconds
        self._write()

    def _write(self) -> None:
        with self._control.open("r+b") as file:  # in place: the process has the file mapped
            file.write(struct.pack("=qq", int(self._clock_s * NS), int(self._disk_s * NS)))


def compiled(folder: Path) -> Path | None:
    """Compiles the library into a folder; returns None where that cannot be done."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "interposer.so"
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library
