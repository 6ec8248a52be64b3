"""Programs as fixtures; a test whose program cannot be had is skipped and counted, with CI=true it fails."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.deploy import tools

SKIPPED = "no tool: "
T = TypeVar("T")


def needed(find: Callable[[], T]) -> T:
    """Returns what `find` finds; skips the test, or fails it where CI=true, when there is no such program."""
    try:
        return find()
    except tools.NoTool as error:
        if os.environ.get("CI", "").lower() == "true":
            raise pytest.fail.Exception(f"{SKIPPED}{error} (CI never skips it)", pytrace=False) from None
        pytest.skip(f"{SKIPPED}{error}")


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm."""
    return needed(tools.helm)


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' own checker."""
    return needed(lambda: tools.prometheus("promtool"))


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The Prometheus server."""
    return needed(tools.prometheus)


@pytest.fixture(scope="session")
def compose() -> Path:
    """docker compose as one program; needs no engine to read a file."""
    return needed(lambda: tools.wheel_tool("docker-compose"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says loudly how many tests went without their program."""
    reasons = [str(r.longrepr[2]) for r in terminalreporter.getreports("skipped") if isinstance(r.longrepr, tuple)]
    missing = [reason for reason in reasons if SKIPPED in reason]
    if missing:
        terminalreporter.write_sep("!", f"{len(missing)} deployment tests SKIPPED for want of a program", red=True)
        for reason in sorted(set(missing)):
            terminalreporter.write_line(reason)
