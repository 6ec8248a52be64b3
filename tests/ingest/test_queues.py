"""ingest.queues: what waits of a topic, from the hand-over to the word that it is numbered."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.link_stats import Numbered, PublishReport, Queued, QueuedElsewhere, TopicPublishes
from headgate.runtime.testing.faulty_log import Reach
from ingest import queues as module
from ingest.publishing import Pending
from ingest.queues import BLOCK_RECORDS, REPORT_S, Queues
from tests.ingest.parts import ANA, SERVICE, Parts, play, publish

Scene = Callable[[Parts], Awaitable[None]]


class Reports:
    """What the owners of the shards are told."""

    def __init__(self, parts: Parts) -> None:
        self.sent: list[PublishReport] = []
        parts.directory.send = self._take  # type: ignore[method-assign,assignment]

    def _take(self, shard: int, message: PublishReport) -> None:
        assert message.shard == shard
        self.sent.append(message)

    def topics(self) -> list[TopicPublishes]:
        found = [topic for report in self.sent for topic in report.topics]
        self.sent.clear()
        return found


def shard_of(parts: Parts, info: TopicInfo) -> int:
    return parts.directory.shard_of(info.topic_id)


def hear(parts: Parts, info: TopicInfo, offset: int = 0) -> None:
    parts.queues.numbered(Numbered([(shard_of(parts, info), offset)]))


def fill(parts: Parts, info: TopicInfo, count: int, begin: int = 0) -> None:
    """So many messages, a record each, are in the log."""
    for offset in range(begin, begin + count):
        parts.queues.enter(info)
        parts.queues.appended(shard_of(parts, info), offset, info, 1)


def is_full(parts: Parts, info: TopicInfo) -> bool:
    try:
        parts.queues.require(info)
    except Refusal as refusal:
        assert (refusal.code, refusal.retry_after_ms) == ("queue_full", 1_000)
        return True
    return False


def test_what_is_numbered_before_the_log_has_answered_does_not_wait() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=10)
        hear(parts, info, 3)  # no other word comes while the shard is idle
        fill(parts, info, 3)
        assert parts.queues.waiting("t", info.epoch) == 0
        fill(parts, info, 1, 3)
        assert parts.queues.waiting("t", info.epoch) == 1

    play(scene)


@pytest.mark.parametrize("is_linked", [True, False])
@pytest.mark.parametrize("ingests", [1, 3])
@pytest.mark.parametrize("heard", [True, False])
def test_a_queue_is_full_at_its_depth_whatever_it_is_made_of(is_linked: bool, ingests: int, heard: bool) -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=10)
        for waiting in range(12):
            for elsewhere in range(12):
                queues = Queues(parts.directory)
                queues.share(ingests)
                parts.directory.up = is_linked
                if heard:
                    queues.numbered(Numbered([(shard_of(parts, info), 0)]))
                queues.queued(Queued([QueuedElsewhere("t", info.epoch, elsewhere)]))
                for _ in range(waiting):
                    queues.enter(info)
                depth = queues.deepest()
                if depth >= 10:
                    with pytest.raises(Refusal, match="queue_full"):
                        queues.require(info)
                else:
                    queues.require(info)

    play(scene)


def test_a_full_queue_is_refused_until_less_than_half_is_left() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=10)
        hear(parts, info)
        for offset in range(9):
            fill(parts, info, 1, offset)
        assert not is_full(parts, info)
        fill(parts, info, 1, 9)
        assert is_full(parts, info) and is_full(parts, info)
        for _ in range(3):  # the rest waits in a block of its own
            parts.queues.enter(info)
        hear(parts, info, 10)
        assert parts.queues.waiting("t", info.epoch) == 3 and not is_full(parts, info)
        fill(parts, info, 7, 100)
        assert is_full(parts, info)
        parts.queues.lost(info, 5)
        assert is_full(parts, info), "five are left"
        parts.queues.lost(info, 1)
        assert not is_full(parts, info)

    play(scene)


def test_what_is_on_its_way_to_the_log_counts_too() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=3)
        hear(parts, info)
        for _ in range(3):
            parts.queues.enter(info)
        assert is_full(parts, info)

    play(scene)


def test_a_block_is_forgotten_once_its_last_record_is_numbered() -> None:
    async def scene(parts: Parts) -> None:
        info, other = await parts.topic("t"), await parts.topic("t2")
        hear(parts, info)
        fill(parts, info, BLOCK_RECORDS + 5)
        assert parts.queues.waiting("t", info.epoch) == BLOCK_RECORDS + 5
        hear(parts, info, BLOCK_RECORDS - 1)
        assert parts.queues.waiting("t", info.epoch) == BLOCK_RECORDS + 5
        hear(parts, info, BLOCK_RECORDS)
        assert parts.queues.waiting("t", info.epoch) == 5
        fill(parts, other, 1, 0)
        hear(parts, info, BLOCK_RECORDS + 5)
        assert parts.queues.waiting("t", info.epoch) == 0

    play(scene)


def test_with_the_owner_away_each_ingest_has_its_share() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=100)
        hear(parts, info)
        fill(parts, info, 50)
        parts.queues.share(2)
        assert not is_full(parts, info)
        parts.directory.lose_owners()
        parts.queues.on_owner(shard_of(parts, info), False)
        assert is_full(parts, info), "the other may have as many"
        parts.directory.regain_owners()
        parts.queues.on_owner(shard_of(parts, info), True)
        assert not is_full(parts, info), "nobody has said yet how far the new owner is"

    play(scene)


def test_what_waits_elsewhere_is_added_and_forgotten_with_the_owner() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=100)
        hear(parts, info)
        fill(parts, info, 40)
        parts.queues.queued(Queued([QueuedElsewhere("t", info.epoch, 60)]))
        assert is_full(parts, info) and parts.queues.deepest() == 100
        parts.queues.queued(Queued([QueuedElsewhere("t", info.epoch, 0)]))
        assert not is_full(parts, info)
        parts.queues.queued(Queued([QueuedElsewhere("t", info.epoch, 60)]))
        parts.queues.on_owner(shard_of(parts, info), True)
        assert not is_full(parts, info)
        parts.queues.queued(Queued([QueuedElsewhere("unknown", 1, 0)]))

    play(scene)


def test_an_owner_that_never_tells_what_is_numbered_is_not_waited_for() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=3)
        fill(parts, info, 5)
        assert not is_full(parts, info)

    play(scene)


def test_owners_are_told_of_refusals_and_of_long_queues() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=100)
        reports = Reports(parts)
        hear(parts, info)
        fill(parts, info, 1)
        parts.queues.rejected(info)
        parts.queues.rejected(info)
        await asyncio.sleep(REPORT_S + 0.01)
        assert reports.topics() == [TopicPublishes("t", info.epoch, 2, 0)]
        fill(parts, info, 1, 1)
        await asyncio.sleep(REPORT_S + 0.01)
        assert reports.topics() == [TopicPublishes("t", info.epoch, 0, 2)]
        await asyncio.sleep(1)
        assert reports.topics() == []
        hear(parts, info, 2)
        await asyncio.sleep(REPORT_S + 0.01)
        assert reports.topics() == [TopicPublishes("t", info.epoch, 0, 0)]
        assert not parts.queues._topics, "nothing of it is left"

    play(scene)


def test_owners_are_told_how_often_a_queue_was_found_full() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=100)
        reports = Reports(parts)
        hear(parts, info)
        fill(parts, info, 100)
        assert [is_full(parts, info) for _ in range(3)] == [True] * 3
        parts.publishing.count("queue_full", info)
        await asyncio.sleep(REPORT_S + 0.01)
        assert reports.topics() == [TopicPublishes("t", info.epoch, 1, 100, 3)]
        hear(parts, info, 100)
        assert not is_full(parts, info)
        await asyncio.sleep(1)
        assert [topic.full for topic in reports.topics()] == [0]
        assert not parts.queues._topics, "nothing of it is left"

    play(scene)


def test_refusals_are_kept_while_the_owner_is_away() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        reports = Reports(parts)
        parts.directory.lose_owners()
        parts.queues.rejected(info)
        await asyncio.sleep(1)
        assert reports.topics() == []
        parts.directory.regain_owners()
        await asyncio.sleep(REPORT_S + 0.01)
        assert reports.topics() == [TopicPublishes("t", info.epoch, 1, 0)]

    play(scene)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOPICS", 2)
    monkeypatch.setattr(module, "MAX_PARTS", 1)

    async def scene(parts: Parts) -> None:
        infos = [await parts.topic(name, queue_limit=1) for name in ("a", "b", "c")]
        for info in infos:
            hear(parts, info)
        for info in infos:
            fill(parts, info, 1)
        waiting = [parts.queues.waiting(info.topic_id, info.epoch) for info in infos]
        assert waiting == [1, 0, 0], "of what comes above the bound nothing is counted"
        assert len(parts.queues._topics) <= 2 and parts.queues._parts == 1

    play(scene)


def test_an_ingest_without_publishes_has_no_queue() -> None:
    async def scene(parts: Parts) -> None:
        assert Queues(parts.directory).deepest() == 0

    play(scene)


def test_publishes_go_through_the_queue() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=2)
        hear(parts, info)
        pending: list[Pending] = []
        for text in (b"1", b"2"):
            one = publish(info, text)
            assert parts.publishing.admit(one) is None
            pending += parts.publishing.hand_over([one])
        with pytest.raises(Refusal, match="queue_full"):
            parts.publishing.admit(publish(info, b"3", caller=SERVICE))
        for each in pending:
            await parts.publishing.answer(each, parts.sequenced())
        hear(parts, info, 1 << 60)
        assert parts.publishing.admit(publish(info, b"3", caller=ANA)) is None

    play(scene)


def test_a_repeat_of_what_is_known_passes_a_full_queue() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=1)
        hear(parts, info)
        one = publish(info, b"1", "k")
        assert parts.publishing.admit(one) is None
        pending = parts.publishing.hand_over([one])[0]
        await parts.publishing.answer(pending, parts.sequenced())
        assert parts.publishing.admit(publish(info, b"1", "k")) is not None
        with pytest.raises(Refusal, match="queue_full"):
            parts.publishing.admit(publish(info, b"2", "l"))

    play(scene)


def test_a_record_that_the_log_did_not_take_waits_no_longer() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", queue_limit=1)
        hear(parts, info)
        parts.log.reach = Reach.REFUSED
        one = publish(info, b"1")
        assert parts.publishing.admit(one) is None
        pending = parts.publishing.hand_over([one])[0]
        with pytest.raises(Refusal):
            await parts.publishing.answer(pending, parts.sequenced())
        assert parts.queues.waiting("t", info.epoch) == 0

    play(scene)


def test_refused_publishes_of_a_topic_are_counted_but_not_those_whose_outcome_is_unknown() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        reports = Reports(parts)
        for outcome in ("accepted", "duplicate", "outcome_unknown", "rate_limited", "invalid_payload", "shed"):
            parts.publishing.count(outcome, info)
        parts.publishing.count("bad_request", None)
        await asyncio.sleep(REPORT_S + 0.01)
        assert reports.topics() == [TopicPublishes("t", info.epoch, 3, 0)]

    play(scene)
