"""Who watches gets the owner's events and those of its gateways. For nobody nothing is built and nobody is told."""

import asyncio
from typing import Any

import msgspec

from dispatcher.event_watchers import SEND_S
from headgate.core.wire import link, link_ephemeral
from headgate.core.wire.control import CreateTopic, UpdateTopic
from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_events import EventsHappened, HappenedEvent, WatchEvents
from headgate.core.wire.link_stats import PublishReport, TopicPublishes
from headgate.core.wire.records import Record
from tests.dispatcher.members_bed import ADMIN, KEY, ROOT, Far, MembersBed

EVERYTHING = WatchEvents(0, EventFilter())
TAIL = b'"message_id":"m","payload":1}'


class Watched(MembersBed):
    """A topic `t` without subscribers, an ephemeral `e`, and one ingest."""

    def __init__(self) -> None:
        super().__init__("PUBLIC")
        self.feed(self.control(CreateTopic("e", "e", "PUBLIC", "ann", {"profile": "ephemeral"}), topic_key("e")))
        self.ingest = Far()

    def tell(self, message: link.Message, peer: Far | None = None) -> None:
        self.api.handle(peer or self.ingest, message)

    def attach(self, gateway: Far) -> None:
        self.tell(link.Attach(0, True, True, []), gateway)

    def told(self, peer: Far | None = None) -> list[dict[str, Any]]:
        batches = [message for message in (peer or self.ingest).taken() if isinstance(message, EventsHappened)]
        return [msgspec.json.decode(event.data) for batch in batches for event in batch.events]

    async def later(self) -> list[dict[str, Any]]:
        await asyncio.sleep(SEND_S * 1.5)
        return self.told()


async def test_the_owner_tells_of_numbered_messages_subscribers_dead_letters_and_settings() -> None:
    bed = Watched()
    bed.tell(EVERYTHING)
    bed.feed(bed.message())
    enqueued, nobody = await bed.later()
    assert (enqueued["event"], enqueued["seq"], enqueued["subscribers"]) == ("message_enqueued", 1, 0)
    assert (nobody["event"], nobody["seq"], nobody["subscribers"]) == ("delivered", 1, 0)
    assert enqueued["id"] == nobody["id"]
    assert len(enqueued["id"]) == 36
    assert (enqueued["status"], enqueued["epoch"], enqueued["topic"]) == ("QUEUED", bed.row.epoch, "t")
    bed.ask(link.AskSubscribe(1, "t", ADMIN), Far())
    (subscriber,) = await bed.later()
    assert (subscriber["event"], subscriber["subscriber"]) == ("subscriber_added", "root")
    bed.feed(bed.message())
    (only,) = await bed.later()
    assert (only["event"], only["subscribers"]) == ("message_enqueued", 1)
    bed.feed(Record(bed.offset, 2_000, KEY, b"\xff"))
    bed.offset += 1
    (letter,) = await bed.later()
    assert (letter["event"], letter["status"], letter["topic"]) == ("dead_letter", "DEAD_LETTER", "t")
    assert letter["reason"]
    batched = {"kind": "batched", "max_size": 3, "max_delay_ms": 50}
    bed.feed(bed.control(UpdateTopic("t", bed.row.version, ROOT, settings={"strategy": batched})))
    (swapped,) = await bed.later()
    assert (swapped["event"], swapped["old"]) == ("strategy_swapped", "immediate")
    assert msgspec.json.decode(swapped["new"]) == batched


async def test_the_owner_tells_of_ephemeral_messages_and_of_those_that_are_shed() -> None:
    bed = Watched()
    bed.tell(EVERYTHING)
    bed.ask(link.AskSubscribe(1, "e", ADMIN), gateway := Far())
    bed.api.announcements.heard(gateway)
    await bed.later()
    epoch = bed.owner.rows[topic_key("e")].epoch
    bed.ask(link_ephemeral.Relay(1, "e", epoch, TAIL))
    (enqueued,) = await bed.later()
    assert (enqueued["event"], enqueued["id"], enqueued["subscribers"]) == ("message_enqueued", "m", 1)
    assert "seq" not in enqueued
    bed.load.sample(0.1, 0, 1_000, 1_000)
    assert bed.ask(link_ephemeral.Relay(1, "e", epoch, TAIL, low=True)).shed
    (shed,) = await bed.later()
    assert (shed["event"], shed["outcome"], shed["id"]) == ("backpressure", "rejected", "m")


async def test_nobody_watches_nothing_is_kept_and_events_are_counted_all_the_same() -> None:
    bed = Watched()
    counted: dict[str, int] = {}
    bed.owner.events.count = lambda name, count: counted.update({name: counted.get(name, 0) + count})
    bed.feed(bed.message(), bed.message())
    assert counted == {"message_enqueued": 2}
    assert not bed.owner.events.on
    assert bed.owner.events.take() == []
    bed.tell(EVERYTHING)
    bed.tell(WatchEvents(0))
    bed.feed(bed.message())
    assert await bed.later() == []
    assert not bed.owner.events.on


async def test_gateways_learn_what_is_wanted_together_when_it_changes_and_when_they_attach() -> None:
    bed = Watched()
    early, late, old, other = Far(), Far(), Far(version=1), Far()
    bed.attach(early)
    bed.attach(old)
    early.taken()
    old.taken()
    bed.tell(WatchEvents(0, EventFilter(("t",), ("failed",))))
    assert early.taken() == [WatchEvents(0, EventFilter(("t",), ("failed",)))]
    bed.tell(WatchEvents(0, EventFilter(("e",), ("failed",))), other)
    both = WatchEvents(0, EventFilter(("e", "t"), ("failed",)))
    assert early.taken() == [both]
    bed.attach(late)
    assert both in late.taken()
    bed.api.event_watchers.left(late)
    bed.api.event_watchers.left(other)
    assert early.taken() == [WatchEvents(0, EventFilter(("t",), ("failed",)))]
    bed.api.event_watchers.left(bed.ingest)
    assert early.taken() == [WatchEvents(0)]
    assert late.taken() == []
    assert old.taken() == [], "a gateway of version 1 cannot read it"


async def test_events_of_a_gateway_go_to_those_who_want_them() -> None:
    bed = Watched()
    picky, gateway = Far(), Far()
    bed.attach(gateway)
    bed.tell(EVERYTHING)
    bed.tell(WatchEvents(0, EventFilter(("t",), ("failed",))), picky)
    mine, others = HappenedEvent("t", "failed", b"{}"), HappenedEvent("e", "failed", b"{}")
    bed.tell(EventsHappened(0, [others, mine], 3), gateway)
    assert bed.ingest.taken() == [EventsHappened(0, [others, mine], 3)]
    assert picky.taken() == [EventsHappened(0, [mine], 3)]


async def test_a_message_is_told_as_numbered_before_it_is_told_as_delivered() -> None:
    bed = Watched()
    bed.tell(EVERYTHING)
    bed.feed(bed.message())
    bed.tell(EventsHappened(0, [HappenedEvent("t", "delivered", b'{"event":"delivered"}')]), Far())
    assert [event["event"] for event in bed.told()] == ["message_enqueued", "delivered", "delivered"]


async def test_a_congested_link_gets_no_events_and_later_their_number() -> None:
    bed = Watched()
    bed.tell(EVERYTHING)
    happened = HappenedEvent("t", "failed", b"{}")
    bed.ingest.congested = True
    bed.tell(EventsHappened(0, [happened, happened], 1), Far())
    assert bed.ingest.taken() == []
    bed.ingest.congested = False
    bed.tell(EventsHappened(0, [happened]), Far())
    assert bed.ingest.taken() == [EventsHappened(0, [happened], 3)]


async def test_the_owner_tells_of_full_queues_of_both_profiles() -> None:
    bed = Watched()
    bed.tell(EVERYTHING)
    bed.ask(link.AskSubscribe(1, "e", ADMIN), gateway := Far())
    bed.api.announcements.heard(gateway)
    await bed.later()
    gateway.backlog["e"] = 10_000
    epoch = bed.owner.rows[topic_key("e")].epoch
    assert bed.ask(link_ephemeral.Relay(1, "e", epoch, TAIL)).code == "queue_full"
    (full,) = await bed.later()
    assert (full["event"], full["outcome"], full["id"], full["queue_length"]) == (
        *("backpressure", "rejected", "m"),
        10_000,
    )
    counted: dict[str, int] = {}
    bed.owner.events.count = lambda name, count: counted.update({name: counted.get(name, 0) + count})
    told = TopicPublishes("t", bed.row.epoch, rejected=9, waiting=500, full=7)
    bed.tell(PublishReport(0, [told, TopicPublishes("t", bed.row.epoch, 2), TopicPublishes("t", 1, 2, 0, 2)]))
    (full,) = await bed.later()
    assert (full["event"], full["size"], full["queue_length"], full["id"]) == ("backpressure", 7, 500, None)
    assert counted == {"backpressure": 7}, "those refused for another reason, or of another epoch, are none"
