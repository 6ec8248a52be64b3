"""Workers of the Python client against a scripted server: handlers that end in odd ways, groups, what is logged."""

import asyncio

import pytest

from headgate_client import Client, Message, SubscriptionEnded
from tests.clients.python_streams import Peer, streams, until


def settled(peer: Peer) -> list[tuple[str, int]]:
    """The acks and nacks that came."""
    return [(frame["type"], frame["seq"]) for frame in peer.heard if frame["type"] in ("ack", "nack")]


async def test_a_handler_that_waits_for_what_others_cancel_has_failed() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", 1, 2, 3)
        refused = await peer.hear("nack")
        assert (refused["seq"], refused["reason"]) == (2, "CancelledError: ")
        await peer.say("ok", "jobs", id=refused["id"])
        await peer.messages("jobs", 2, 3, attempt=2)
        await peer.stay()

    async def handle(message: Message) -> None:
        if (message.seq, message.attempt) == (2, 1):
            shared = asyncio.get_running_loop().create_future()
            shared.cancel()
            await shared

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.worker("jobs", handle) as worker:
            await until(lambda: worker.handled == 3)
        assert worker.failed == 1
        await until(lambda: settled(server.peers[0])[-1] == ("ack", 3))


async def test_a_handler_that_outlives_the_drain_is_cancelled_and_refuses_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", 1)
        await peer.stay()

    async def handle(_: Message) -> None:
        await asyncio.sleep(60)

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.worker("jobs", handle, drain_s=0.05) as worker:
            await until(lambda: worker._running)
        assert settled(server.peers[0]) == []


async def test_a_message_that_failed_and_is_done_acknowledges_none_that_still_runs() -> None:
    """The server counts an `ack` for all below it: 1 would be lost if it failed afterwards."""

    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", 1, 2)
        await peer.say("ok", "jobs", id=(await peer.hear("nack"))["id"])
        await peer.messages("jobs", 2, attempt=2)
        await peer.stay()

    gate = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.seq == 1:
            await gate.wait()
        elif message.attempt == 1:
            raise RuntimeError("not yet")

    async with (
        streams(script) as server,
        Client(server.url, trust_env=False) as client,
        client.worker("jobs", handle, concurrency=2) as worker,
    ):
        await until(lambda: worker.handled == 1)
        await asyncio.sleep(0.1)
        assert settled(server.peers[0]) == [("nack", 2)]
        gate.set()
        await until(lambda: settled(server.peers[0]) == [("nack", 2), ("ack", 2)])


async def test_in_a_group_each_message_is_acknowledged_whatever_the_order_of_their_numbers() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs", 20, group="g")
        await peer.messages("jobs", 9)
        await peer.messages("jobs", 4, attempt=2)  # of a member that left
        await peer.stay()

    gates = {4: asyncio.Event(), 9: asyncio.Event()}

    async def handle(message: Message) -> None:
        await gates[message.seq or 0].wait()

    async with (
        streams(script) as server,
        Client(server.url, trust_env=False) as client,
        client.worker("jobs", handle, group="g", concurrency=2) as worker,
    ):
        await until(lambda: len(worker._running) == 2)
        for gate in gates.values():
            gate.set()
        await until(lambda: worker.handled == 2)
        await until(lambda: sorted(settled(server.peers[0])) == [("ack", 4), ("ack", 9)])


async def test_a_loop_in_a_group_acknowledges_both_of_two_that_wait_to_be_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs", 20, group="g")
        await peer.messages("jobs", 9, 4, 5, 12)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("jobs", group="g", ack="manual")
        for message in [await anext(messages) for _ in range(3)]:
            messages.ack(message)
        await until(lambda: [seq for _, seq in settled(server.peers[0])] == [9, 5])


async def test_confirm_asks_for_a_group_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs", 20, group="g")
        await peer.messages("jobs", 9)
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        messages = client.subscribe("jobs", group="g", ack="manual")
        messages.ack(await anext(messages))
        await messages.confirm()
        assert [frame["seq"] for frame in server.peers[0].heard if "id" in frame and frame["type"] == "ack"] == [0]


async def test_a_message_that_comes_again_while_it_is_handled_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", 1, 2)
        await peer.messages("jobs", 1, 2, attempt=2)
        await peer.stay()

    async def handle(_: Message) -> None:
        await asyncio.sleep(60)

    async with (
        streams(script) as server,
        Client(server.url, trust_env=False) as client,
        client.worker("jobs", handle, drain_s=0),
    ):
        await until(lambda: "message 1 comes again as attempt 2 while it is in hand" in caplog.text)
    assert "message 2 comes again" not in caplog.text, "the server counts a failure of the oldest only"


async def test_the_end_of_a_worker_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.say("unsubscribed", "jobs", reason="replaced")
        await peer.stay()

    async def handle(_: Message) -> None: ...

    async with (
        streams(script) as server,
        Client(server.url, trust_env=False) as client,
        client.worker("jobs", handle) as worker,
    ):
        await until(lambda: "the worker has ended: jobs: the subscription ended (replaced)" in caplog.text)
        with pytest.raises(SubscriptionEnded):
            await worker.done()


async def test_a_worker_whose_end_is_cancelled_leaves_no_handler_behind() -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("jobs")
        await peer.messages("jobs", 1)
        await peer.stay()

    ended = asyncio.Event()

    async def handle(_: Message) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                async with client.worker("jobs", handle, drain_s=30) as worker:
                    await until(lambda: worker._running)
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_message_of_a_topic_that_was_created_again_acknowledges_nothing_of_the_new_one() -> None:
    async def first(peer: Peer) -> None:
        await peer.subscribed("jobs", 500)
        await peer.messages("jobs", 500)
        await until(lambda: running)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.subscribed("jobs", 20, epoch=9, resumed=False, reason="epoch_changed")
        await peer.messages("jobs", *range(1, 21))
        await peer.stay()

    gate = asyncio.Event()
    running: list[Message] = []

    async def handle(message: Message) -> None:
        running.append(message)
        if message.epoch == 7:
            await gate.wait()
            raise RuntimeError("too late")
        await gate.wait()

    async with streams(first, second) as server, Client(server.url, trust_env=False) as client:
        client._stream._backoff._first_s = 0.02
        start = {"epoch": 7, "seq": 499}
        async with client.worker("jobs", handle, from_=start, concurrency=2) as worker:
            await until(lambda: len(running) == 2)
            assert settled(server.peers[1]) == []
            gate.set()
            await until(lambda: worker.handled == 20)
            await until(lambda: settled(server.peers[1])[-1:] == [("ack", 20)])
        assert ("ack", 500) not in settled(server.peers[1]) and ("nack", 500) not in settled(server.peers[1])
