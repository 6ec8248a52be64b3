"""The Python client where WebSockets are blocked: event streams, with the same promises."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from headgate_client import (
    Client,
    ConnectionStopped,
    Event,
    Presence,
    RequestFailed,
    State,
    Subscribed,
    SubscribeRefused,
    SubscriptionEnded,
    Ticket,
    feed,
)
from headgate_client import connection as connection_module
from headgate_client.reconnection import Backoff
from tests.clients.cutting_proxy import CuttingProxy, cutting
from tests.clients.python_applications import Reader, Writer
from tests.clients.python_streams import take, until
from tests.e2e.harness import SECRET, Role, Stage, at_most, token
from tests.e2e.harness import until as soon
from tests.vectors.served import Served

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TOPICS = ["blocked.a", "blocked.b", "blocked.c"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few milliseconds."""
    monkeypatch.setattr(connection_module, "Backoff", lambda rnd, tries: Backoff(rnd, 0.05, tries=tries))
    monkeypatch.setattr(feed, "AGAIN_S", 0.02)


@pytest.fixture(params=[FORBIDDEN, b""], ids=["answered 403", "reset"])
async def blocking(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[CuttingProxy]:
    """A proxy that lets no WebSocket through, in front of a server in open mode."""
    async with cutting(int(served.url.rpartition(":")[2]), seed=1, blocked=request.param) as proxy:
        proxy.cutting = False
        yield proxy


async def test_where_a_proxy_blocks_websockets_topics_are_followed_and_resumed(blocking: CuttingProxy) -> None:
    topic, other = (f"blocked.{uuid.uuid4().hex}" for _ in range(2))
    states: list[State] = []
    events: list[type[Event]] = []
    async with Client(blocking.url, user="ann", trust_env=False, on_state=states.append) as client:
        for number in (1, 2):
            await client.publish(topic, number)
        both = client.subscribe(topic, other, from_="earliest", on_event=lambda event: events.append(type(event)))
        assert await take(both, 2) == [1, 2]
        assert blocking.refused >= 1 and client.state is State.OPEN
        await client.publish(other, 3)
        assert (await anext(both)).payload == 3
        assert {Subscribed, Presence} <= set(events)
        await client.request("DELETE", f"/api/v1/topics/{other}/subscribe")
        with pytest.raises(SubscriptionEnded, match="the subscription ended"):
            await anext(both)
        await client.publish(topic, 4)
        assert await take(both, 1) == [3]
    assert states[-1] is State.CLOSED


async def test_what_event_streams_cannot_do_is_one_clear_error(served: Served) -> None:
    async with Client(served.url, user="bea", transport="sse", trust_env=False) as client:
        plain = client.subscribe("sse.limits")
        await plain.ready()
        for refused in (plain.presence(), plain.mark_read(1)):
            with pytest.raises(RequestFailed, match=r"needs_websocket: .* needs a WebSocket"):
                await refused
        for more in ({"ack": True}, {"ack": True, "group": "g"}):
            with pytest.raises(SubscribeRefused, match="needs_websocket: acknowledgements and groups need a WebSocket"):
                await anext(client.subscribe("sse.acked", **more))
        await client.publish("sse.limits", 1)
        assert await take(plain, 1) == [1]
        plain.close()
        again = client.subscribe("sse.limits", from_={"seq": 0})
        assert await take(again, 1) == [1]


async def test_where_websockets_are_blocked_an_acknowledged_subscription_says_so(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    async with (
        cutting(port, seed=1, blocked=FORBIDDEN) as proxy,
        Client(proxy.url, user="cal", trust_env=False) as client,
    ):
        with pytest.raises(ConnectionStopped, match=r"403.*acknowledgements need a WebSocket"):
            await anext(client.subscribe("sse.acked", ack=True))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Processes that end with the test."""
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.close()


async def test_connections_are_cut_and_the_server_is_killed_and_all_comes_once_in_order(stage: Stage) -> None:
    dev = stage.dev(data=True, auth__mode="open").start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(cutting(dev.port, seed=11, blocked=FORBIDDEN))
        readers = [Reader(f"r{n}", [dev.url], [proxy.url], TOPICS, "earliest", user=f"r{n}") for n in range(4)]
        for reader in readers:
            await stack.enter_async_context(reader)
        writer = await stack.enter_async_context(Writer([dev.url], TOPICS, user="w"))
        await soon("many connections were cut", lambda: proxy.cuts >= 25, 60)
        await _killed(dev)
        await soon("many more were cut", lambda: proxy.cuts >= 45, 60)
        proxy.cutting = False
        await writer.stop()
        due = len(readers) * sum(map(len, writer.sent.values()))
        await at_most(30, lambda: sum(reader.count for reader in readers) >= due)
        for reader in readers:
            reader.check(writer.sent)
    assert proxy.refused >= len(readers)
    print(f"{proxy.cuts} cuts and a kill -9 over event streams: {writer.total} messages, each once, in order")


async def test_a_slow_reader_stops_the_responses_and_loses_nothing(served: Served) -> None:
    async with Client(served.url, user="dan", transport="sse", queue_messages=10, trust_env=False) as client:
        slow = client.subscribe("sse.slow", from_="earliest")
        for _ in range(5):
            answers = await asyncio.gather(*(client.publish("sse.slow", "x" * 10_000) for _ in range(20)))
            assert len(answers) == 20
        await asyncio.sleep(0.3)
        assert len(slow._queue) <= 10, "the rest waits in the server, and in buffers of a bounded size"
        assert await take(slow, 100) == list(range(1, 101))


async def test_a_token_is_renewed_and_a_ticket_is_good_for_one_stream(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    dev = stage.dev(auth__secret=SECRET).start()
    await dev.ready()
    fetched: list[str] = []

    async def fetch() -> str:
        fetched.append(token("ann") if len(fetched) else "not.a.token")
        return fetched[-1]

    async with Client(dev.url, credentials=fetch, transport="sse", trust_env=False) as client:
        await _follows(client)
    assert len(fetched) == 2, "one that was refused, and another"

    async def ticket() -> Ticket:
        async with Client(dev.url, token=token("ann"), trust_env=False) as other:
            return Ticket((await other.request("POST", "/api/v1/tickets", body={}))["ticket"])

    async with Client(dev.url, credentials=ticket, transport="sse", trust_env=False) as client:
        both = client.subscribe("sse.t", "sse.u", from_="live")
        await both.ready()
        assert len(await _live(client)) == 2, "a ticket of its own for each stream"
    assert "ticket=***" in caplog.text and caplog.text.count("ticket=") == caplog.text.count("ticket=***")


async def _follows(client: Client) -> None:
    messages = client.subscribe("sse.t", from_="earliest")
    await messages.ready()
    await client.publish("sse.t", 1)
    assert await take(messages, 1) == [1]


async def _live(client: Client) -> list[Any]:
    feeds = list(client._stream.feeds.values())
    await until(lambda: all(feed.live.is_set() and not feed.ended.is_set() for feed in feeds))
    return feeds


async def _killed(dev: Role) -> None:
    dev.kill9()
    await asyncio.sleep(0.3)
    dev.start()
    await dev.ready()
