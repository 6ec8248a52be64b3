"""Runs every test: `python -m tests`, with arguments for pytest. It is what `make test` and CI do.

Three runs of pytest stand side by side on two cores. Two have the tests that wait most of the time: one those of whole
processes and clients, one those that need a real Kafka or real sockets. The third has those that compute. The output of
the second and third comes when all are over.
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

HERE: Final = Path(__file__).parent
PROCESSES: Final = ("attack", "clients", "e2e", "soak")
CONNECTED: Final = ("contract", "integration", "kafka")  # all that use a real Kafka are among these two


def parts() -> tuple[list[str], list[str], list[str]]:
    """Returns the paths of the runs: PROCESSES, CONNECTED, and all else that has tests."""
    found = sorted(path for path in HERE.iterdir() if path.is_dir() or path.name.startswith("test_"))
    named = [path.name for path in found if any(path.rglob("test_*.py")) or path.is_file()]
    rest = [name for name in named if name not in PROCESSES + CONNECTED]
    return _paths(PROCESSES), _paths(CONNECTED), _paths(rest)


def main(arguments: list[str]) -> int:
    """Runs all parts; returns 0 where all tests passed."""
    first, *others = parts()
    with ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in others]
        beside = [
            subprocess.Popen(
                _command(paths, "-o", f"cache_dir=.pytest_cache/beside-{number}", *arguments),
                cwd=HERE.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for number, (paths, output) in enumerate(zip(others, said, strict=True))
        ]
        try:
            statuses = [subprocess.run(_command(first, *arguments), cwd=HERE.parent, check=False).returncode]
            statuses += [run.wait() for run in beside]
        finally:
            for run, output in zip(beside, said, strict=True):
                run.kill()
                _show(output)
    return max(statuses, key=abs)


def _paths(names: tuple[str, ...] | list[str]) -> list[str]:
    return [f"tests/{name}" for name in names]


def _command(paths: list[str], *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *paths, *arguments]


def _show(output: IO[bytes]) -> None:
    output.seek(0)
    sys.stdout.write(output.read().decode("utf-8", "replace"))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
