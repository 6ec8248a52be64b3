"""A stage for the processes of each test, and the figures of the run at its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Stage

_figures: list[str] = []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Processes that end with the test; none of them may have written a traceback."""
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.close()
    assert not stage.tracebacks(), "a process wrote a traceback"


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> "Figures":
    """Takes the lines that are to be quoted."""
    return Figures(request.node.name)


class Figures:
    """Prints lines at once and again in the summary, where a passing test's output is hidden."""

    def __init__(self, test: str) -> None:
        self._test = test

    def say(self, line: str) -> None:
        """Notes one line."""
        print(line)
        _figures.append(f"{self._test}: {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what the end-to-end tests measured."""
    if _figures:
        terminalreporter.write_sep("-", "end-to-end figures")
        for line in _figures:
            terminalreporter.write_line(line)
