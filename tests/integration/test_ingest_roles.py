"""How a role puts ingest and the gateway together: readiness, origins, limits, the greeting."""

import resource
from typing import Any

import pytest

from headgate.cli.connection_limits import gateway_limits
from headgate.cli.greeting import greeting
from headgate.cli.roles import Parts
from headgate.runtime import settings
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.settings import Role, Settings


def of(role: Role = "dev", **env: str) -> Settings:
    given = {f"HEADGATE_{name}": value for name, value in env.items()}
    return settings.resolve(settings.load({}, None, given), role)


async def test_ingest_is_not_ready_while_a_shard_s_circuit_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(of(), "ingest", frozenset({"ingest"}))
    log, watch = parts.log()
    service = parts.ingest(log, LinkDirectory("ingest", "twin"), in_dev=False)
    check = parts.process.checks["log"]
    assert check() == "the log has not been reached yet"
    watch.found()
    assert check() is None
    monkeypatch.setattr(service._appender, "open_shards", lambda: [3])
    assert check() == f"{log.address} does not answer for shards 3"


def test_the_word_loopback_beside_an_origin_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(of(HTTP__ORIGINS="https://app.example.com,loopback"), "dev", frozenset({"ingest", "gateway"}))
    log, _ = parts.log()
    ingest = parts.ingest(log, LinkDirectory("ingest", "twin"), in_dev=True)
    gateway = parts.gateway(LinkDirectory("gateway", "twin"))
    users = ingest.app._users
    assert users is not None
    for origins in (users._origins, gateway.origins):
        assert origins.allows("http://localhost:3000", "h") and origins.allows("https://app.example.com", "h")
        assert not origins.allows("https://evil.example.com", "h")


@pytest.mark.parametrize(
    ("hard", "connections"),
    [(1_024, 768), (100, 64), (1_048_576, 100_000), (resource.RLIM_INFINITY, 100_000)],
)
def test_connections_unset_are_what_the_descriptor_limit_allows(
    monkeypatch: pytest.MonkeyPatch, hard: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, hard))
    assert gateway_limits(of()).connections == connections
    assert gateway_limits(of(LIMITS__CONNECTIONS="5")).connections == 5


@pytest.mark.parametrize("mode", ["open", "jwt"])
def test_the_curls_of_the_greeting_carry_a_token_where_one_is_needed(mode: str) -> None:
    env: dict[str, Any] = {} if mode == "open" else {"AUTH__SECRET": "a secret of at least thirty-two bytes"}
    said = greeting(of(**env), 8080, durable=False, address="memory:")
    curls = [line for line in said.splitlines() if line.startswith("curl ")]
    assert len(curls) == 2
    assert all(('-H "Authorization: Bearer $TOKEN"' in line) == (mode == "jwt") for line in curls)
    minted = [line for line in said.splitlines() if line.startswith("TOKEN=$(headgate token mint --sub me")]
    assert len(minted) == 2 * (mode == "jwt")


@pytest.mark.parametrize("demo", [True, False])
def test_the_greeting_says_where_the_chat_is(demo: bool) -> None:
    env: dict[str, Any] = {"DEV__DEMO": "true"} if demo else {}
    said = greeting(of(**env), 8080, durable=False, address="memory:")
    assert ("http://127.0.0.1:8080/  (open" in said) == demo
