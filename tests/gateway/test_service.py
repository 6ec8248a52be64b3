"""The gateway role: its drain, and what it hands to the hub."""

import asyncio
import contextlib
import json

import pytest

from headgate.core.wire.link import Ended
from headgate.core.wire.link_dead_letters import Receiver, Redeliver
from headgate.core.wire.link_stats import DeliveryReport, ReleaseHeld
from tests.contract.virtual import VirtualLoop, run
from tests.gateway.bed import UPGRADE, Bed, Wire, request


def crowd(bed: Bed, count: int) -> list[Wire]:
    return [bed.asked(request("GET", "/connect", *UPGRADE)) for _ in range(count)]


def told(wires: list[Wire]) -> int:
    return sum(b'"code":4601' in wire.written for wire in wires)


@pytest.mark.parametrize(("count", "spread_s"), [(100, 5.0), (3, 5.0), (1_000, 0.0), (0, 5.0)])
def test_a_drain_tells_a_share_of_the_sessions_at_a_time(count: int, spread_s: float) -> None:
    loop = VirtualLoop()

    async def scenario() -> None:
        bed = Bed(clock=loop)
        wires = crowd(bed, count)
        begun = loop.time()
        drain = asyncio.create_task(bed.service.drain(spread_s))
        await asyncio.sleep(0)
        while not drain.done():
            passed = loop.time() - begun
            allowed = count if passed >= spread_s else max(count * (passed + 0.1) / spread_s, (passed + 0.1) / 0.05)
            assert told(wires) <= allowed
            await asyncio.sleep(0.05)
        await drain
        assert told(wires) == count and bed.hub.session_count == 0
        assert loop.time() - begun <= spread_s + 0.2
        if count == 100:
            assert loop.time() - begun >= spread_s - 0.2, "they are spread over the whole time"

    run(loop, scenario())


async def test_a_session_that_came_while_draining_is_told_too() -> None:
    bed = Bed()
    wires = crowd(bed, 2)
    drain = asyncio.create_task(bed.service.drain(0.0))
    await asyncio.sleep(0)
    late = bed.asked(request("GET", "/sse/subscribe?topic_id=a"))
    await drain
    assert told([*wires, late]) == 3 and late.ends == ["eof"]


async def test_the_hub_hears_of_owners_and_of_what_they_push() -> None:
    bed = Bed()
    topic = bed.owners.create("a")
    wire = bed.asked(request("GET", "/connect?topic_id=a", *UPGRADE))
    bed.owners.asked.clear()
    bed.service.on_owner(bed.owners.shard_of("a"), True)
    assert [type(message).__name__ for message in bed.owners.asked] == ["Attach"]
    bed.service.on_push(1, Ended("a", topic.epoch, "deleted"))
    at = wire.written.index(b'{"type":"unsubscribed"')
    assert json.loads(wire.written[at:])["reason"] == "deleted"


async def test_what_is_published_in_one_turn_is_written_at_its_end() -> None:
    bed = Bed()
    bed.owners.create("a")
    wire = bed.asked(request("GET", "/connect?topic_id=a", *UPGRADE))
    before = wire.written
    bed.owners.publish("a", "x")
    bed.owners.publish("a", "y")
    assert wire.written == before
    await asyncio.sleep(0)
    assert wire.written.count(b'"type":"message"') == 2


@pytest.mark.parametrize("delay_ms", [130, 1_000])
def test_what_a_strategy_holds_is_written_when_its_time_is_up(delay_ms: int) -> None:
    loop = VirtualLoop()

    async def scenario() -> None:
        bed = Bed(clock=loop)
        for name in ("a", "b"):
            strategy = {"kind": "batched", "max_messages": 10, "max_delay_ms": delay_ms}
            bed.owners.create(name, settings={"strategy": strategy})
        wire = bed.asked(request("GET", "/connect?topic_id=a&topic_id=b", *UPGRADE))
        for name in ("a", "b"):
            bed.owners.publish(name, "x")
            await asyncio.sleep(0.05)
        begun = loop.time()
        written: list[float] = []
        while len(written) < 2:
            await asyncio.sleep(0.005)
            if wire.written.count(b'"type":"message"') > len(written):
                written.append(loop.time() - begun)
        for late, seconds in zip((-0.1, -0.05), written, strict=True):
            assert 0 <= seconds - delay_ms / 1_000 - late <= 0.05

    run(loop, scenario())


async def test_an_owner_has_what_is_held_written() -> None:
    bed = Bed()
    topic = bed.owners.create(
        "a", settings={"strategy": {"kind": "batched", "max_messages": 10, "max_delay_ms": 60_000}}
    )
    wire = bed.asked(request("GET", "/connect?topic_id=a", *UPGRADE))
    bed.owners.publish("a", "x")
    await asyncio.sleep(0)
    bed.service.on_push(1, ReleaseHeld("a", topic.epoch - 1))
    bed.service.on_push(1, ReleaseHeld("b", topic.epoch))
    await asyncio.sleep(0)
    assert b'"type":"message"' not in wire.written
    bed.service.on_push(1, ReleaseHeld("a", topic.epoch))
    await asyncio.sleep(0)
    assert wire.written.count(b'"type":"message"') == 1


def test_run_ticks_four_times_a_second_until_it_is_cancelled() -> None:
    loop = VirtualLoop()

    async def scenario() -> None:
        bed = Bed(clock=loop)
        visits: list[float] = []

        class Visit:
            def visit(self, now: float) -> float:
                visits.append(now)
                return now + 0.2

        bed.sessions.plan(Visit(), 0.2)
        running = asyncio.create_task(bed.service.run())
        await asyncio.sleep(2.1)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert len(visits) == 8

    run(loop, scenario())


async def test_a_drain_writes_what_is_held_before_it_says_goodbye_and_tells_what_was_counted() -> None:
    bed = Bed()
    strategy = {"kind": "batched", "max_messages": 10, "max_delay_ms": 60_000}
    topic = bed.owners.create("a", settings={"profile": "ephemeral", "strategy": strategy})
    wire = bed.asked(request("GET", "/connect?topic_id=a", *UPGRADE))
    bed.owners.publish("a", "x")
    await asyncio.sleep(0)
    bed.owners.asked.clear()
    await bed.service.drain(0.0)
    assert 0 < wire.written.find(b'"type":"message"') < wire.written.find(b'"code":4601')
    found = [message for message in bed.owners.asked if isinstance(message, DeliveryReport)]
    assert [(each.topic_id, each.epoch, each.delivered) for each in found[0].topics] == [("a", topic.epoch, 1)]


def test_a_replayed_message_is_judged_by_the_time_at_which_it_comes() -> None:
    loop = VirtualLoop()

    async def scenario() -> None:
        bed = Bed(clock=loop)
        seen: list[float] = []
        bed.hub.acknowledging.redeliver = lambda feed, message: seen.append(bed.hub._moment.now)  # type: ignore[method-assign]
        topic = bed.owners.create("a")
        bed.asked(request("GET", "/connect?topic_id=a", *UPGRADE))
        await asyncio.sleep(0)
        await asyncio.sleep(5.0)
        bed.service.on_push(1, Redeliver("a", topic.epoch, 1, Receiver("bob", "desk"), "letter", b"{}"))
        assert seen == [loop.time()]

    run(loop, scenario())


def test_users_are_announced_at_once_after_a_pause_and_else_two_milliseconds_later() -> None:
    loop = VirtualLoop()

    async def scenario() -> None:
        bed = Bed(clock=loop)
        crowd(bed, 1)
        await asyncio.sleep(0)
        assert len(bed.owners.announced) == 1
        for _ in range(3):
            crowd(bed, 1)
            await asyncio.sleep(0)
        assert len(bed.owners.announced) == 1
        await asyncio.sleep(0.0025)
        assert len(bed.owners.announced) == 2 and set(bed.owners.users.values()) == {4}

    run(loop, scenario())
