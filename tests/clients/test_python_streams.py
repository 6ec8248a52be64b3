"""The Python client against a scripted server: where it comes back, what it drops, what it says, when it stops."""

import asyncio
import gc
import time
from typing import Any

import pytest

from headgate_client import (
    Client,
    ConnectionStopped,
    Event,
    Gap,
    Message,
    Presence,
    State,
    SubscribeRefused,
    Subscription,
    SubscriptionEnded,
    Unreachable,
    feed,
    reconnection,
    session,
)
from headgate_client import connection as connection_module
from tests.clients.python_streams import Peer, ends, gives, streams, take, until


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few milliseconds; the real ones are values in test_python_pure.py."""
    monkeypatch.setattr(connection_module, "Backoff", lambda rnd, tries: reconnection.Backoff(rnd, 0.02, tries=tries))
    monkeypatch.setattr(feed, "AGAIN_S", 0.02)


@pytest.mark.parametrize("how", [4503, 4508, 4601, 4602, 1001, 1012, None])
async def test_it_comes_back_where_it_was_and_drops_what_it_has(how: int | None) -> None:
    async with (
        streams(ends("a", how, 1, 2, retry_after_ms=10), gives("a", 1, 2, 3, resumed=True)) as server,
        Client(server.url, trust_env=False) as client,
    ):
        assert await take(client.subscribe("a", from_="earliest"), 3) == [1, 2, 3]
        assert [peer.heard[0]["from"] for peer in server.peers] == ["earliest", {"epoch": 7, "seq": 2}]


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4408, 4409, 1009])
async def test_it_stops_where_the_class_says_so(code: int) -> None:
    async with streams(ends("a", code)) as server, Client(server.url, trust_env=False) as client:
        with pytest.raises(ConnectionStopped) as stopped:
            await take(client.subscribe("a"), 1)
        assert (stopped.value.code, client.state, len(server.peers)) == (code, State.STOPPED, 1)
        with pytest.raises(ConnectionStopped):
            client.subscribe("b")


async def test_a_server_that_says_do_not_come_back_is_obeyed() -> None:
    async def script(peer: Peer) -> None:
        await peer.end(4503, reconnect=False)

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        with pytest.raises(ConnectionStopped, match="4503"):
            await take(client.subscribe("a"), 1)


async def test_it_waits_as_long_as_the_server_asks() -> None:
    async with (
        streams(ends("a", 4503, retry_after_ms=400), gives("a", 1)) as server,
        Client(server.url, trust_env=False) as client,
    ):
        began = time.monotonic()
        assert await take(client.subscribe("a"), 1) == [1]
        assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_busy_server_is_asked_again(status: int) -> None:
    async with streams(gives("a", 1)) as server, Client(server.url, trust_env=False) as client:
        server.refusals = [status, status]
        assert await take(client.subscribe("a"), 1) == [1]


@pytest.mark.parametrize("how", [{"transport": "websocket"}, {"ack": True}])
async def test_a_refused_handshake_stops_where_only_a_websocket_will_do(how: dict[str, Any]) -> None:
    ack = how.pop("ack", False)
    async with streams(gives("a", 1)) as server, Client(server.url, trust_env=False, **how) as client:
        server.refusals = [403]
        with pytest.raises(ConnectionStopped, match=r"403.*acknowledgements need" if ack else "403"):
            await take(client.subscribe("a", ack=ack), 1)


async def test_of_several_servers_the_next_is_tried() -> None:
    async with (
        streams(gives("a", 1)) as server,
        Client(server.url, stream_url=["http://127.0.0.1:9", server.url], trust_env=False) as client,
    ):
        assert await take(client.subscribe("a"), 1) == [1]


async def test_without_retry_first_a_server_that_is_not_there_is_an_error() -> None:
    async with Client("http://127.0.0.1:9", retry_first=False, trust_env=False) as client:
        with pytest.raises(Unreachable, match="cannot reach"):
            await take(client.subscribe("a"), 1)


async def test_several_topics_share_a_connection_and_each_has_its_place() -> None:
    async def first(peer: Peer) -> None:
        await peer.subscribed("a", 3)
        await peer.subscribed("b", 8)
        await peer.messages("a", 4)
        await peer.end(4601)

    async def second(peer: Peer) -> None:
        await peer.subscribed("a", 4)
        await peer.subscribed("b", 9)
        await peer.messages("b", 9)
        await peer.stay()

    async with streams(first, second) as server, Client(server.url, trust_env=False) as client:
        both = client.subscribe("a", "b")
        async with asyncio.timeout(10):
            assert [(m.topic_id, m.seq) for m in [await anext(both), await anext(both)]] == [("a", 4), ("b", 9)]
        assert [frame["from"] for frame in server.peers[1].heard] == [{"epoch": 7, "seq": 4}, {"epoch": 7, "seq": 8}]


async def test_a_topic_that_is_refused_does_not_end_the_others() -> None:
    async def script(peer: Peer) -> None:
        number = (await peer.hear("subscribe"))["id"]
        await peer.say("error", "a", id=number, code="topic_not_found", message="there is no topic a", retryable=False)
        await peer.subscribed("b")
        await peer.messages("b", 1)
        await peer.say("unsubscribed", "b", reason="deleted")
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        both = client.subscribe("a", "b")
        with pytest.raises(SubscribeRefused, match="topic_not_found"):
            await anext(both)
        assert await take(both, 1) == [1]
        with pytest.raises(SubscriptionEnded, match="deleted"):
            await anext(both)
        with pytest.raises(StopAsyncIteration):
            await anext(both)


async def test_an_owner_that_is_away_is_asked_again() -> None:
    async def script(peer: Peer) -> None:
        number = (await peer.hear("subscribe"))["id"]
        await peer.say("error", "a", id=number, code="not_ready", message="away", retryable=True, retry_after_ms=10)
        await peer.subscribed("a")
        await peer.messages("a", 1)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        assert await take(client.subscribe("a"), 1) == [1]


async def test_a_gap_is_told_in_its_place_and_refetched() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1)
        await peer.say("gap", "a", from_seq=2, to_seq=4, count=3, reason="slow_consumer", recoverable=True)
        await peer.messages("a", 3, 5)
        await peer.stay()

    told: list[Gap] = []

    async def refetch(gap: Gap) -> list[Message]:
        told.append(gap)
        assert gap.from_seq is not None and gap.to_seq is not None
        return [Message(topic_id="a", seq=seq) for seq in range(gap.from_seq, gap.to_seq + 1)]

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", on_gap=refetch)
        assert await take(messages, 5) == [1, 2, 3, 4, 5]
        assert [(gap.from_seq, gap.to_seq, gap.recoverable, gap.epoch) for gap in told] == [(2, 4, True, 7)]
        assert messages.missed == 3


async def test_a_topic_that_was_created_again_is_a_gap_and_read_from_its_beginning() -> None:
    async def second(peer: Peer) -> None:
        await peer.subscribed("a", 2, epoch=9, resumed=False, reason="epoch_changed")
        await peer.messages("a", 1, 2)
        await peer.stay()

    told: list[str] = []
    async with streams(ends("a", 4601, 1, 2, 3), second) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", on_gap=lambda gap: told.append(gap.reason))
        assert await take(messages, 5) == [1, 2, 3, 1, 2]
        assert told == ["recreated"]


async def test_events_come_in_their_place() -> None:
    async def script(peer: Peer) -> None:
        assert (await peer.subscribed("a"))["presence"] is True
        await peer.say("presence", "a", subscribers=[{"user_id": "ann"}], count=1)
        await peer.messages("a", 1)
        await peer.stay()

    seen: list[Any] = []

    async def note(event: Event) -> None:
        seen.append(event)

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.subscribe("a", presence=True, on_event=note) as messages:
            seen.append(await anext(messages))
        assert [type(each).__name__ for each in seen] == ["Subscribed", "Presence", "Message"]
        assert isinstance(seen[1], Presence) and seen[1].frame["count"] == 1


async def test_a_slow_reader_stops_the_socket_and_loses_nothing() -> None:
    """The bound is passed only by what was read already; the server sees a socket that takes no more."""
    total, sent = 3_000, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.subscribed("a")
        for seq in range(1, total + 1):
            await peer.messages("a", seq, pad="x" * 4_000)
            sent = seq
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False, queue_messages=50) as client:
        messages = client.subscribe("a")
        await messages.ready()
        await asyncio.sleep(0.5)
        assert len(messages._queue) == 50
        assert sent < total, "the server could not send the rest"
        assert await take(messages, total) == list(range(1, total + 1))


async def test_the_bound_in_bytes_holds_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        for seq in range(1, 100):
            await peer.messages("a", seq, pad="x" * 10_000)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False, queue_bytes=100_000) as client:
        messages = client.subscribe("a")
        await messages.ready()
        await asyncio.sleep(0.3)
        assert len(messages._queue) == 10
        assert await take(messages, 99) == list(range(1, 100))


async def test_a_connection_on_which_nothing_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(session, "PING_TIMEOUT_S", 0.05)

    async def frozen(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1)
        peer.socket.transport.pause_reading()  # no pong any more
        await asyncio.sleep(0.5)
        peer.cut()

    async with streams(frozen, gives("a", 2)) as server, Client(server.url, trust_env=False) as client:
        assert await take(client.subscribe("a"), 2) == [1, 2]


async def test_a_reader_that_takes_its_time_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(session, "PING_TIMEOUT_S", 0.05)

    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        for seq in range(1, 2_000):
            await peer.messages("a", seq, pad="x" * 4_000)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False, queue_messages=10) as client:
        messages = client.subscribe("a")
        await messages.ready()
        await asyncio.sleep(0.5)
        assert await take(messages, 1_999) == list(range(1, 2_000))
        assert len(server.peers) == 1


async def test_leaving_ends_the_iterator_and_the_topic_can_be_followed_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1)
        left = await peer.hear("unsubscribe")
        await peer.say("unsubscribed", left["topic_id"], reason="requested", id=left["id"])
        await peer.subscribed("a")
        await peer.messages("a", 2)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.subscribe("a") as messages:
            assert await take(messages, 1) == [1]
            with pytest.raises(SubscribeRefused, match="already_subscribed"):
                client.subscribe("a")
        assert [m.seq async for m in messages] == []
        assert await take(client.subscribe("a"), 1) == [2]


async def test_a_loop_that_is_left_leaves_the_topic() -> None:
    async with streams(gives("a", 1, 2, 3)) as server, Client(server.url, trust_env=False) as client:
        async for _ in client.subscribe("a"):
            break
        gc.collect()
        await until(lambda: server.peers[0].heard[-1]["type"] == "unsubscribe")


async def test_closing_the_client_ends_every_iterator() -> None:
    async with streams(gives("a", 1)) as server:
        client = Client(server.url, trust_env=False)
        messages = client.subscribe("a")
        reading = asyncio.create_task(_all(messages))
        await messages.ready()
        await until(lambda: len(messages._queue) == 0)
        await client.close()
        assert [m.seq for m in await reading] == [1]
        assert client.state is State.CLOSED


async def test_closing_does_not_wait_for_a_server_that_goes_at_the_same_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1)
        await peer.hear("ack")

    async with streams(script) as server:
        client = Client(server.url, trust_env=False)
        messages = client.subscribe("a", ack="manual")
        messages.ack(await anext(messages))
        await until(lambda: client.state is not State.OPEN or server.peers[0].heard[-1]["type"] == "ack")
        async with asyncio.timeout(2):
            await client.close()
        await asyncio.sleep(0.1)
        assert len(server.peers) <= 2


async def _all(messages: Subscription) -> list[Message]:
    return [message async for message in messages]


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[1]", b"{", b'{"type":"new","topic_id":"a"}', b"[" * 100_000])
async def test_what_the_client_does_not_know_is_passed_over(text: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.socket.send(text)
        await peer.messages("a", 1)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        assert await take(client.subscribe("a"), 1) == [1]


async def test_states_are_told() -> None:
    seen: list[State] = []
    async with streams(ends("a", 4503, 1), gives("a", 2)) as server:
        async with Client(server.url, on_state=seen.append, trust_env=False) as client:
            await take(client.subscribe("a"), 2)
        opened = [State.FETCHING, State.OPENING, State.OPEN]
        assert seen == [*opened, State.WAITING, *opened, State.CLOSED]


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ws://x"}, {"url": []}, {"token": "a", "ticket": "b"}, {"queue_messages": 0}, {"queue_bytes": 0},
    ],
)  # fmt: skip
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Client(**wrong)


async def test_wrong_subscriptions() -> None:
    client = Client()
    cases: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), {}), (("a", "a"), {}), (("a",), {"ack": "yes"}), (("a",), {"group": "g"}),
    ]  # fmt: skip
    for topics, more in cases:
        with pytest.raises(ValueError):
            client.subscribe(*topics, **more)
    assert client.state is State.IDLE
