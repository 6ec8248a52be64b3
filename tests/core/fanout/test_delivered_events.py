"""One `delivered` a message that sockets took, and nothing at all while nobody watches."""

from typing import Any

import msgspec
import pytest

from headgate.core.fanout import delivered_events
from headgate.core.wire.event_names import EventFilter
from tests.core.scene import Scene
from tests.owners_twin import SHARDS


def _told(scene: Scene) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event.data) for batch in scene.hub.events.take() for event in batch.events]


def _watch(scene: Scene, wanted: EventFilter) -> None:
    for shard in range(SHARDS):
        scene.hub.events.watch(shard, wanted)


def test_a_message_is_delivered_once_a_gateway_with_the_number_of_its_subscribers() -> None:
    scene = Scene()
    topic = scene.owners.create("t")
    scene.socket("t")
    scene.socket("t")
    scene.stream("t")
    _watch(scene, EventFilter())
    scene.publish("t", "a", "b")
    scene.turn()
    first, second = _told(scene)
    assert (first["seq"], second["seq"]) == (1, 2)
    assert first == {
        "event": "delivered",
        "at": 1_000.0,
        "topic": "t",
        "id": first["id"],
        "subscriber": None,
        "attempts": 1,
        "status": "DELIVERED",
        "subscribers": 3,
        "epoch": topic.epoch,
        "seq": 1,
    }
    assert first["id"]


def test_a_message_of_an_ephemeral_topic_has_no_seq_and_what_nobody_took_is_not_delivered() -> None:
    scene = Scene()
    scene.owners.create("e", settings={"profile": "ephemeral"})
    pipe = scene.socket("e")
    _watch(scene, EventFilter())
    scene.publish("e", "a")
    scene.turn()
    (told,) = _told(scene)
    assert "seq" not in told
    assert pipe.session is not None
    scene.hub.catchup.park(pipe.session, scene.now)
    scene.publish("e", "b")
    scene.turn()
    assert _told(scene) == []


def test_what_nobody_wants_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.owners.create("t")
    scene.socket("t")

    def never(frame: bytes) -> str:
        raise AssertionError("a frame was read for an event that nobody wants")

    monkeypatch.setattr(delivered_events, "message_id_in", never)
    for wanted in (None, EventFilter(("other",)), EventFilter((), ("failed",))):
        if wanted is not None:
            _watch(scene, wanted)
        scene.publish("t", "a")
        scene.turn()
    assert _told(scene) == []
