"""Ingests are told a few times a second which topics to refuse, and how many of them there are."""

import asyncio
from typing import Any

import pytest

from dispatcher import throttling
from dispatcher.throttling import Throttling
from headgate.core.sequencer.rows import Row
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_hello import Hello
from headgate.core.wire.link_stats import Numbered, PublishReport, Queued, QueuedElsewhere, TopicPublishes
from headgate.core.wire.link_users import Ingests, Throttle, Throttled
from headgate.runtime.links.memory_link import MemoryLink, memory_link
from tests.dispatcher.bed import CLOCK, configured_shard, dispatcher_of, owner_of, shell_of, until


class Bed:
    """A dispatcher with one shard of which `owner.topic_rates` is told by hand."""

    def __init__(self) -> None:
        self.dispatcher = dispatcher_of(shell_of())
        self.owner = owner_of(configured_shard())
        self.dispatcher.serve(self.owner)
        self.throttling = Throttling(self.dispatcher, CLOCK)

    def link(self, node: str, role: str = "ingest", version: int = 2) -> tuple[MemoryLink, list[Any]]:
        near, far = memory_link(node, "d")
        heard: list[Any] = []
        near.deliver_to(heard.extend)
        self.dispatcher.accept(far)
        near.send(Hello(1, version, role, node, "", 0))
        return near, heard

    async def tick(self) -> None:
        await settled()
        self.throttling.tick()
        await settled()


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def of(kind: type[Any], heard: list[Any]) -> list[Any]:
    return [message for message in heard if isinstance(message, kind)]


async def test_ingests_are_counted_by_name_and_told_when_the_number_changes() -> None:
    bed = Bed()
    _, first = bed.link("i1")
    bed.link("g1", role="gateway")
    await bed.tick()
    await bed.tick()
    assert of(Ingests, first) == [Ingests(1)]
    near, second = bed.link("i2")
    bed.link("i2")  # again: its old link is not closed yet
    await bed.tick()
    assert of(Ingests, first) == [Ingests(1), Ingests(2)]
    assert of(Ingests, second) == [Ingests(2)]
    near.close("gone")
    await bed.tick()
    assert of(Ingests, first) == [Ingests(1), Ingests(2)]


async def test_an_old_ingest_is_counted_and_told_nothing() -> None:
    bed = Bed()
    _, old = bed.link("i1", version=1)
    _, new = bed.link("i2")
    bed.owner.topic_rates.updated("t")
    await bed.tick()
    assert of(Ingests, new) == [Ingests(2)]
    assert of(Throttled, new) == [Throttled([Throttle("t", 0)])]
    assert not of(Ingests, old) and not of(Throttled, old)


async def test_gateways_are_not_told_of_rates() -> None:
    bed = Bed()
    _, gateway = bed.link("g1", role="gateway")
    bed.link("i1")
    bed.owner.topic_rates.updated("t")
    await bed.tick()
    assert not of(Throttled, gateway) and not of(Ingests, gateway)


async def test_one_tick_tells_a_bounded_number_of_topics_in_messages_of_a_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttling, "MAX_TOLD", 30)
    monkeypatch.setattr(throttling, "MAX_IN_MESSAGE", 20)
    bed = Bed()
    _, heard = bed.link("i1")
    for n in range(100):
        bed.owner.topic_rates.updated(f"t{n}")
    await bed.tick()
    assert [len(message.topics) for message in of(Throttled, heard)] == [20, 10]
    for _ in range(3):
        await bed.tick()
    told = [throttle.topic_id for message in of(Throttled, heard) for throttle in message.topics]
    assert sorted(told) == sorted({f"t{n}" for n in range(100)}), "each once"


async def test_while_no_ingest_is_linked_what_is_due_waits() -> None:
    bed = Bed()
    bed.owner.topic_rates.updated("t")
    await bed.tick()
    _, heard = bed.link("i1")
    await bed.tick()
    assert of(Throttled, heard) == [Throttled([Throttle("t", 0)])]


async def test_an_ingest_that_comes_later_is_told_what_is_still_refused() -> None:
    bed = Bed()
    row = Row("e", 1, 0, "e", "PUBLIC", "ana", 0, {"profile": "ephemeral", "rate_limit": {"per_s": 0.01, "burst": 1}})
    bed.owner.rows[topic_key("e")] = row
    _, first = bed.link("i1")
    bed.owner.topic_rates.relay(row, CLOCK.now())
    await bed.tick()
    _, second = bed.link("i2")
    await bed.tick()
    await bed.tick()
    told = [throttle for message in of(Throttled, second) for throttle in message.topics]
    assert [throttle.topic_id for throttle in told] == ["e"]
    assert 90_000 < told[0].for_ms <= 100_000
    assert len(of(Throttled, first)) == 2


async def test_a_link_that_is_full_is_told_everything_once_it_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed()
    _, heard = bed.link("i1")
    with monkeypatch.context() as full:
        full.setattr("dispatcher.peer.LINK_BYTES", -1)
        bed.owner.topic_rates.updated("t")
        await bed.tick()
        assert not of(Throttled, heard) and not of(Ingests, heard)
    await bed.tick()
    assert of(Throttled, heard) == [Throttled([Throttle("t", 0)])]
    assert of(Ingests, heard) == [Ingests(1)]


async def test_each_shard_may_tell_some_however_many_shards_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "MAX_TOLD", 1)
    monkeypatch.setattr(throttling, "MIN_TOLD", 3)
    bed = Bed()
    _, heard = bed.link("i1")
    for n in range(10):
        bed.owner.topic_rates.updated(f"t{n}")
    await bed.tick()
    assert [len(message.topics) for message in of(Throttled, heard)] == [3]


async def test_a_node_that_may_no_longer_own_its_shards_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed()
    _, heard = bed.link("i1")
    bed.owner.topic_rates.updated("t")
    with monkeypatch.context() as paused:
        paused.setattr(bed.dispatcher.lease, "held", lambda: False)
        await bed.tick()
        assert not of(Throttled, heard)
    await bed.tick()
    assert of(Throttled, heard) and of(Ingests, heard)


async def test_a_fault_does_not_end_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "TICK_S", 0.001)
    bed = Bed()
    ticks: list[int] = []

    def fails() -> None:
        ticks.append(1)
        raise ValueError

    monkeypatch.setattr(bed.throttling, "tick", fails)
    task = asyncio.create_task(bed.throttling.run())
    await until(lambda: len(ticks) > 1)
    task.cancel()


async def test_ingests_are_told_how_far_the_shards_are_when_that_moves() -> None:
    bed = Bed()
    _, heard = bed.link("i1")
    _, old = bed.link("i2", version=1)
    _, gateway = bed.link("g1", role="gateway")
    await settled()
    bed.owner.shard.next_offset = 5
    for _ in range(3):
        bed.throttling.tell_numbered()
    await settled()
    assert of(Numbered, heard) == [Numbered([(0, 5)])]
    bed.owner.shard.next_offset = 7
    bed.throttling.tell_numbered()
    _, late = bed.link("i3")
    await settled()
    bed.throttling.tell_numbered()
    await settled()
    assert of(Numbered, heard) == [Numbered([(0, 5)]), Numbered([(0, 7)])]
    assert of(Numbered, late) == [Numbered([(0, 7)])]
    assert not of(Numbered, old) and not of(Numbered, gateway)
    bed.dispatcher.stop_serving(0)
    bed.throttling.tell_numbered()
    await settled()
    assert len(of(Numbered, heard)) == 2


async def test_ingests_are_told_what_waits_elsewhere() -> None:
    bed = Bed()
    bed.owner.rows[topic_key("t")] = Row("t", 7, 0, "t", "PUBLIC", "ann", 0, {"queue_limit": 100})
    near, first = bed.link("i1")
    _, second = bed.link("i2")
    await bed.tick()
    near.send(PublishReport(0, [TopicPublishes("t", 7, 0, 60)]))
    await bed.tick()
    await bed.tick()
    assert of(Queued, second) == [Queued([QueuedElsewhere("t", 7, 60)])] and not of(Queued, first)
    assert bed.throttling.deepest_shard == 60 and sum(bed.throttling.depths.values()) == 60
    near.close("gone")
    await bed.tick()
    assert of(Queued, second)[1:] == [Queued([QueuedElsewhere("t", 7, 0)])]
    assert bed.throttling.deepest_shard == 0 and not any(bed.throttling.depths.values())
