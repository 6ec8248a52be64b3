"""Receipts: to the gateways that host a topic, one a second and reader, to those who published what was read."""

from typing import Any

import pytest

from dispatcher import read_receipts
from headgate.core.wire.control import CreateTopic, DeleteTopic, SetMember
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link import AskSubscribe
from headgate.core.wire.link_inbox import RECEIPT_PUBLISHERS, ReadReceipt, ReadStored
from tests.dispatcher.bed import until
from tests.dispatcher.inbox_bed import InboxBed
from tests.dispatcher.members_bed import ROOT, Far
from tests.dispatcher.messages_bed import ANN


class ReceiptsBed(InboxBed):
    """The topic `l` lists who is there; two gateways host it. Every second is over at once."""

    def __init__(self, path: str | None = None) -> None:
        super().__init__(path=path)
        self.listing = self.create("l", presence="list")
        for user in ("eve", "bob", "cat"):
            self.feed(self._joined(user))
        self.gateways = [self._host(), self._host()]
        self.receipts: Any = self.api._handlers[ReadStored].__self__  # type: ignore[attr-defined]

    def _joined(self, user: str) -> Any:
        return self.control(SetMember("l", user, "member", ROOT), topic_key("l"))

    def _host(self) -> Far:
        far = Far()
        self.api.handle(far, AskSubscribe(1, "l", ANN))
        far.taken()
        return far

    def read(self, seq: int, user: str = "eve", topic_id: str = "l", epoch: int = 0) -> None:
        row = self.owner.rows[topic_key(topic_id)]
        self.api.handle(Far(), ReadStored(topic_id, epoch or row.epoch, user, seq))

    def told(self) -> list[tuple[str, int, list[str]]]:
        """What both gateways were told when the second is over."""
        if self.receipts._timer is not None:
            self.receipts._timer.cancel()
            self.receipts._begin()
        one, two = ([message for message in far.taken() if isinstance(message, ReadReceipt)] for far in self.gateways)
        assert one == two
        return [(receipt.user_id, receipt.seq, receipt.publishers) for receipt in one]


@pytest.mark.parametrize("path", [":memory:", None])
async def test_the_publishers_of_what_was_read_since_the_last_receipt_are_named(path: str | None) -> None:
    bed = ReceiptsBed(path)
    for publisher in ("bob", "eve", "cat"):
        bed.put("l", publisher=publisher)
    if path:
        bed.write()
    bed.read(2)
    assert bed.told() == [("eve", 2, ["bob"])]
    bed.read(3)
    assert bed.told() == [("eve", 3, ["cat"])]
    bed.read(3, "ann")
    assert bed.told() == [("ann", 3, ["cat", "eve", "bob"])]


async def test_only_the_newest_of_a_second_is_told_and_what_was_told_is_not_repeated() -> None:
    bed = ReceiptsBed()
    for _ in range(5):
        bed.put("l")
    for seq in (1, 4, 2):
        bed.read(seq)
    bed.read(1, "cat")
    assert bed.told() == [("eve", 4, ["bob"]), ("cat", 1, ["bob"])]
    bed.read(4)
    bed.read(3)
    assert bed.told() == []
    bed.read(2**53 - 1)
    assert bed.told() == [("eve", 5, ["bob"])]


async def test_who_read_only_his_own_messages_tells_nobody_and_events_have_no_publisher() -> None:
    bed = ReceiptsBed()
    bed.put("l", publisher="eve")
    bed.read(1)
    assert bed.told() == []
    assert bed.listing.seq == 1


async def test_events_between_are_passed_over() -> None:
    bed = ReceiptsBed()
    bed.publish("a")
    bed.react(1, "+1", "bob")
    assert bed.receipts._publisher_of(bed.row.epoch, 1) == "bob"
    assert bed.receipts._publisher_of(bed.row.epoch, 2) == bed.receipts._publisher_of(bed.row.epoch, 3) == ""


async def test_nobody_is_told_where_the_topic_does_not_list_or_the_reader_is_no_member() -> None:
    bed = ReceiptsBed()
    bed.put("l")
    bed.put("t")
    bed.read(1, "stranger")
    bed.read(1, "ann", "t")
    bed.read(1, epoch=7)
    assert bed.receipts._timer is None
    bed.read(1)
    key = topic_key("l")
    bed.feed(bed.control(DeleteTopic("l"), key), bed.control(CreateTopic("l", "l", "PUBLIC", "ann"), key))
    assert bed.told() == []


async def test_a_slow_gateway_and_one_that_does_not_know_receipts_are_left_out() -> None:
    bed = ReceiptsBed()
    bed.put("l")
    bed.gateways[0].congested = True
    bed.gateways[1].version = 1
    bed.read(1)
    assert bed.told() == []


async def test_a_long_stretch_names_the_publishers_of_its_newest_messages() -> None:
    bed = ReceiptsBed()
    bed.put("l", publisher="old")
    for n in range(RECEIPT_PUBLISHERS):
        bed.put("l", publisher=f"p{n % 3}")
    bed.read(RECEIPT_PUBLISHERS + 1)
    ((_, _, publishers),) = bed.told()
    assert sorted(publishers) == ["p0", "p1", "p2"]


async def test_a_second_has_a_bound_and_the_rest_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_receipts, "TOLD", 2)
    monkeypatch.setattr(read_receipts, "SLICE", 1)
    monkeypatch.setattr(read_receipts, "EVERY_S", 0.01)
    bed = ReceiptsBed()
    bed.put("l", publisher="pat")
    for user in ("eve", "bob", "cat", "ann"):
        bed.read(1, user)
    bed.gateways[0].taken()
    await until(lambda: len(bed.gateways[0].sent) == 4)
    assert [getattr(each, "user_id", None) for each in bed.gateways[0].sent] == ["eve", "bob", "cat", "ann"]
    await until(lambda: bed.receipts._timer is None)


async def test_all_state_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = ReceiptsBed()
    for _ in range(5):
        bed.put("l")
    for name in ("WAITING", "READERS", "PUBLISHERS"):
        monkeypatch.setattr(read_receipts, name, 2)
    for user in ("eve", "cat", "ann"):
        bed.read(5, user)
    assert len(bed.receipts._waiting) == 2
    assert [user for user, _, _ in bed.told()] == ["cat", "ann"]
    bed.read(5, "eve")
    bed.told()
    assert len(bed.receipts._told) == len(bed.receipts._publishers) == 2


async def test_a_shard_that_is_given_up_tells_nobody() -> None:
    bed = ReceiptsBed()
    bed.put("l")
    bed.read(1)
    bed.api.close()
    assert bed.receipts._timer.cancelled() and not bed.receipts._waiting
