"""The built client, a server in open mode, and the stage and figures of the end-to-end tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser

from tests.clients.chat_browser import a_browser
from tests.clients.javascript import install, npm
from tests.e2e.conftest import figures, pytest_terminal_summary, stage
from tests.vectors.served import Served

__all__ = ["figures", "pytest_terminal_summary", "stage"]


@pytest.fixture(scope="session")
def built() -> None:
    """`npm ci`, where the lock file is not installed yet, and the build, once."""
    install()
    npm("run", "build")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A `headgate dev` in open mode."""
    with Served() as process:
        yield process


@pytest.fixture
def demo() -> Iterator[Served]:
    """A `headgate dev --demo`: each test has a chat of its own."""
    with Served("--demo") as process:
        yield process


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as found:
        yield found
