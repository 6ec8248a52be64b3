"""Publishes to ephemeral topics at their owner: sent on, counted, and shed when the node is overloaded."""

import asyncio
from typing import Any

from headgate.core.wire import link, link_deliveries, link_ephemeral
from headgate.core.wire.control import CreateTopic, DeleteTopic
from headgate.core.wire.ids import topic_key
from tests.dispatcher.members_bed import ADMIN, Far, MembersBed

TAIL = b'"message_id":"m","payload":1}'
ID = bytes(range(16))


class Relaying(MembersBed):
    """The topics `e` (ephemeral) and `t` (durable), with one subscriber of each at `gateway`."""

    def __init__(self) -> None:
        super().__init__("PUBLIC")
        self.feed(self.control(CreateTopic("e", "e", "PUBLIC", "ann", {"profile": "ephemeral"}), topic_key("e")))
        self.gateway = Far()
        for topic in ("e", "t"):
            self.ask(link.AskSubscribe(1, topic, ADMIN), self.gateway)
        self.api.announcements.heard(self.gateway)
        self.gateway.taken()

    def epoch_of(self, topic: str) -> int:
        return self.owner.rows[topic_key(topic)].epoch

    def relay(self, topic: str = "e", **fields: Any) -> Any:
        return self.ask(link_ephemeral.Relay(1, topic, self.epoch_of(topic), TAIL, **fields))

    def fill(self, share: float) -> None:
        """So much of the links to gateways is used."""
        self.load.sample(0.1, 0, int(share * 1_000), 1_000)

    def expect(self, topic: str) -> Any:
        return self.ask(link_deliveries.ExpectDeliveries(2, topic, self.epoch_of(topic), [ID]))

    def delivered(self, topic: str, wait_ms: int = 0) -> Any:
        return self.ask(link_deliveries.AskDelivered(3, topic, self.epoch_of(topic), ID, wait_ms))


async def test_low_messages_are_shed_above_a_load_of_08_and_normal_ones_never() -> None:
    bed = Relaying()
    for share, shed in [(0.8, False), (0.81, True), (0.7, True), (0.59, False)]:
        bed.fill(share)
        assert bed.relay(low=True) == link_ephemeral.Relayed(1, 0 if shed else 1, shed)
        assert len(bed.gateway.taken()) == (0 if shed else 1)
        assert bed.relay() == link_ephemeral.Relayed(1, 1, False)
        assert len(bed.gateway.taken()) == 1
    bed.fill(2)
    assert bed.relay(low=True, unmetered=True).shed, "whoever publishes it"


async def test_what_is_shed_costs_the_topic_no_rate() -> None:
    bed = Relaying()
    bed.fill(1)
    for _ in range(1_000):
        assert bed.relay(low=True).shed
    assert bed.relay() == link_ephemeral.Relayed(1, 1, False)


async def test_the_gateways_are_asked_to_count_right_in_front_of_the_message() -> None:
    bed = Relaying()
    assert bed.expect("e") == link_deliveries.DeliveriesExpected(2)
    assert bed.relay() == link_ephemeral.Relayed(1, 1), "one that is not counted"
    bed.gateway.taken()
    bed.relay(id=ID)
    asked, message = bed.gateway.taken()
    assert asked == link_deliveries.CountWritten("e", bed.epoch_of("e"), 0, 1)
    assert isinstance(message, link.EphemeralMessages)
    bed.api.handle(bed.gateway, link_deliveries.Written("e", 1, 1, True))
    assert bed.delivered("e", 1_000) == link_deliveries.Delivered(3, 1)


async def test_a_durable_message_is_counted_with_its_seq() -> None:
    bed = Relaying()
    bed.expect("t")
    record = bed.message()
    bed.feed(record)
    assert not any(isinstance(each, link_deliveries.CountWritten) for each in bed.gateway.taken()), "another message"
    counted = bed.message_of(ID)
    bed.feed(counted)
    asked, messages = bed.gateway.taken()
    assert asked == link_deliveries.CountWritten("t", bed.epoch_of("t"), 2, 1)
    assert isinstance(messages, link.Messages) and messages.seq == 2
    peer = Far()
    bed.api.handle(peer, link_deliveries.AskDelivered(3, "t", bed.epoch_of("t"), ID, 20))
    assert peer.sent == []
    await asyncio.sleep(0.05)
    assert peer.sent == [link_deliveries.Delivered(3, 0)], "the count so far"


async def test_a_congested_link_misses_an_ephemeral_message_and_is_not_asked() -> None:
    bed = Relaying()
    bed.expect("e")
    bed.gateway.congested = True
    bed.relay(id=ID)
    assert bed.gateway.taken() == []
    assert bed.delivered("e", 1_000) == link_deliveries.Delivered(3, 0)


async def test_forgotten_counts_and_closed_links() -> None:
    bed = Relaying()
    bed.expect("e")
    bed.relay(id=ID)
    peer = Far()
    bed.api.handle(peer, link_deliveries.AskDelivered(3, "e", bed.epoch_of("e"), ID, 1_000))
    bed.owner.left(bed.gateway)
    assert peer.sent == [link_deliveries.Delivered(3, 0)]
    bed.api.handle(peer, link_deliveries.ForgetDeliveries("e", bed.epoch_of("e"), [ID]))
    assert len(bed.owner.counted) == 0
    assert bed.delivered("e").count == -1


async def test_a_topic_that_is_not_there_or_is_another_one() -> None:
    bed = Relaying()
    epoch = bed.epoch_of("e")
    bed.feed(bed.control(DeleteTopic("e"), topic_key("e")))
    for message in (
        link_ephemeral.Relay(1, "e", epoch, TAIL),
        link_deliveries.ExpectDeliveries(1, "e", epoch, [ID]),
        link_ephemeral.Relay(1, "t", bed.epoch_of("t"), TAIL),
        link_deliveries.ExpectDeliveries(1, "t", epoch, [ID]),
    ):
        assert bed.ask(message).code == "topic_not_found"
