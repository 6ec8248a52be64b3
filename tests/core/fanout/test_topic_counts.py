"""What gateways tell the owners of topics: counts of a flush, in one report for each shard a second."""

from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout import topic_counts
from headgate.core.wire.link_stats import DeliveryReport, TopicDelivered
from tests.core.fanout.acking import AckScene, got
from tests.core.scene import Scene


def reports(scene: Scene) -> list[DeliveryReport]:
    """What the owners were told since the last call."""
    found = [message for message in scene.owners.asked if isinstance(message, DeliveryReport)]
    scene.owners.asked = [message for message in scene.owners.asked if not isinstance(message, DeliveryReport)]
    return found


def topics(scene: Scene) -> dict[str, TopicDelivered]:
    return {topic.topic_id: topic for report in reports(scene) for topic in report.topics}


@pytest.mark.parametrize("settings", [{}, {"profile": "ephemeral"}], ids=["durable", "ephemeral"])
def test_deliveries_are_counted_with_their_time(settings: dict[str, Any]) -> None:
    scene = Scene()
    epoch = scene.owners.create("t", settings=settings).epoch
    for _ in range(3):
        scene.socket("t")
    scene.stream("t")
    scene.publish("t", 1, 2)
    scene.now += 0.5
    scene.turn()
    scene.hub.counts.report()
    assert topics(scene) == {"t": TopicDelivered("t", epoch, 8, 4_000)}
    scene.hub.counts.report()
    assert not reports(scene), "nothing new"


def test_a_replay_counts_for_the_one_who_gets_it() -> None:
    scene = Scene()
    scene.owners.create("t")
    scene.publish("t", 1, 2, 3)
    scene.socket("t", form="earliest")
    scene.turn()
    scene.hub.counts.report()
    assert topics(scene)["t"].delivered == 3


def test_what_one_write_may_not_carry_counts_once() -> None:
    """The session is taken out of step again, and gets the messages topic by topic."""
    scene = Scene(Limits(queue_bytes=8_000))  # a write has at most a quarter of it
    for topic in "ab":
        scene.owners.create(topic)
    both = scene.socket("a", "b")
    for topic in "ab":
        scene.publish(topic, "x" * 1_500)
    scene.turn()
    assert len(both.frames("message")) == 2
    scene.hub.counts.report()
    assert {topic: told.delivered for topic, told in topics(scene).items()} == {"a": 1, "b": 1}


def test_what_comes_again_counts_nothing_and_what_is_new_behind_it_its_own_time() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1)
    scene.nack(bob, 1)
    scene.pass_time(0.5)
    scene.send(2)
    scene.hub.counts.report()
    reports(scene)
    scene.pass_time(1.0)
    assert got(bob) == [(1, 1), (1, 2), (2, 1)]
    scene.hub.counts.report()
    told = topics(scene)["a"]
    assert (told.delivered, told.latency_ms <= 750) == (1, True)
    scene.pass_time(3.0)
    assert got(bob)
    scene.hub.counts.report()
    again = topics(scene)["a"]
    assert (again.delivered, again.latency_ms) == (0, 0)


def test_nobody_there_counts_nothing() -> None:
    scene = Scene()
    scene.owners.create("t")
    pipe = scene.socket("t")
    scene.say(pipe, type="unsubscribe", topic_id="t")
    scene.publish("t", 1)
    scene.turn()
    assert len(scene.hub.counts) == 0


def test_failures_and_repeats_are_told_too() -> None:
    scene = Scene()
    epoch = scene.owners.create("t").epoch
    scene.socket("t")
    feed = scene.hub.feeds["t"]
    scene.hub.counts.failed(feed, 2)
    scene.hub.counts.retried(feed, 3)
    scene.hub.counts.report()
    assert topics(scene) == {"t": TopicDelivered("t", epoch, failed=2, retried=3)}


def test_a_report_is_due_once_a_second_and_has_a_bounded_number_of_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_counts, "MAX_REPORTED", 3)
    scene = Scene()
    scene.owners.shards = 1
    names = [f"t{n}" for n in range(7)]
    for name in names:
        scene.owners.create(name)
    scene.socket(*names)
    for name in names:
        scene.hub.counts.failed(scene.hub.feeds[name], 1)
    scene.hub.counts.tick(10.0)
    found = reports(scene)
    assert sum(len(report.topics) for report in found) == 7
    assert all(len(report.topics) <= 3 for report in found)
    scene.hub.counts.failed(scene.hub.feeds["t0"], 1)
    scene.hub.counts.tick(10.9)
    assert not reports(scene)
    scene.hub.counts.tick(11.0)
    assert len(reports(scene)) == 1


def test_what_an_owner_who_is_away_misses_is_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    for name in ("a", "b", "c"):
        scene.owners.create(name)
    scene.socket("a", "b", "c")
    feeds = [scene.hub.feeds[name] for name in ("a", "b", "c")]
    scene.owners.lose_owners()
    scene.hub.counts.failed(feeds[0], 1)
    scene.hub.counts.report()
    assert not reports(scene) and len(scene.hub.counts) == 1
    monkeypatch.setattr(topic_counts, "MAX_TOPICS", 2)
    scene.hub.counts.failed(feeds[1], 1)
    scene.hub.counts.failed(feeds[2], 1)
    assert len(scene.hub.counts) == 2, "the oldest is forgotten"
    scene.owners.regain_owners()
    scene.hub.counts.report()
    assert set(topics(scene)) == {"b", "c"}
