"""How a role puts ingest and the gateway together: readiness, origins, limits, the greeting."""

import asyncio
import resource
from typing import Any

import pytest

from headgate.cli.connection_limits import gateway_limits
from headgate.cli.greeting import greeting
from headgate.cli.roles import Parts
from headgate.core.wire import link, link_hello
from headgate.runtime import settings
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.memory_link import memory_link
from headgate.runtime.settings import Role, Settings


def of(role: Role = "dev", **env: str) -> Settings:
    given = {f"HEADGATE_{name}": value for name, value in env.items()}
    return settings.resolve(settings.load({}, None, given), role)


def failing(parts: Parts) -> dict[str, str]:
    return {name: why for name, check in parts.process.checks.items() if (why := check()) is not None}


def linked(directory: LinkDirectory, shards: int, served: int) -> None:
    """Links a dispatcher that owns the first `served` of the shards."""
    near, far = memory_link(directory.role, "dispatcher")
    directory.add(near)
    owners = [link_hello.Owner(shard, 1, "d:1", True) for shard in range(served)]
    far.send(link_hello.Welcome(link.VERSION_HIGH, "d", "c", 1, shards, owners))


async def test_one_shard_away_is_said_by_a_check_of_its_own_and_the_metric_says_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(of(), "dev", frozenset({"ingest", "gateway"}))
    log, watch = parts.log()
    to_ingest, to_gateway = LinkDirectory("ingest", "i"), LinkDirectory("gateway", "g")
    service = parts.ingest(log, watch, to_ingest, in_dev=False)
    parts.gateway(to_gateway)
    assert failing(parts) == {"log": "the log has not been reached yet", "owners": "no dispatcher has been reached yet"}
    watch.found()
    linked(to_ingest, 64, 64)
    await asyncio.sleep(0.01)
    assert set(failing(parts)) == {"owners"}, "the gateway has no link"
    linked(to_gateway, 64, 63)
    await asyncio.sleep(0.01)
    assert failing(parts) == {"some_owners": "no link to the owner of 1 of 64 shards ([63])"}
    monkeypatch.setattr(service._appender, "open_shards", lambda: [3])
    assert failing(parts)["some_circuits"] == f"{log.address} does not answer for shards 3"
    assert set(failing(parts)) == {"some_owners", "some_circuits"} == parts.process.partial
    monkeypatch.setattr(watch, "is_silent", lambda: True)
    assert failing(parts)["log"] == failing(parts)["some_circuits"], "it may be the whole log: that is said at once"
    monkeypatch.setattr(watch, "is_silent", lambda: False)
    numbers = parts.metrics.render().decode()
    assert "headgate_ready 1.0" in numbers and "headgate_circuits_open 1.0" in numbers
    assert "headgate_shards_without_owner 1.0" in numbers


async def test_without_any_owner_nothing_is_ready() -> None:
    parts = Parts(of(), "gateway", frozenset({"gateway"}))
    directory = LinkDirectory("gateway", "g")
    parts.gateway(directory)
    linked(directory, 64, 0)
    await asyncio.sleep(0.01)
    assert failing(parts) == {"owners": "no link to the owner of any of 64 shards"}
    numbers = parts.metrics.render().decode()
    assert "headgate_ready 0.0" in numbers and "headgate_shards_without_owner 64.0" in numbers


def test_the_word_loopback_beside_an_origin_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(of(HTTP__ORIGINS="https://app.example.com,loopback"), "dev", frozenset({"ingest", "gateway"}))
    log, watch = parts.log()
    ingest = parts.ingest(log, watch, LinkDirectory("ingest", "twin"), in_dev=True)
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
