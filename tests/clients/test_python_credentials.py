"""Tokens and tickets of the Python client's streams: how they are presented, when they are renewed, when it stops."""

import asyncio
from collections.abc import Iterator

import pytest

from headgate_client import Client, ConnectionStopped, CredentialsFailed, Ticket
from headgate_client import connection as connection_module
from headgate_client.credentials import PAUSE_S, Credentials
from headgate_client.reconnection import Backoff
from tests.clients.python_streams import Peer, ends, gives, streams, take
from tests.vectors.tokens import sign


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few milliseconds."""
    monkeypatch.setattr(connection_module, "Backoff", lambda rnd, tries: Backoff(rnd, 0.02, tries=tries))


async def test_a_static_token_is_a_header_and_a_ticket_is_in_the_url() -> None:
    async with streams(gives("a", 1)) as server:
        async with Client(server.url, token="abc", trust_env=False) as client:
            await take(client.subscribe("a"), 1)
        async with Client(server.url, ticket="x y", trust_env=False) as client:
            await take(client.subscribe("a"), 1)
        assert server.tokens == ["Bearer abc", None]
        assert server.paths == ["/ws/subscribe", "/ws/subscribe?ticket=x%20y"]


async def test_a_ticket_is_fetched_for_each_connection() -> None:
    tickets = iter(["t1", "t2"])

    async def fetch() -> Ticket:
        return Ticket(next(tickets))

    async with (
        streams(ends("a", 4610, 1), gives("a", 2)) as server,
        Client(server.url, credentials=fetch, trust_env=False) as client,
    ):
        assert await take(client.subscribe("a"), 2) == [1, 2]
        assert [path[-2:] for path in server.paths] == ["t1", "t2"]


def counted() -> Iterator[str]:
    return (f"token-{number}" for number in range(1, 100))


async def test_a_token_that_is_refused_is_fetched_once_more_and_then_it_stops() -> None:
    tokens = counted()

    async def fetch() -> str:
        return next(tokens)

    async def refuse(peer: Peer) -> None:
        await peer.end(4401, reconnect=False)

    async with (
        streams(refuse, gives("a", 1)) as server,
        Client(server.url, credentials=fetch, trust_env=False) as client,
    ):
        assert await take(client.subscribe("a"), 1) == [1]
        assert server.tokens == ["Bearer token-1", "Bearer token-2"]
    async with streams(refuse) as server, Client(server.url, credentials=fetch, trust_env=False) as client:
        with pytest.raises(ConnectionStopped, match="4401"):
            await take(client.subscribe("a"), 1)
        assert len(server.peers) == 2


async def test_an_expired_token_without_a_function_stops() -> None:
    async with streams(ends("a", 4610)) as server, Client(server.url, token="t", trust_env=False) as client:
        with pytest.raises(ConnectionStopped, match="4610"):
            await take(client.subscribe("a"), 1)


async def test_a_token_is_renewed_before_it_expires() -> None:
    made: list[str] = []

    async def fetch() -> str:
        made.append(sign({"exp_in": 1.0 if not made else 300.0}, "ann"))
        return made[-1]

    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        asked = await peer.hear("refresh")
        assert asked["token"] == made[1] != made[0]
        await peer.say("refreshed", id=asked["id"])
        await peer.messages("a", 1)
        await peer.stay()

    async with streams(script) as server, Client(server.url, credentials=fetch, trust_env=False) as client:
        assert await take(client.subscribe("a"), 1) == [1]
        assert (len(server.peers), len(made)) == (1, 2)


async def test_a_token_that_does_not_say_when_is_renewed_when_the_server_says_so() -> None:
    tokens = counted()

    async def fetch() -> str:
        return next(tokens)

    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.say("token_expiring", in_ms=60_000)
        asked = await peer.hear("refresh")
        assert asked["token"] == "token-2"
        await peer.say("refreshed", id=asked["id"])
        await peer.messages("a", 1)
        await peer.stay()

    async with streams(script) as server, Client(server.url, credentials=fetch, trust_env=False) as client:
        assert await take(client.subscribe("a"), 1) == [1]


async def test_a_function_that_fails_is_asked_again() -> None:
    asked = 0

    async def fetch() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("no backend")
        return "t"

    async with streams(gives("a", 1)) as server, Client(server.url, credentials=fetch, trust_env=False) as client:
        assert await take(client.subscribe("a"), 1) == [1]


async def test_a_function_that_fails_leaves_a_token_that_is_still_good(caplog: pytest.LogCaptureFixture) -> None:
    now, asked = 1_000.0, 0

    async def fetch() -> str:
        nonlocal asked
        asked += 1
        if asked != 1:
            raise OSError("no backend")
        return sign({"claims": {"exp": 1_100}, "exp_in": None}, "a")

    credentials = Credentials(fetch, clock=lambda: now)
    first = await credentials.get()
    now = 1_081.0  # due, and good for 19 s more
    assert await credentials.get() == first == await credentials.get()
    assert (asked, "is good for 19 s more" in caplog.text) == (2, True)
    now += PAUSE_S
    assert (await credentials.get(), asked) == (first, 3)
    now = 1_100.0
    with pytest.raises(CredentialsFailed, match="no backend"):
        await credentials.get()


async def test_of_a_renewed_token_that_is_refused_another_one_is_fetched() -> None:
    made: list[str] = []

    async def fetch() -> str:
        made.append(sign({"exp_in": 1.0 if not made else 300.0}, f"ann-{len(made)}"))
        return made[-1]

    async def first(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.say("refreshed", id=(await peer.hear("refresh"))["id"])
        await asyncio.sleep(0.05)
        await peer.end(4401)  # all tokens that were made until now were revoked

    async with (
        streams(first, gives("a", 1)) as server,
        Client(server.url, credentials=fetch, trust_env=False) as client,
    ):
        assert await take(client.subscribe("a"), 1) == [1]
        assert (server.tokens[1], len(made)) == (f"Bearer {made[2]}", 3)
