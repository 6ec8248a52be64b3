"""Changes one thing at a time in a wing of the core and runs the wing's tests: `make mutants WING=fanout`.

A change that no test notices is a survivor; each is printed as a difference. mutmut does the work, on a copy of the
sources in build/mutants, with the tests of that wing only.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.mutants.report import Report, report_of

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("headgate", "ingest", "dispatcher", "gateway", "tests")
WINGS: Final = sorted(path.name for path in (ROOT / "headgate" / "core").iterdir() if (path / "__init__.py").exists())
# The plugins of tests/conftest.py start a Kafka; the tests of a wing need no broker. The tests of a mutant that loops
# are ended after 40 s and four times what they take without a change.
CONFIG: Final = """\
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
pythonpath = ["."]

[tool.mutmut]
source_paths = ["headgate"]
only_mutate = ["headgate/core/{wing}/{module}.py"]
pytest_add_cli_args = [
  "--noconftest", "--import-mode=importlib", "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.order",
]
pytest_add_cli_args_test_selection = ["tests/core/{wing}"]
timeout_constant = 10
timeout_multiplier = 4
"""


def main(argv: list[str]) -> int:
    """Runs the mutants of one wing; exit status 0 when they were tried, survivors or not, 1 when time ran out."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("wing", choices=WINGS)
    parser.add_argument("module", nargs="?", default="*", help="one module of the wing, without .py; all without it")
    parser.add_argument("--minutes", type=float, default=15, help="stop after so long (15) and report what was tried")
    parser.add_argument("--sample", metavar="DIGITS", help="only mutants whose number ends in one of these digits")
    asked = parser.parse_args(argv)
    place = copied(ROOT / "build" / "mutants" / asked.wing, asked.wing, asked.module)
    run(place, asked.minutes * 60, asked.sample)
    report = report_of(place / "mutants" / "headgate" / "core" / asked.wing)
    sys.stdout.write(text_of(report))
    return int(not report.tried or (report.tried < report.all and not asked.sample))


def copied(place: Path, wing: str, module: str) -> Path:
    """Copies the sources and tests to `place`, with a configuration that mutates one wing. Returns `place`."""
    shutil.rmtree(place, ignore_errors=True)
    for name in COPIED:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "data", "node_modules"))
    (place / "pyproject.toml").write_text(CONFIG.format(wing=wing, module=module))
    return place


def run(place: Path, seconds: float, sample: str | None) -> None:
    """Runs mutmut in `place`, at most so long; what it wrote by then is the result."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1)]
    command += [f"*__mutmut_*[{sample}]"] if sample else []
    environment = {**os.environ, "PYTHONPATH": ""}
    with (place / "mutmut.log").open("w") as log, contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=seconds, check=False
        )
        if done.returncode:
            sys.stderr.write(f"mutmut ended with {done.returncode}: see {place / 'mutmut.log'}\n")


def text_of(report: Report) -> str:
    """Returns the survivors as differences, then a line a module and the sums."""
    lines = [f"{mutant.where}\n{mutant.difference}" for mutant in report.survivors]
    lines += [f"{each.module}: {each.caught} of {each.tried} caught, {each.all} in all" for each in report.modules]
    lines.append(f"{report.all} mutants, {report.tried} tried, {report.caught} caught, {len(report.survivors)} survive")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
