"""Functions of the application that the Python client calls: what they raise, and where they are cancelled."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate_client import Client, Gap, Message, State
from headgate_client import connection as connection_module
from headgate_client.reconnection import Backoff
from tests.clients.python_streams import Peer, ends, gives, streams, take, until


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few milliseconds."""
    monkeypatch.setattr(connection_module, "Backoff", lambda rnd, tries: Backoff(rnd, 0.02, tries=tries))


async def test_a_function_for_frames_that_fails_loses_no_message(caplog: pytest.LogCaptureFixture) -> None:
    def look(frame: dict[str, Any], _: bytes) -> None:
        if frame.get("seq") == 2:
            raise KeyError("mine")

    async with (
        streams(gives("a", 1, 2, 3)) as server,
        Client(server.url, trust_env=False, on_frame=look) as client,
    ):
        assert await take(client.subscribe("a"), 3) == [1, 2, 3]
    assert "a function of the application failed" in caplog.text


async def test_a_function_for_states_that_fails_ends_nothing() -> None:
    def tell(state: State) -> None:
        raise KeyError(state)

    async with (
        streams(ends("a", None, 1), gives("a", 2)) as server,
        Client(server.url, trust_env=False, on_state=tell) as client,
    ):
        assert await take(client.subscribe("a", from_="earliest"), 2) == [1, 2]


@pytest.mark.parametrize("form", ["iterator", "async function"])
async def test_a_timeout_around_the_next_message_loses_nothing_of_a_gap(form: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.say("gap", "a", from_seq=1, to_seq=3, count=3, reason="slow_consumer", recoverable=True)
        await peer.messages("a", 4)
        await peer.stay()

    async def slowly(gap: Gap) -> AsyncIterator[Message]:
        assert gap.from_seq is not None and gap.to_seq is not None
        for seq in range(gap.from_seq, gap.to_seq + 1):
            await asyncio.sleep(0.05)
            yield Message(topic_id="a", seq=seq, epoch=7)

    async def later(gap: Gap) -> list[Message]:
        return [message async for message in slowly(gap)]

    seen: list[int | None] = []
    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", on_gap=slowly if form == "iterator" else later)
        await messages.ready()
        for _ in range(60):
            try:
                async with asyncio.timeout(0.02):
                    seen.append((await anext(messages)).seq)
            except TimeoutError:
                continue
            if seen[-1] == 4:
                break
    assert seen == [1, 2, 3, 4]


async def test_what_a_refetch_raises_reaches_the_application_and_the_rest_goes_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.say("gap", "a", from_seq=1, to_seq=3, count=3, reason="slow_consumer", recoverable=True)
        await peer.messages("a", 4)
        await peer.stay()

    async def fails(_: Gap) -> AsyncIterator[Message]:
        yield Message(topic_id="a", seq=1, epoch=7)
        raise OSError("history is away")

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", on_gap=fails)
        assert await take(messages, 1) == [1]
        with pytest.raises(OSError, match="history is away"):
            await anext(messages)
        assert await take(messages, 1) == [4]


async def test_a_number_that_the_server_leaves_out_is_a_gap() -> None:
    told: list[Gap] = []
    async with streams(gives("a", 1, 2, 6)) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", on_gap=told.append)
        assert await take(messages, 3) == [1, 2, 6]
        found = [(gap.from_seq, gap.to_seq, gap.reason, gap.recoverable, gap.epoch) for gap in told]
        assert (found, messages.missed) == ([(3, 5, "missing", True, 7)], 3)


async def test_a_close_that_is_cancelled_leaves_no_connection_behind() -> None:
    async def script(peer: Peer) -> None:
        await peer.stay()

    async with streams(script) as server:
        client = Client(server.url, trust_env=False)
        following = [client.subscribe(f"t{number}") for number in range(200)]  # more than the rate lets through
        await until(lambda: server.peers)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.close()
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("headgate")])
        assert client.state is State.CLOSED
        assert [message async for message in following[0]] == []
        await client.close()


async def test_a_topic_that_is_refused_for_now_is_asked_for_ever_less_often(caplog: pytest.LogCaptureFixture) -> None:
    async with Client("http://127.0.0.1:9", trust_env=False) as client:
        feed = client.subscribe("a")._feeds["a"]
        waits = [max(feed.again_in_s(None) for _ in range(3)) for _ in range(20)]
        assert 1.0 <= feed.again_in_s(None) <= 31.0 and max(waits) > 10.0
        assert feed.again_in_s(60_000) >= 60.0
        feed.take({"type": "subscribed", "topic_id": "a", "profile": "durable", "epoch": 7, "seq": 0}, b"")
        assert feed.again_in_s(None) <= 2.0, "it was granted meanwhile"


async def test_a_refusal_is_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        number = (await peer.hear("subscribe"))["id"]
        await peer.say("error", "a", id=number, code="limit_reached", message="128 topics", retryable=True)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a")
        await until(lambda: "a: limit_reached: 128 topics; it is asked for again in" in caplog.text)
        messages.close()


async def test_the_first_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headgate_client")
    async with streams(gives("a", 1)) as server:
        server.refusals = [503, 503, 503]
        async with Client(server.url, trust_env=False) as client:
            assert await take(client.subscribe("a"), 1) == [1]
    levels = [record.levelname for record in caplog.records if "HTTP 503" in record.message]
    assert levels == ["WARNING", "INFO", "INFO"]
    assert "WARNING" not in [record.levelname for record in caplog.records if "was lost" in record.message], "we left"
