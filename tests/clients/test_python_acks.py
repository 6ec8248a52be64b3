"""Acknowledged subscriptions and workers of the Python client, against a server that plays the protocol's part."""

import asyncio
from typing import Any

import pytest

from headgate_client import Client, Message, RequestFailed, SubscribeRefused, SubscriptionEnded
from headgate_client import connection as connection_module
from headgate_client.reconnection import Backoff
from tests.clients.python_streams import Peer, streams, until


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few milliseconds."""
    monkeypatch.setattr(connection_module, "Backoff", lambda rnd, tries: Backoff(rnd, 0.02, tries=tries))


def settled(peer: Peer) -> list[tuple[str, int]]:
    """The acks and nacks that came, each once where one was repeated in a row."""
    found: list[tuple[str, int]] = []
    for frame in peer.heard:
        if frame["type"] in ("ack", "nack") and found[-1:] != [(frame["type"], frame["seq"])]:
            found.append((frame["type"], frame["seq"]))
    return found


async def test_a_message_is_acknowledged_when_the_body_of_the_loop_is_over() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.subscribed("a")
        assert (asked["ack"], asked["device_id"], asked["from"]) == (True, "phone", "cursor")
        await peer.messages("a", 1)
        assert await peer.hear() == {"type": "ack", "topic_id": "a", "seq": 1}
        await peer.messages("a", 2)
        await peer.stay()

    async with streams(script) as server:
        async with Client(server.url, device_id="phone", trust_env=False) as client:
            messages = client.subscribe("a", from_="cursor", ack=True)
            assert (await anext(messages)).seq == 1
            await asyncio.sleep(0.05)
            assert settled(server.peers[0]) == [], "its body is not over"
            assert (await anext(messages)).seq == 2
            assert settled(server.peers[0]) == [("ack", 1)]
        assert settled(server.peers[0]) == [("ack", 1)], "a body that was left does not acknowledge"


async def test_manual_acks_are_sent_in_order_and_before_the_connection_closes() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", *range(1, 501))
        await peer.stay()

    async with streams(script) as server:
        async with Client(server.url, trust_env=False) as client:
            messages = client.subscribe("a", ack="manual")
            for _ in range(500):
                messages.ack(await anext(messages))
        await until(lambda: settled(server.peers[0])[-1:] == [("ack", 500)])
        acks = [frame["seq"] for frame in server.peers[0].heard if frame["type"] == "ack"]
        assert acks == sorted(acks)
        assert len(acks) <= 120, "the server's rate holds: the newest takes the place of those that wait"


async def test_redeliveries_of_what_is_not_acknowledged_are_passed_on_and_others_dropped() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1, 2, 3)
        await peer.hear("ack")
        await peer.messages("a", 1, 2, 3, attempt=2)
        await peer.messages("a", 4)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", ack="manual")
        first, *_ = [await anext(messages) for _ in range(3)]
        messages.ack(first)
        seen = [await anext(messages) for _ in range(3)]
        assert [(message.seq, message.attempt) for message in seen] == [(2, 2), (3, 2), (4, 1)]
        await until(lambda: len(server.peers[0].heard) == 3)
        assert settled(server.peers[0]) == [("ack", 1)], "what was settled is acknowledged again"


async def test_a_refused_message_comes_again_and_the_others_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1, 2, 3)
        refused = await peer.hear("nack")
        assert (refused["seq"], refused["reason"]) == (1, "not now")
        await peer.say("ok", "a", id=refused["id"])
        await peer.messages("a", 1, 2, 3, attempt=2)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", ack="manual")
        messages.nack(await anext(messages), "not now")
        for _ in range(2):
            messages.ack(await anext(messages))
        again = await anext(messages)
        assert (again.seq, again.attempt) == (1, 2)
        messages.ack(again)
        await until(lambda: settled(server.peers[0]) == [("nack", 1), ("ack", 1), ("ack", 3)])


async def test_a_message_that_the_server_gave_up_holds_nothing_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1, 2, 3)
        await peer.say("ok", "a", id=(await peer.hear("nack"))["id"])
        await peer.messages("a", 2, 3, attempt=2)
        await peer.messages("a", 4)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", ack="manual")
        messages.nack(await anext(messages))
        for seq in (2, 3, 4):
            message = await anext(messages)
            assert message.seq == seq
            messages.ack(message)
        await until(lambda: settled(server.peers[0])[-1] == ("ack", 4))


@pytest.mark.parametrize("start", ["cursor", "earliest"])
async def test_after_a_reconnect_it_goes_on_at_its_place_and_acknowledges_again(start: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.subscribed("a", 3, resumed=True)
        await peer.messages("a", 1, 2, 3)
        while (await peer.hear("ack"))["seq"] != 2:
            pass
        peer.cut()

    async def second(peer: Peer) -> None:
        """The server's cursor is older: it had stored 1 when the connection was cut."""
        asked = await peer.subscribed("a", 3, resumed=True)
        assert asked["from"] == ("cursor" if start == "cursor" else {"epoch": 7, "seq": 2})
        await peer.messages("a", 2, 3, 4)
        await peer.stay()

    async with streams(first, second) as server, Client(server.url, trust_env=False) as client:
        seen = []
        async for message in client.subscribe("a", from_=start, ack=True):
            seen.append(message.seq)
            if message.seq == 3:
                await until(lambda: len(server.peers) == 2 and server.peers[1].heard)  # it has asked for its place
            if message.seq == 4:
                break
        assert seen == [1, 2, 3, 4], "3 was in hand, 2 was settled"
        await until(lambda: settled(server.peers[1])[-1:] == [("ack", 3)])


async def test_confirm_waits_for_the_server() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1)
        while "id" not in (asked := await peer.hear("ack")):
            pass
        await peer.say("ok", "a", id=asked["id"])
        asked = await peer.hear("ack")
        await peer.say("error", "a", id=asked["id"], code="not_ready", message="away", retryable=True)
        await peer.hear("ack")
        peer.cut()

    async with streams(script, lambda peer: peer.stay()) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a", ack="manual")
        await messages.confirm()
        messages.ack(await anext(messages))
        await messages.confirm()
        with pytest.raises(RequestFailed, match="not_ready"):
            await messages.confirm()
        with pytest.raises(RequestFailed, match="connection_lost"):
            await messages.confirm()


async def test_acknowledging_without_ack_is_a_mistake() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.messages("a", 1)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("a")
        message = await anext(messages)
        with pytest.raises(ValueError, match="without ack"):
            messages.ack(message)
        with pytest.raises(ValueError, match="without ack"):
            messages.nack(message)


async def test_another_session_of_the_device_takes_over() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        await peer.say("unsubscribed", "a", reason="replaced")
        await peer.stay()

    async def never(_: Message) -> None:
        raise AssertionError("there is no message")

    async with (
        streams(script) as server,
        Client(server.url, trust_env=False) as client,
        client.worker("a", never) as worker,
    ):
        with pytest.raises(SubscriptionEnded, match="replaced"):
            await worker.done()


async def test_a_worker_acknowledges_what_it_did_and_refuses_what_failed() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.subscribed("jobs")
        assert (asked["from"], asked["ack"], asked["presence"]) == ("cursor", True, False)
        await peer.messages("jobs", 1, 2, 3)
        refused = await peer.hear("nack")
        assert refused["reason"] == "RuntimeError: 2 is broken"
        await peer.say("ok", "jobs", id=refused["id"])
        await until(lambda: len(seen) == 3)
        await peer.messages("jobs", 2, 3, attempt=2)
        await peer.stay()

    seen: list[tuple[int | None, int]] = []

    async def handle(message: Message) -> None:
        seen.append((message.seq, message.attempt))
        if message.seq == 2 and message.attempt == 1:
            raise RuntimeError("2 is broken")

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.worker("jobs", handle) as worker:
            await until(lambda: len(seen) == 4)
        assert seen == [(1, 1), (2, 1), (3, 1), (2, 2)]
        assert (worker.handled, worker.failed) == (3, 1)
        assert [seq for kind, seq in settled(server.peers[0]) if kind == "ack"] == [1, 1, 2, 3]


async def test_a_worker_of_many_acknowledges_only_as_far_as_all_are_done() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", *range(1, 7))
        await peer.stay()

    gates = {seq: asyncio.Event() for seq in range(1, 7)}
    running: set[int] = set()
    most = 0

    async def handle(message: Message) -> None:
        nonlocal most
        assert message.seq is not None
        running.add(message.seq)
        most = max(most, len(running))
        await gates[message.seq].wait()
        running.discard(message.seq)

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.worker("jobs", handle, concurrency=3) as worker:
            await until(lambda: running == {1, 2, 3})
            gates[2].set()
            gates[3].set()
            await until(lambda: running == {1, 4, 5})
            assert settled(server.peers[0]) == [], "1 is not done"
            gates[1].set()
            await until(lambda: settled(server.peers[0]) == [("ack", 3)])
            for gate in gates.values():
                gate.set()
            await until(lambda: worker.handled == 6)
            await until(lambda: settled(server.peers[0])[-1] == ("ack", 6))
        assert most == 3


async def test_a_worker_that_ends_lets_its_handlers_finish_and_leaves_the_rest_to_others() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", 1, 2, 3)
        await peer.stay()

    done: list[int | None] = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(0.1 if message.seq == 1 else 60)
        done.append(message.seq)

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.worker("jobs", handle, concurrency=2, drain_s=0.3) as worker:
            await worker.ready()
            await until(lambda: len(worker._running) == 2)
        assert done == [1]
        await until(lambda: server.peers[0].heard[-1]["type"] == "unsubscribe")
        assert settled(server.peers[0]) == [("ack", 1)]


async def test_a_group_is_asked_for_and_must_be_granted() -> None:
    async def grants(peer: Peer) -> None:
        asked = await peer.hear("subscribe")
        assert asked["group"] == "billing"
        await peer.say("subscribed", "jobs", profile="durable", epoch=7, seq=9, group="billing")
        await peer.messages("jobs", 5, 9)
        await peer.messages("jobs", 2, attempt=2)  # another member had it
        await peer.stay()

    async def knows_no_groups(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", 1)
        await peer.stay()

    seen: list[Any] = []

    async def handle(message: Message) -> None:
        seen.append(message.seq)

    async with (
        streams(grants) as server,
        Client(server.url, trust_env=False) as client,
        client.worker("jobs", handle, group="billing"),
    ):
        await until(lambda: seen == [5, 9, 2])
    async with (
        streams(knows_no_groups) as server,
        Client(server.url, trust_env=False) as client,
        client.worker("jobs", handle, group="billing") as worker,
    ):
        with pytest.raises(SubscribeRefused, match="no consumer groups"):
            await worker.done()
    assert seen == [5, 9, 2], "every member would get every message"


async def test_a_worker_is_built_of_an_async_function_and_a_bound() -> None:
    async def handle(_: Message) -> None: ...

    async with streams(lambda peer: peer.stay()) as server, Client(server.url, trust_env=False) as client:
        for concurrency in (0, 257):
            with pytest.raises(ValueError, match="concurrency"):
                client.worker("jobs", handle, concurrency=concurrency)
        with pytest.raises(TypeError, match="no async function"):
            client.worker("jobs", print)  # type: ignore[arg-type]
        client.worker("jobs", handle)
