"""The depth of a topic's queue at its owner: what ingests wait for, and what waits on the slowest link."""

from typing import Any

import pytest

from dispatcher import topic_queues
from dispatcher.topic_queues import TopicQueues
from headgate.core.sequencer.routes import Routes
from headgate.core.sequencer.rows import Row
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_stats import QueuedElsewhere, TopicPublishes


class Far:
    """A gateway or an ingest."""

    def __init__(self, **backlog: int) -> None:
        self.backlog = backlog


class Bed:
    def __init__(self, **settings: Any) -> None:
        self.rows = {topic_key(name): Row(name, 7, 0, name, "PUBLIC", "ann", 0, settings) for name in ("t", "u")}
        self.routes: Routes[Far] = Routes()
        self.queues: TopicQueues[Far] = TopicQueues(self.rows, self.routes)

    def report(self, ingest: Far, waiting: int, topic_id: str = "t") -> None:
        self.queues.report(ingest, TopicPublishes(topic_id, 7, 0, waiting))

    def told(self, ingest: Far, *backlog: str) -> list[tuple[str, int]]:
        return [(each.topic_id, each.count) for news in self.queues.news(ingest, backlog) for each in news.topics]


def test_ingests_are_told_what_the_others_wait_for() -> None:
    bed, first, second = Bed(queue_limit=100), Far(), Far()
    bed.report(first, 40)
    bed.report(second, 30)
    assert bed.queues.depth("t") == 70 and bed.queues.depth("t", but=first) == 30
    assert bed.told(first) == [("t", 30)] and bed.told(second) == [("t", 40)]
    assert bed.told(first) == []
    bed.report(second, 0)
    assert bed.told(first) == [("t", 0)] and bed.told(second) == []
    bed.report(first, 0)
    assert bed.told(second) == [("t", 0)] and bed.queues.depth("t") == 0


def test_few_messages_are_not_told() -> None:
    bed, first, second = Bed(queue_limit=1_000), Far(), Far()
    bed.report(first, 19)
    assert bed.told(second) == []
    bed.report(first, 20)
    assert bed.told(second) == [("t", 20)]


def test_an_ingest_that_has_gone_waits_for_nothing() -> None:
    bed, first, second = Bed(queue_limit=10), Far(), Far()
    bed.report(first, 5)
    bed.report(first, 5, "u")
    assert bed.told(second) == [("t", 5), ("u", 5)]
    bed.queues.left(first)
    assert bed.told(second) == [("t", 0), ("u", 0)]


def test_the_slowest_link_counts_unless_it_is_served_from_the_index() -> None:
    bed, ingest = Bed(queue_limit=100), Far()
    fast, slow = Far(t=3), Far(t=50, u=9)
    bed.routes.add(fast, "t", 7, 0)
    behind = bed.routes.add(slow, "t", 7, 0)
    assert bed.queues.depth("t") == 50 and bed.queues.depth("u") == 0, "it does not host the other"
    assert bed.told(ingest, "t", "u") == [("t", 50)]
    behind.behind = True
    assert bed.queues.depth("t") == 3
    assert bed.told(ingest, "t") == [("t", 3)]


def test_an_ephemeral_topic_is_refused_until_half_of_it_has_gone() -> None:
    bed = Bed(profile="ephemeral", queue_limit=10)
    row, far = bed.rows[topic_key("t")], Far(t=9)
    bed.routes.add(far, "t", 7, 0)
    bed.queues.require(row)
    far.backlog["t"] = 10
    with pytest.raises(Refusal, match="queue_full") as caught:
        bed.queues.require(row)
    assert caught.value.retry_after_ms == 1_000
    far.backlog["t"] = 5
    with pytest.raises(Refusal, match="queue_full"):
        bed.queues.require(row)
    far.backlog["t"] = 4
    bed.queues.require(row)
    far.backlog["t"] = 9
    bed.queues.require(row)


def test_what_is_known_and_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_queues, "MAX_WAITING", 1)
    monkeypatch.setattr(topic_queues, "MAX_TOLD", 1)
    bed, first, second = Bed(queue_limit=10), Far(t=3, u=3), Far()
    bed.report(first, 5)
    bed.report(first, 5, "u")
    assert bed.queues.depth("u") == 0
    bed.routes.add(first, "u", 7, 0)
    news = bed.queues.news(second, ["u"])
    assert [message.topics for message in news] == [[QueuedElsewhere("t", 7, 5)], [QueuedElsewhere("u", 7, 3)]]
