"""A new owner does not say that nobody is there before the gateways have spoken."""

import asyncio

import pytest

from dispatcher import announcements
from dispatcher.announcements import Announcements
from headgate.core.wire import link, link_ephemeral
from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.errors import Refusal
from headgate.core.wire.verdict import Code
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.testing.encoded_link import encoded_link
from tests.dispatcher.test_links_and_requests import Bed, Pushes, running


async def test_it_is_complete_when_every_linked_gateway_has_announced() -> None:
    waiting, done = Announcements(["a", "b"]), list[str]()
    waiting.hold(lambda: done.append("first"), 1)
    waiting.hold(lambda: done.append("second"), 1)
    waiting.heard("a")
    waiting.expect("c")
    waiting.heard("b")
    assert not waiting.complete
    waiting.left("c")
    assert waiting.complete
    assert done == ["first", "second"]


async def test_without_any_gateway_it_waits_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "WAIT_S", 0.05)
    waiting, done = Announcements[str]([]), list[str]()
    waiting.expect("a")
    waiting.left("a")
    assert not waiting.complete, "the only gateway went before it said anything"
    waiting.hold(lambda: done.append("held"), 1)
    await asyncio.sleep(0.1)
    assert (waiting.complete, done) == (True, ["held"])


async def test_a_node_that_stood_still_says_nothing_before_it_knows_what_it_owns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcements, "WAIT_S", 0.01)
    monkeypatch.setattr(announcements, "ASK_AGAIN_S", 0.01)
    is_held = False
    waiting, done = Announcements(["a"], lambda: is_held), list[str]()
    waiting.hold(lambda: done.append("held"), 1)
    waiting.heard("a")
    await asyncio.sleep(0.1)
    assert (waiting.complete, done) == (False, [])
    is_held = True
    await asyncio.sleep(0.1)
    assert (waiting.complete, done) == (True, ["held"])


async def test_what_is_held_is_bounded_in_number_and_bytes() -> None:
    waiting = Announcements(["a"])
    assert all(waiting.hold(lambda: None, 0) for _ in range(announcements.HELD))
    assert not waiting.hold(lambda: None, 0)
    waiting.close()
    waiting = Announcements(["a"])
    assert waiting.hold(lambda: None, announcements.HELD_BYTES)
    assert not waiting.hold(lambda: None, 1)
    waiting.close()


async def ephemeral(bed: Bed) -> int:
    control = CreateTopic("e", "e", "PUBLIC", "ann", {"profile": "ephemeral"})
    made = await bed.control("e", encode_body(control))
    assert made.code == Code.CREATED
    return made.epoch


def relay(bed: Bed, epoch: int) -> "asyncio.Future[link.Answer]":
    shard = bed.directory.shard_of("e")
    return bed.directory.ask(shard, lambda req: link_ephemeral.Relay(req, "e", epoch, b'"payload":1}', False))


async def test_an_ephemeral_message_waits_for_the_announcements_and_reaches_those_who_were_there() -> None:
    async with running() as bed:
        epoch = await ephemeral(bed)
        shard = bed.directory.shard_of("e")
        answer = relay(bed, epoch)
        count = bed.directory.ask(shard, lambda req: link.AskCount(req, shard, ["e"]))
        await asyncio.sleep(0.1)
        assert not answer.done(), "it would have said that nobody is there"
        assert not count.done()
        near, far = encoded_link()
        bed.service.accept(far)
        gateway, pushes = LinkDirectory("gateway", "g"), Pushes()
        gateway.deliver_to(pushes)
        gateway.add(near)
        async with asyncio.timeout(3):
            while not gateway.linked(shard):
                await asyncio.sleep(0.01)
            gateway.send(shard, link.Attach(shard, True, True, [link.AttachTopic("e", epoch, 0, 3)]))
            relayed, counted = await answer, await count
        assert isinstance(relayed, link_ephemeral.Relayed)
        assert isinstance(counted, link.Counts)
        assert (relayed.count, counted.counts) == (3, [3])
        assert sum(isinstance(message, link.EphemeralMessages) for message in pushes.messages) == 1


async def test_past_the_bound_the_publisher_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "HELD", 2)
    async with running() as bed:
        epoch = await ephemeral(bed)
        held = [relay(bed, epoch) for _ in range(2)]
        with pytest.raises(Refusal, match="not_ready"):
            await relay(bed, epoch)
        assert not any(answer.done() for answer in held)
