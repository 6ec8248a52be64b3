"""Acknowledged subscriptions of the Python client on a real server: no message is lost where it comes back."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from headgate_client import Client, Message, Outgoing
from tests.clients.python_streams import take, until
from tests.vectors.served import Served


@pytest.fixture
def topic() -> str:
    return f"resumed.{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def owner(served: Served) -> AsyncIterator[Client]:
    async with Client(served.url, user="owner", trust_env=False) as client:
        yield client


def reader(served: Served, device: str = "one") -> Client:
    return Client(served.url, user="reader", device_id=device, trust_env=False)


async def create(owner: Client, topic: str, **retry: Any) -> None:
    body = {"topic_id": topic, "name": topic, "settings": {"retry": {"kind": "fixed", "jitter": 0, **retry}}}
    await owner.request("POST", "/api/v1/topics", body=body)


async def publish(owner: Client, topic: str, *payloads: Any) -> None:
    await owner.publish_batch([Outgoing(payload=each) for each in payloads], topic_id=topic, wait="sequenced")


async def dead_letters(owner: Client, topic: str) -> list[int]:
    answer = await owner.request("GET", "/api/v1/dead-letters", params={"topic_id": topic})
    return [letter["seq"] for letter in answer["dead_letters"]]


def cut(client: Client) -> None:
    """Ends the TCP connection without a word."""
    session: Any = client._stream.session
    session._transport._socket.transport.abort()


@pytest.mark.parametrize("start", ["earliest", {"seq": 0}, {"last": 600}])
async def test_what_is_read_again_goes_on_at_its_place_and_not_at_the_cursor(
    served: Served, owner: Client, topic: str, start: Any
) -> None:
    await publish(owner, topic, *range(600))
    async with reader(served) as client, client.subscribe(topic, from_="earliest", ack=True) as messages:
        assert (await take(messages, 600))[-1] == 600
        messages.ack(messages._current or Message(topic_id=topic))
        await messages.confirm()
    async with reader(served) as client, client.subscribe(topic, from_=start, ack="manual") as messages:
        seen = await take(messages, 100)
        cut(client)
        for _ in range(500):
            async with asyncio.timeout(20):
                message = await anext(messages)
            seen.append(message.seq)
            messages.ack(message)
        assert (seen, messages.missed) == (list(range(1, 601)), 0)


async def test_by_default_an_acknowledged_subscription_goes_on_at_its_cursor(
    served: Served, owner: Client, topic: str
) -> None:
    await publish(owner, topic, 0)
    async with reader(served) as client, client.subscribe(topic, ack=True) as messages:
        await messages.ready()
        await publish(owner, topic, 1)
        message = await asyncio.wait_for(anext(messages), 10)
        assert message.payload == 1, "a new device begins live"
        messages.ack(message)
        await messages.confirm()
    await publish(owner, topic, 2, 3, 4)  # the service is started again
    async with reader(served) as client, client.subscribe(topic, ack=True) as messages:
        async with asyncio.timeout(10):
            assert [(await anext(messages)).payload for _ in range(3)] == [2, 3, 4]


async def test_a_late_ack_of_a_topic_that_was_deleted_is_none_of_its_successor(
    served: Served, owner: Client, topic: str
) -> None:
    await create(owner, topic, first_ms=60_000, max_ms=60_000, max_attempts=3)
    await publish(owner, topic, *range(30))
    async with reader(served) as client:
        first = client.subscribe(topic, from_={"seq": 29}, ack="manual")
        old = await asyncio.wait_for(anext(first), 10)
        # The server goes on with another epoch while this client is away: it hears of it when it comes back.
        urls, client._stream._urls = client._stream._urls, ["http://127.0.0.1:9"]
        cut(client)
        await until(lambda: not first._feeds[topic].live.is_set())
        await owner.request("DELETE", f"/api/v1/topics/{topic}")
        await create(owner, topic, first_ms=60_000, max_ms=60_000, max_attempts=3)
        await publish(owner, topic, *range(5))
        client._stream._urls = urls
        async with asyncio.timeout(30):
            new = await anext(first)
        assert (old.seq, new.seq, old.epoch != new.epoch) == (30, 1, True)
        first.ack(old)
        first.ack(new)
        await first.confirm()
        first.close()
    async with reader(served) as client, client.subscribe(topic, ack="manual") as again:
        assert await take(again, 4) == [2, 3, 4, 5]


async def test_a_refused_message_that_is_done_at_last_is_no_dead_letter(
    served: Served, owner: Client, topic: str
) -> None:
    """Those above it were done before it came again: an `ack` of one of them does not count for it."""
    await create(owner, topic, first_ms=300, max_ms=300, max_attempts=3)
    tries: Counter[int] = Counter()

    async def handle(message: Message) -> None:
        tries[message.payload] += 1
        if message.payload == 0 and tries[0] == 1:
            raise RuntimeError("not yet")

    async with reader(served) as client, client.worker(topic, handle, from_="earliest") as worker:
        await worker.ready()
        await publish(owner, topic, 0, 1, 2)
        await until(lambda: worker.handled == 3)
        await asyncio.sleep(2.0)  # longer than all of its attempts
        assert (tries, await dead_letters(owner, topic)) == (Counter({0: 2, 1: 1, 2: 1}), [])


async def test_in_a_group_what_is_handed_over_is_acknowledged_beside_what_a_member_has(
    served: Served, owner: Client, topic: str
) -> None:
    await create(owner, topic, first_ms=1_500, max_ms=1_500, max_attempts=2)
    gate = asyncio.Event()
    done: Counter[int] = Counter()
    started: list[int] = []

    async def handle(message: Message) -> None:
        started.append(message.payload)
        before = len(started)
        await gate.wait()
        await asyncio.sleep((len(started) - before) * 0.01)  # what came last is done first
        done[message.payload] += 1

    async with AsyncExitStack() as stack:
        leaves = await stack.enter_async_context(reader(served, "leaves"))
        stays = await stack.enter_async_context(reader(served, "stays"))
        leaving = leaves.subscribe(topic, ack="manual", group="g", from_="earliest")
        await leaving.ready()
        worker = await stack.enter_async_context(stays.worker(topic, handle, group="g", concurrency=64))
        await worker.ready()
        await publish(owner, topic, *range(40))
        assert (await asyncio.wait_for(anext(leaving), 10)).seq is not None
        count = 40
        while count - 1 not in started:  # the newest one is the worker's from the beginning
            await publish(owner, topic, count)
            count += 1
            await asyncio.sleep(0.1)
        leaving.close()
        await until(lambda: len(set(started)) == count)
        assert started != sorted(started), "what came later has lower numbers"
        gate.set()
        await until(lambda: worker.handled == count)
        await asyncio.sleep(4.0)  # longer than all attempts
        assert await dead_letters(owner, topic) == []
        assert set(done.values()) == {1}
