"""Runs every test: `python -m tests`, with arguments for pytest. It is what `make test` and CI do.

Three runs of pytest stand side by side on two cores. Two have the tests that wait most of the time: one those of whole
processes, one those of clients and those that need a real Kafka or real sockets. The third has those that compute. The
output of the second and third comes when all are over.

Then the tests that failed in the first two are run once more, alone on the machine: dozens of processes on two cores
that others use too can be late for any deadline. What fails again has failed. What passes is named as unsteady, and is
a bug of the test or of the server that somebody has to find. Where more than AGAIN_AT_MOST failed, the change is
broken, not the machine busy; and what computes has no excuse.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

HERE: Final = Path(__file__).parent
PROCESSES: Final = ("e2e", "gameday", "soak")
CONNECTED: Final = ("attack", "clients", "contract", "integration", "kafka")  # a real Kafka is used in these two only
AGAIN_AT_MOST: Final = 5
TESTS_FAILED: Final = 1  # pytest's exit status, apart from those of wrong arguments and interruptions


def parts() -> tuple[list[str], list[str], list[str]]:
    """Returns the paths of the runs: PROCESSES, CONNECTED, and all else that has tests."""
    found = sorted(path for path in HERE.iterdir() if path.is_dir() or path.name.startswith("test_"))
    named = [path.name for path in found if any(path.rglob("test_*.py")) or path.is_file()]
    rest = [name for name in named if name not in PROCESSES + CONNECTED]
    return _paths(PROCESSES), _paths(CONNECTED), _paths(rest)


def main(arguments: list[str]) -> int:
    """Runs all parts; returns 0 where all tests passed, some of them perhaps when they ran alone."""
    with tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder, name) for name in ("processes", "connected", "computing")]
        commands = [_command(paths, cache, *arguments) for paths, cache in zip(parts(), caches, strict=True)]
        *waiting, computing = side_by_side(commands)
        unsteady: list[str] = []
        statuses = [computing]
        for status, command, cache in zip(waiting, commands, caches, strict=False):
            failed = failed_tests(cache) if status == TESTS_FAILED else []
            if 0 < len(failed) <= AGAIN_AT_MOST:
                print(f"\nonce more, alone: {', '.join(failed)}", flush=True)
                status = _run([*command, "--last-failed"])  # noqa: PLW2901 - of the second run
                unsteady += set(failed) - set(failed_tests(cache))
            statuses.append(status)
    for test in unsteady:
        print(f"UNSTEADY {test}: failed beside others, passed alone")
    return max(statuses, key=abs)


def side_by_side(commands: list[list[str]]) -> list[int]:
    """Runs the commands at the same time; shows the first one's output at once. Returns their statuses."""
    first, *others = commands
    with ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in others]
        beside = [
            subprocess.Popen(command, cwd=HERE.parent, stdout=output, stderr=subprocess.STDOUT)
            for command, output in zip(others, said, strict=True)
        ]
        try:
            return [_run(first), *(run.wait() for run in beside)]
        finally:
            for run, output in zip(beside, said, strict=True):
                run.kill()
                _show(output)


def failed_tests(cache: Path) -> list[str]:
    """Returns the names of the tests that failed last in a run with this cache of pytest."""
    try:
        return sorted(json.loads((cache / "v/cache/lastfailed").read_bytes()))
    except FileNotFoundError:  # none failed
        return []


def _paths(names: tuple[str, ...] | list[str]) -> list[str]:
    return [f"tests/{name}" for name in names]


def _command(paths: list[str], cache: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *paths, "-o", f"cache_dir={cache}", *arguments]


def _run(command: list[str]) -> int:
    return subprocess.run(command, cwd=HERE.parent, check=False).returncode


def _show(output: IO[bytes]) -> None:
    output.seek(0)
    sys.stdout.write(output.read().decode("utf-8", "replace"))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
