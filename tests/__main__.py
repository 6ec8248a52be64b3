"""Runs every test: `python -m tests`, with arguments for pytest. It is what `make test` and CI do.

Two runs of pytest stand side by side on two cores. One has the tests that wait most of the time: for brokers, for
processes that start, for deadlines. The other has those that compute. Its output comes when both are over.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
WAITING: Final = (
    "attack",
    "clients",
    "contract",
    "e2e",
    "integration",
    "kafka",
    "soak",
)  # all that use a real Kafka are among them


def parts() -> tuple[list[str], list[str]]:
    """Returns the paths of both runs: what waits, and all else that has tests."""
    found = sorted(path for path in HERE.iterdir() if path.is_dir() or path.name.startswith("test_"))
    named = [f"tests/{path.name}" for path in found if any(path.rglob("test_*.py")) or path.is_file()]
    waiting = [name for name in named if name.removeprefix("tests/") in WAITING]
    return waiting, [name for name in named if name not in waiting]


def main(arguments: list[str]) -> int:
    """Runs both parts; returns 0 where all tests passed."""
    waiting, computing = parts()
    with tempfile.TemporaryFile() as said:
        beside = subprocess.Popen(
            _command(computing, "-o", "cache_dir=.pytest_cache/beside", *arguments),
            cwd=HERE.parent,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            status = subprocess.run(_command(waiting, *arguments), cwd=HERE.parent, check=False).returncode
            beside_status = beside.wait()
        finally:
            beside.kill()
            said.seek(0)
            sys.stdout.write(said.read().decode("utf-8", "replace"))
            sys.stdout.flush()
    return status or beside_status


def _command(paths: list[str], *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *paths, *arguments]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
