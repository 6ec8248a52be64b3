"""The Python client between a subscribe and its grant, and frames that it cannot use, against a scripted server."""

import asyncio
from typing import Any

import pytest

from headgate_client import Client, Gap, RequestFailed, SubscribeRefused
from headgate_client import connection as connection_module
from headgate_client.reconnection import Backoff
from tests.clients.python_streams import Peer, streams, take, until


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few milliseconds."""
    monkeypatch.setattr(connection_module, "Backoff", lambda rnd, tries: Backoff(rnd, 0.02, tries=tries))


async def test_only_an_error_with_the_id_of_the_subscribe_ends_the_topic() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear("subscribe")
        for more in ({}, {"id": asked["id"] + 1_000}):
            await peer.say("error", "a", code="not_found", message="not followed", retryable=False, **more)
        await peer.say("subscribed", "a", id=asked["id"], profile="durable", epoch=7, seq=0)
        await peer.messages("a", 1)
        await peer.say("error", "a", id=asked["id"], code="not_found", message="late", retryable=False)
        await peer.messages("a", 2)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        assert await take(client.subscribe("a"), 2) == [1, 2]


async def test_before_the_grant_nothing_is_sent_for_a_topic_and_then_the_ack_that_is_due() -> None:
    granted = asyncio.Event()

    async def first(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1, 2)
        await peer.hear("typing")
        peer.cut()

    async def second(peer: Peer) -> None:
        asked = await peer.hear()
        assert asked["type"] == "subscribe"
        await granted.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await peer.hear()
        await peer.say("subscribed", "a", id=asked["id"], profile="durable", epoch=7, seq=2, resumed=True)
        assert await peer.hear() == {"type": "ack", "topic_id": "a", "seq": 2}
        asked = await peer.hear("presence")
        await peer.say("presence", "a", id=asked["id"], count=3, subscribers=[])
        await peer.stay()

    async with streams(first, second) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", from_="earliest", ack="manual")
        taken = [await anext(messages), await anext(messages)]
        messages.typing()
        await until(lambda: len(server.peers) == 2 and server.peers[1].heard)
        for message in taken:
            messages.ack(message)
        messages.typing()
        messages.nack(taken[0])
        messages.ack(taken[0])
        asking = asyncio.create_task(messages.presence())
        granted.set()
        assert (await asking)["count"] == 3
        assert [frame["type"] for frame in server.peers[1].heard] == ["subscribe", "ack", "presence"]


async def test_a_request_of_a_topic_that_is_not_granted_in_time_fails() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear("subscribe")
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a")
        with pytest.raises(RequestFailed, match="not_connected"):
            await messages.mark_read(1)
        await until(lambda: server.peers and server.peers[0].heard)
        with pytest.raises(TimeoutError):
            await client._stream.ask({"type": "presence", "topic_id": "a"}, 0.05)


async def test_a_gap_of_an_ephemeral_topic_has_a_count_and_no_numbers() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear("subscribe")
        await peer.say("subscribed", "a", id=asked["id"], profile="ephemeral", epoch=7, seq=0)
        await peer.say("gap", "a", count=4, reason="slow_consumer", recoverable=False)
        await peer.say("message", "a", ts=1, message_id="m", publisher_id="p", payload=1)
        await peer.stay()

    told: list[Gap] = []
    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", on_gap=told.append)
        assert await take(messages, 1) == [None]
        assert [(gap.from_seq, gap.to_seq, gap.count, gap.recoverable) for gap in told] == [(None, None, 4, False)]
        assert messages.missed == 4
        assert [message async for message in client.refetch(told[0])] == []


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "gap", "topic_id": "a", "from_seq": "x", "to_seq": 2},
        {"type": "message", "topic_id": "a", "seq": "one"},
        {"type": "message", "topic_id": ["a"]},
        {"type": "welcome", "limits": 1},
        {"type": "ok", "id": {}},
    ],
)
async def test_one_frame_that_cannot_be_used_ends_no_topic(odd: dict[str, Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1)
        await peer.say(odd["type"], **{name: value for name, value in odd.items() if name != "type"})
        await peer.messages("a", 2)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        assert await take(client.subscribe("a"), 2) == [1, 2]
        assert len(server.peers) == 1


async def test_a_subscription_that_is_forgotten_late_leaves_a_newer_one_of_its_topic_alone() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear("subscribe")
        await peer.say("error", "a", id=asked["id"], code="topic_not_found", message="none yet", retryable=False)
        await peer.subscribed("a")
        await peer.messages("a", 1)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        refused = client.subscribe("a")
        with pytest.raises(SubscribeRefused, match="topic_not_found"):
            await anext(refused)
        newer = client.subscribe("a")
        refused.close()  # as the collector does, whenever it comes
        assert await take(newer, 1) == [1]
