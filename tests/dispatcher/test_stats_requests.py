"""Reports about topics and the questions about them, at the owner."""

from typing import Any

from headgate.core.wire import link, link_ephemeral
from headgate.core.wire.control import DeleteTopic
from headgate.core.wire.link_stats import (
    AskStats,
    AskTop,
    DeliveryReport,
    FlushTopic,
    PublishReport,
    ReleaseHeld,
    StatsAnswer,
    TopAnswer,
    TopEntry,
    TopicDelivered,
    TopicFlushed,
    TopicPublishes,
    TopicStats,
    TopLists,
)
from headgate.core.wire.rights import Caller
from tests.dispatcher.bed import CLOCK
from tests.dispatcher.members_bed import ADMIN, Far, MembersBed
from tests.dispatcher.test_relays import Relaying

EVE = Caller("eve")


class Bed(MembersBed):
    def stats(self, caller: Caller = ADMIN, peer: Far | None = None) -> Any:
        return self.ask(AskStats(1, "t", caller), peer)

    def tell(self, *reports: link.Message, peer: Far | None = None) -> None:
        for report in reports:
            self.api.handle(peer or Far(), report)


async def test_statistics_add_up_what_was_told() -> None:
    bed = Bed()
    epoch = bed.row.epoch
    bed.hosting()
    bed.feed(bed.message(), bed.message())
    told = TopicDelivered("t", epoch, 6, 300, 2, 1)
    bed.tell(DeliveryReport(0, [told]), DeliveryReport(0, [told]))
    bed.tell(PublishReport(0, [TopicPublishes("t", epoch, 4)]))
    bed.owner.tallies.dead_lettered("t", epoch)
    assert bed.stats() == StatsAnswer(1, epoch, TopicStats(2, 12, 4, 4, 1, 2, 0, 1, 600))


async def test_an_ephemeral_topic_s_published_are_those_sent_on() -> None:
    bed = Relaying()
    for _ in range(3):
        bed.relay()
    answer = bed.ask(AskStats(1, "e", ADMIN))
    assert answer.stats.published == 3 and answer.stats.subscriber_count == 1


async def test_a_full_link_refuses_an_ephemeral_publish() -> None:
    bed = Relaying()
    bed.gateway.backlog["e"] = 10_000
    refused = bed.relay()
    assert isinstance(refused, link.Refused) and refused.code == "queue_full"
    assert refused.extra["retry_after_ms"] == 1_000
    assert bed.relay(unmetered=True).code == "queue_full", "whoever publishes it"
    assert bed.gateway.taken() == []
    bed.gateway.backlog["e"] = 4_999
    assert bed.relay() == link_ephemeral.Relayed(1, 1)


async def test_the_queue_is_what_others_wait_for_and_the_slowest_link() -> None:
    bed, first, second = Bed(), Far(), Far()
    epoch = bed.row.epoch
    gateway = bed.hosting()
    gateway.backlog["t"] = 7
    bed.tell(PublishReport(0, [TopicPublishes("t", epoch, 0, 300)]), peer=first)
    bed.tell(PublishReport(0, [TopicPublishes("t", epoch, 0, 20)]), peer=second)
    assert bed.stats(peer=first).stats.queued == 27 and bed.stats(peer=second).stats.queued == 307
    assert bed.stats().stats.queued == 327
    bed.owner.left(first)
    assert bed.stats().stats.queued == 27


async def test_the_lists_of_the_hour_are_answered_and_a_deleted_topic_leaves_them() -> None:
    bed = Bed()
    bed.hosting()
    bed.feed(bed.message(), bed.message())
    bed.tell(DeliveryReport(0, [TopicDelivered("t", bed.row.epoch, 6, 300, failed=5)]))
    tops, now_ms = bed.owner.tallies.tops, CLOCK.wall_ms()
    assert bed.ask(AskTop(1, 0)) == TopAnswer(1, 10, TopLists()), "until they are made"
    tops.count_hour()
    lists = bed.ask(AskTop(1, 0)).lists
    assert (lists.messages, lists.failures) == ([], [TopEntry("t", 5)]), "the messages are of 1970"
    tops.published("t", 2, now_ms)
    tops.count_hour()
    assert bed.ask(AskTop(1, 0)).lists.messages == [TopEntry("t", 2)]
    bed.feed(bed.control(DeleteTopic("t")))
    tops.count_hour()
    assert bed.ask(AskTop(1, 0)).lists == TopLists()


async def test_records_and_relays_of_the_hour_are_counted_unless_that_is_off() -> None:
    bed, off = Relaying(), Relaying()
    off.owner.tallies.tops.size = 0
    for each in (bed, off):
        record = each.message()
        each.feed(record._replace(ts=CLOCK.wall_ms()))
        each.relay()
        each.owner.tallies.tops.count_hour()
    assert {entry.id: entry.count for entry in bed.owner.tallies.tops.lists.messages} == {"t": 1, "e": 1}
    assert off.owner.tallies.tops.lists == TopLists()


async def test_they_are_gone_with_the_topic() -> None:
    bed = Bed()
    bed.tell(DeliveryReport(0, [TopicDelivered("t", bed.row.epoch, 6, 300)]))
    bed.feed(bed.control(DeleteTopic("t")))
    assert bed.stats().code == "topic_not_found"


async def test_who_does_not_see_the_topic_sees_no_statistics() -> None:
    bed = Bed()
    hidden, missing = bed.stats(EVE), bed.ask(AskStats(1, "x", EVE))
    assert hidden.code == missing.code == "topic_not_found"
    assert hidden.detail == "there is no topic t" and missing.detail == "there is no topic x"
    assert hidden.extra == missing.extra
    bed.feed(bed.join("eve", "publisher"))
    assert isinstance(bed.stats(EVE), StatsAnswer)
    assert bed.stats(Caller("eve", only=True)).code == "topic_not_found", "her token has no use of it"


async def test_a_flush_tells_the_gateways_that_hold_messages_behind_what_is_numbered() -> None:
    bed = Bed()
    one, two, old = bed.hosting(), bed.hosting(), bed.hosting(version=1)
    answer = bed.ask(FlushTopic(1, "t", ADMIN))
    assert answer == TopicFlushed(1, 2)
    for gateway in (one, two):
        assert gateway.taken() == [ReleaseHeld("t", bed.row.epoch)]
    assert old.taken() == []


async def test_only_admins_flush() -> None:
    bed = Bed("PUBLIC")
    bed.feed(bed.join("eve", "member"), bed.join("ann2", "admin"))
    assert bed.ask(FlushTopic(1, "t", EVE)).code == "forbidden"
    assert bed.ask(FlushTopic(1, "t", Caller("ann2"))) == TopicFlushed(1, 0)
    assert bed.ask(FlushTopic(1, "x", ADMIN)).code == "topic_not_found"
