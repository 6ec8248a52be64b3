"""Read marks, receipts and inbox hints through real sockets, and what a hostile reader can do."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from headgate.core.client.limits import Limits
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link_inbox import HintTopic, ReadReceipt, UserHint, UserHints, UserRead
from headgate.core.wire.member_roles import Role
from tests.integration.gateway_twin import Gateway, frames_of, gateway, until


async def follower(gate: Gateway, user: str = "bob", topic: str = "a") -> ClientConnection:
    query = f"/ws/subscribe?topic_id={topic}&user={user}&presence=false" if topic else f"/ws/subscribe?user={user}"
    socket = await connect(gate.ws(query), max_queue=None)
    await frames_of(socket, 2 if topic else 1)
    return socket


async def read(socket: ClientConnection, seq: int, **more: Any) -> None:
    await socket.send(json.dumps({"type": "read", "topic_id": "a", "seq": seq, **more}))


def with_topic(gate: Gateway, messages: int = 5) -> None:
    gate.owners.create("a", members={"bob": Role.MEMBER, "eve": Role.MEMBER})
    gate.owners.publish("a", *range(messages))


async def test_a_mark_is_answered_when_it_is_stored_and_others_are_told() -> None:
    async with gateway() as gate:
        with_topic(gate)
        bob, desk, eve = await follower(gate), await follower(gate, topic=""), await follower(gate, "eve")
        await read(bob, MAX_INTEGER, id="r")
        assert await frames_of(bob, 1) == [{"type": "ok", "id": "r"}]
        mark = gate.owners.marks.marks["bob", "a"]
        assert (mark.seq, mark.n, mark.epoch) == (5, 5, gate.owners.topics["a"].epoch)
        gate.owners.push(UserRead("bob", "a", 5, 0))
        gate.owners.push(ReadReceipt("a", mark.epoch, "bob", 5, ["eve", "bob"]))
        told = {"type": "read", "topic_id": "a", "user_id": "bob", "seq": 5}
        assert await frames_of(desk, 1) == [told | {"unread": 0}]
        assert await frames_of(eve, 1) == [told]
        for socket in (bob, desk, eve):
            await socket.close()


async def test_a_drain_waits_until_the_marks_are_stored() -> None:
    async with gateway() as gate:
        with_topic(gate)
        gate.owners.topics["a"].members |= {f"u{n}": Role.MEMBER for n in range(5)}
        sockets = [await follower(gate, f"u{n}") for n in range(5)]
        for socket in sockets:
            await read(socket, 3)
        await until(lambda: len(gate.service.hub.audience.reads._reads) == 5)
        await gate.service.drain(0.0)
        assert [gate.owners.marks.seq(f"u{n}", "a") for n in range(5)] == [3] * 5
        for socket in sockets:
            await socket.close()


async def test_a_reader_who_sends_a_thousand_reads_a_second_costs_one_mark_a_second() -> None:
    limits = Limits(control_per_s=1_000_000, control_burst=1_000_000)
    async with gateway(limits=limits) as gate:
        with_topic(gate, 1_000)
        bob = await follower(gate)
        for seq in range(1, 1_001):
            await read(bob, seq)
        await bob.send('{"type":"ping","id":"p"}')
        assert (await frames_of(bob, 1))[0]["type"] == "pong"
        gate.forward(1.25)
        await until(lambda: gate.owners.marks.seq("bob", "a") == 1_000)
        assert len(gate.owners.marks.resolved) <= 3 and len(gate.owners.marks.moves) <= 3
        await bob.close()


async def test_above_the_control_rate_reads_are_refused_and_not_obeyed() -> None:
    async with gateway() as gate:
        with_topic(gate)
        bob = await follower(gate)
        for n in range(200):
            await read(bob, 1, id=n)
        answers = await frames_of(bob, 200)
        refused = [frame for frame in answers if frame["type"] == "error"]
        assert refused and {frame["code"] for frame in refused} == {"rate_limited"}
        assert len(gate.owners.marks.moves) == 1
        await bob.close()


async def test_an_owner_away_keeps_the_marks_and_the_connection() -> None:
    async with gateway() as gate:
        with_topic(gate)
        bob = await follower(gate)
        gate.owners.go()
        await read(bob, 2, id=1)
        await bob.send('{"type":"ping"}')
        assert (await frames_of(bob, 1))[0]["type"] == "pong"
        gate.owners.come()
        gate.forward(1.25)
        assert await frames_of(bob, 1) == [{"type": "ok", "id": 1}]
        assert gate.owners.marks.seq("bob", "a") == 2
        await bob.close()


async def test_hints_are_one_a_second_and_nothing_is_written_to_a_socket_that_is_full() -> None:
    async with gateway() as gate:
        with_topic(gate)
        bob = await follower(gate)
        for n in (1, 2, 3):
            gate.owners.push(UserHints([UserHint("bob", [HintTopic("x", n, n), HintTopic("a", n, n)])]))
            await asyncio.sleep(0)
        first = await frames_of(bob, 1)
        assert first == [{"type": "inbox", "topics": [{"topic_id": "x", "head_seq": 1, "unread": 1}]}] or first == [
            {"type": "inbox", "topics": [{"topic_id": "x", "head_seq": 3, "unread": 3}]}
        ]
        gate.forward(1.5)
        gate.owners.push(UserHints([UserHint("bob", [HintTopic("x", 4, 4)])]))
        last = (await frames_of(bob, 1))[0]
        assert last["topics"][0]["head_seq"] in (3, 4)
        (session,) = gate.service.hub.connections.of("bob")
        session.pause(gate.clock.now())
        gate.forward(1.5)
        gate.owners.push(UserHints([UserHint("bob", [HintTopic("x", 5, 5)])]))
        gate.owners.push(UserRead("bob", "a", 5, 0))
        session.resume()
        await bob.send('{"type":"ping"}')
        assert (await frames_of(bob, 1))[0]["type"] == "pong"
        await bob.close()
