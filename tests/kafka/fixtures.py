"""Pytest fixtures that hand tests a real Kafka, and the line that says how many tests went without.

Must not know what the tests do with it. A conftest wires them: `pytest_plugins = ["tests.kafka.fixtures"]`.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NoReturn, Protocol

import pytest

from tests.kafka import jars
from tests.kafka.cluster import KafkaCluster
from tests.kafka.provide import NoKafka, provide
from tests.kafka.settings import Secured

SKIPPED = "no Kafka: "  # begins the reason of every skip that `kafka_skip_summary` counts


class OwnKafka(Protocol):
    """What the fixture `own_kafka` gives: each call starts another cluster."""

    def __call__(self, nodes: int = 1, secured: Secured | None = None) -> KafkaCluster: ...


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """Bootstrap address of the one broker that all tests of a run share: let your names begin with `log_prefix`."""
    with ExitStack() as stack:
        try:
            provided = stack.enter_context(provide())
        except NoKafka as error:
            without_kafka(str(error))
        yield provided.bootstrap


@pytest.fixture
def log_prefix() -> str:
    """`t-<8 hex>`, another for each test."""
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def kafka_jars() -> None:
    """The jars are in the cache: fetched once for the run, so that no test waits twice for a dead network."""
    try:
        jars.fetch()
    except jars.JarUnavailable as error:
        without_kafka(f"faults need processes of their own, from the jars: {error}")


@pytest.fixture
def own_kafka(kafka_jars: None) -> Iterator[OwnKafka]:
    """Start clusters that the test may kill; all are stopped after it.

    Starting blocks (one node 4 s, three 7 s): in a running loop `await asyncio.to_thread(own_kafka, 3)`.
    """
    with ExitStack() as stack:

        def start(nodes: int = 1, secured: Secured | None = None) -> KafkaCluster:
            return stack.enter_context(KafkaCluster(nodes, secured=secured))

        yield start


def without_kafka(reason: str) -> NoReturn:
    """Skip with the reason; fail where CI=true, which must never go without."""
    if os.environ.get("CI", "").lower() == "true":
        raise pytest.fail.Exception(f"{SKIPPED}{reason} (CI never skips it)", pytrace=False) from None
    pytest.skip(f"{SKIPPED}{reason}")


def kafka_skip_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly how many tests were skipped for want of Kafka; silent when none were."""
    reasons = [reason for report in terminalreporter.getreports("skipped") if (reason := _reason(report))]
    if not reasons:
        return
    terminalreporter.write_sep("!", f"{len(reasons)} tests SKIPPED for want of a real Kafka", red=True, bold=True)
    for reason in sorted(set(reasons)):
        terminalreporter.write_line(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The hook: pytest finds it here once this module is in `pytest_plugins`."""
    kafka_skip_summary(terminalreporter)


def _reason(report: object) -> str | None:
    # A skip's longrepr is (file, line, "Skipped: reason").
    longrepr = getattr(report, "longrepr", None)
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else ""
    _, found, reason = text.partition(SKIPPED)
    return reason if found else None
