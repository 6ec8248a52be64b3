"""CPU time of processes, finer than the ticks of /proc/PID/stat: those are 10 ms, 400 connects of a floor."""

from pathlib import Path


def cpu_s(pid: int | None) -> float:
    """Returns for how many seconds a process has run: what a wait would be on a core that nothing else uses.

    The time of its threads that have ended is not in it.
    """
    return _sum(pid, 0)


def waited_s(pid: int | None) -> float:
    """Returns for how many seconds a process was ready to run and others had its core."""
    return _sum(pid, 1)


def _sum(pid: int | None, field: int) -> float:
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[field]) for file in files) / 1e9
