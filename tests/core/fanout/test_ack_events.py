"""Events and statistics of acknowledged deliveries: each once, in order, and not built while nobody watches."""

from typing import Any

import msgspec
import pytest

from headgate.core.fanout import ack_events
from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_stats import DeliveryReport
from tests.core.fanout.acking import AckScene, got
from tests.core.fanout.test_replaying import begun, replay
from tests.owners_twin import SHARDS


def watched(scene: AckScene, *names: str) -> AckScene:
    for shard in range(SHARDS):
        scene.hub.events.watch(shard, EventFilter(("a",), tuple(sorted(names))))
    return scene


def told(scene: AckScene) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event.data) for batch in scene.hub.events.take() for event in batch.events]


def short(scene: AckScene) -> list[tuple[str, int, int, str]]:
    return [(one["event"], one["seq"], one["attempts"], one["status"]) for one in told(scene)]


def test_refused_retried_and_acknowledged_in_order_with_attempts() -> None:
    scene = watched(AckScene())
    bob = scene.acker()
    scene.send(1)
    scene.nack(bob, 1, reason="busy")
    scene.pass_time(1.25)
    assert got(bob) == [(1, 1), (1, 2)]
    scene.ack(bob, 1)
    events = told(scene)
    assert [(one["event"], one["attempts"], one["status"]) for one in events] == [
        ("delivering", 1, "DELIVERING"),
        ("failed", 1, "FAILED"),
        ("retry_scheduled", 1, "RETRY_SCHEDULED"),
        ("delivering", 2, "DELIVERING"),
        ("delivered", 2, "DELIVERED"),
    ]
    failed = events[1]
    assert failed == {
        **{"event": "failed", "at": failed["at"], "topic": "a", "id": failed["id"], "subscriber": "bob", "attempts": 1},
        **{"status": "FAILED", "error": "busy", "epoch": scene.topic.epoch, "seq": 1, "device_id": "default"},
    }
    assert failed["at"] > 1_000 - 1 and failed["id"]
    assert len({one["id"] for one in events}) == 1
    assert events[2]["delay_s"] == 1.0
    assert {one["subscriber"] for one in events} == {"bob"}


def test_a_timeout_is_a_failure_whose_retry_is_due() -> None:
    scene = watched(AckScene(), "failed", "retry_scheduled")
    scene.acker()
    scene.send(1)
    scene.pass_time(1.25)
    failed, retry = told(scene)
    assert (failed["error"], retry["delay_s"]) == ("no acknowledgement in time", 0.0)


def test_the_last_failure_is_not_retried() -> None:
    scene = watched(AckScene(retry={"max_attempts": 1}))
    bob = scene.acker()
    scene.send(1)
    scene.nack(bob, 1)
    assert short(scene) == [("delivering", 1, 1, "DELIVERING"), ("failed", 1, 1, "FAILED")]


def test_one_acknowledgement_is_one_event_for_each_message_that_it_is_the_first_for() -> None:
    scene = watched(AckScene(), "delivered")
    bob = scene.acker()
    scene.send(1, 2, 3, 4)
    scene.ack(bob, 2)
    scene.ack(bob, 2)
    scene.nack(bob, 3)
    scene.ack(bob, 4)
    assert [seq for _, seq, _, _ in short(scene)] == [1, 2, 4]
    scene.pass_time(1.25)
    scene.ack(bob, 3)
    assert short(scene) == [("delivered", 3, 2, "DELIVERED")]
    assert scene.numbers.events["delivered"] == 4


def test_who_does_not_acknowledge_is_counted_apart() -> None:
    scene = watched(AckScene())
    scene.acker()
    scene.socket("a")
    scene.send(1)
    by_name = {(one["event"], one["subscriber"]): one for one in told(scene)}
    assert set(by_name) == {("delivered", None), ("delivering", "bob")}
    assert by_name["delivered", None]["subscribers"] == 1


def test_a_replay_begins_again_with_attempt_1() -> None:
    scene, bob = begun(max_attempts=2)
    watched(scene)
    replay(scene)
    scene.nack(bob, 1, reason="no")
    scene.pass_time(1.25)
    scene.ack(bob, 1)
    assert short(scene) == [
        ("delivering", 1, 1, "DELIVERING"),
        ("failed", 1, 1, "FAILED"),
        ("retry_scheduled", 1, 1, "RETRY_SCHEDULED"),
        ("delivering", 1, 2, "DELIVERING"),
        ("delivered", 1, 2, "DELIVERED"),
    ]


def test_nothing_is_built_while_nobody_watches_and_all_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ack_events, "Event", None)
    monkeypatch.setattr(ack_events, "message_id_in", None)
    scene = AckScene()
    bob, ann = scene.acker(), scene.acker("ann")
    scene.send(1, 2)
    scene.nack(bob, 1)
    scene.ack(ann, 2)
    scene.pass_time(1.25)
    scene.ack(bob, 1)
    scene.ack(bob, 2)
    counted = {"delivering": 6, "delivered": 4, "failed": 1, "retry_scheduled": 1}
    assert {name: scene.numbers.events[name] for name in counted} == counted
    scene.hub.counts.report()
    (report,) = [message for message in scene.owners.asked if isinstance(message, DeliveryReport)]
    (topic,) = report.topics
    assert (topic.delivered, topic.failed, topic.retried) == (4, 1, 2)
    assert scene.numbers.again == 2
