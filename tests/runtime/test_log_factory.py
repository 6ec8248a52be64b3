"""Log URLs: which adapter each form makes, and what is said of the others."""

from pathlib import Path

import pytest

from headgate.runtime.logs.factory import make_log
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.options import KafkaUrl, LogOptions, LogSecurity, SqliteUrl, parse_url
from headgate.runtime.logs.sqlite_log import SqliteLog
from tests.contract.log_suite import SystemClock, SystemRng


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("memory:", "memory:"),
        ("sqlite:data/log.db", SqliteUrl(Path("data/log.db"))),
        ("sqlite:/var/lib/log.db", SqliteUrl(Path("/var/lib/log.db"))),
        ("kafka://one:9093", KafkaUrl(("one:9093",))),
        ("kafka://one,two:9093", KafkaUrl(("one:9092", "two:9093"))),
        ("kafka://[::1]:9093,[::1]", KafkaUrl(("[::1]:9093", "[::1]:9092"))),
    ],
)
def test_the_three_forms(url: str, parsed: object) -> None:
    assert parse_url(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "sqlite",
        "sqlite:",
        "kafka:one:9092",
        "kafka://",
        "kafka://one:",
        "kafka://one:0",
        "kafka://one:x",
        "kafka://one:99999",
        "kafka://one,",
        "kafka://u:p@one:9092",
        "kafka://one:9092/x",
        "redis://one",
    ],
)
def test_another_names_what_was_seen_and_the_three(url: str) -> None:
    with pytest.raises(ValueError, match=r"memory:, sqlite:PATH or kafka://host:port,host:port") as error:
        parse_url(url)
    assert repr(url.replace(":p@", ":****@")) in str(error.value)


@pytest.mark.parametrize(
    ("url", "kind", "durable"),
    [("memory:", MemoryLog, False), ("sqlite:x.db", SqliteLog, True), ("kafka://one:9092", KafkaLog, True)],
)
async def test_each_form_has_its_adapter(url: str, kind: type, durable: bool) -> None:
    log = make_log(LogOptions(url), SystemClock(), SystemRng())
    assert isinstance(log, kind)
    assert log.durable is durable
    assert log.address == url


def test_a_password_stands_in_no_text() -> None:
    security = LogSecurity("SASL_SSL", user="me", password="hush")
    assert "hush" not in repr(LogOptions("kafka://one:9092", security=security))
