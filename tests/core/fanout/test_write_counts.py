"""How many sockets took a message: those in step at once, others when it is written to them, each of them once."""

from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout import write_counts as module
from headgate.core.wire.link_deliveries import COUNTED_S, NOT_COUNTED, CountWritten, Written
from tests.core.scene import Pipe, Scene

EPHEMERAL = {"profile": "ephemeral"}
SMALL = Limits(queue_bytes=4_000, queue_frames=40)
BOTH = pytest.mark.parametrize("settings", [{}, EPHEMERAL], ids=["durable", "ephemeral"])


def scene_with(settings: dict[str, Any], limits: Limits | None = None) -> Scene:
    scene = Scene(limits)
    scene.owners.create("t", settings=settings)
    return scene


def count(scene: Scene, watch: int = 1, topic: str = "t") -> None:
    """The owner asks in front of the next message."""
    found = scene.owners.topics[topic]
    scene.on_push(1, CountWritten(topic, found.epoch, found.seq + 1 if found.durable else 0, watch))


def told(scene: Scene) -> list[tuple[int, int, bool]]:
    """What the owner was told since the last call: watch, count, done."""
    found = [message for message in scene.owners.asked if isinstance(message, Written)]
    scene.owners.asked = [message for message in scene.owners.asked if not isinstance(message, Written)]
    return [(message.watch, message.count, message.done) for message in found]


def stuck(scene: Scene, *topics: str) -> Pipe:
    """A socket that is full, and so out of step."""
    pipe = scene.socket(*topics or ("t",))
    pipe.stuck = True
    while not pipe.paused:
        scene.publish("t", "x" * 300)
        scene.turn()
    return pipe


@BOTH
def test_those_in_step_are_counted_when_they_are_written_to(settings: dict[str, Any]) -> None:
    scene = scene_with(settings)
    for _ in range(3):
        scene.socket("t")
    scene.stream("t")
    count(scene)
    scene.publish("t", 1)
    assert told(scene) == [], "it waits for the end of the loop turn"
    scene.turn()
    assert told(scene) == [(1, 4, True)]
    assert len(scene.counts) == 0


@BOTH
def test_only_the_message_that_was_asked_about_counts(settings: dict[str, Any]) -> None:
    scene = scene_with(settings)
    scene.socket("t")
    scene.publish("t", 1)
    count(scene, 7)
    scene.publish("t", 2)
    scene.publish("t", 3)
    scene.turn()
    assert told(scene) == [(7, 1, True)]


@BOTH
def test_a_socket_that_is_full_counts_once_it_is_written_to(settings: dict[str, Any]) -> None:
    scene = scene_with(settings, SMALL)
    slow = stuck(scene)
    scene.socket("t")
    count(scene)
    scene.publish("t", "late")
    scene.turn()
    assert told(scene) == [(1, 1, False)], "the count so far"
    slow.stuck = False
    slow.drain()
    scene.turn()
    assert "late" in [frame["payload"] for frame in slow.frames("message")]
    scene.pass_time(0.25)
    assert told(scene) == [(1, 2, True)]


def test_a_socket_that_ends_before_leaves_the_count_as_it_is() -> None:
    scene = scene_with({}, SMALL)
    slow = stuck(scene)
    count(scene)
    scene.publish("t", 1)
    scene.turn()
    assert told(scene) == []
    assert slow.session is not None
    scene.socket("t")
    scene.hub.lost(slow.session)
    scene.pass_time(0.25)
    assert told(scene) == [(1, 0, True)]


@pytest.mark.parametrize("policy", ["drop_newest", "conflate"])
def test_a_message_that_is_dropped_for_a_slow_socket_is_not_counted(policy: str) -> None:
    scene = scene_with({**EPHEMERAL, "on_slow": policy}, SMALL)
    slow = stuck(scene)
    count(scene)
    scene.publish("t", "dropped")
    scene.publish("t", "newest")
    scene.turn()
    slow.stuck = False
    slow.drain()
    scene.pass_time(0.25)
    assert "dropped" not in [frame["payload"] for frame in slow.frames("message")]
    assert told(scene) == [(1, 0, True)]


@BOTH
def test_a_socket_that_is_set_back_counts_once(settings: dict[str, Any]) -> None:
    """Two topics in one write are too much for it: it gets them one after the other, in the same turn."""
    scene = scene_with(settings, SMALL)
    scene.owners.create("u", settings=settings)
    pipe = scene.socket("t", "u")
    count(scene)
    scene.publish("t", "x" * 700)
    scene.publish("u", "x" * 700)
    scene.turn()
    scene.pass_time(0.25)
    assert len(pipe.frames("message")) == 2 == sum(scene.numbers.deliveries.values())
    assert told(scene)[-1] == (1, 1, True)


def test_nobody_there_is_final_at_once() -> None:
    scene = scene_with({})
    scene.on_push(1, CountWritten("t", 1, 1, 1))
    assert told(scene) == [(1, 0, True)]
    scene.socket("t")
    epoch = scene.owners.topics["t"].epoch
    scene.on_push(1, CountWritten("t", epoch + 1, 1, 2))
    assert told(scene) == [(2, 0, True)], "another topic of the same id"


def test_the_last_subscriber_leaves_before_the_message() -> None:
    scene = scene_with({})
    pipe = scene.socket("t")
    count(scene)
    assert pipe.session is not None
    scene.hub.lost(pipe.session)
    scene.pass_time(0.25)
    assert told(scene) == [(1, 0, True)]


def test_a_count_is_forgotten_when_nobody_waits_any_longer() -> None:
    scene = scene_with({}, SMALL)
    stuck(scene)
    count(scene)
    scene.publish("t", 1)
    scene.turn()
    scene.pass_time(1)
    assert len(scene.counts) == 1
    scene.now += COUNTED_S
    scene.counts.tick(scene.now)
    assert (len(scene.counts), scene.hub.feeds["t"].counts, told(scene)) == (0, None, [])


def test_the_questions_of_an_owner_go_with_him() -> None:
    scene = scene_with({})
    scene.socket("t")
    count(scene)
    scene.owners.go()
    scene.owners.come()
    scene.publish("t", 1)
    scene.turn()
    scene.pass_time(0.25)
    assert (len(scene.counts), told(scene)) == (0, [])


def test_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTS", 2)
    scene = scene_with({})
    scene.socket("t")
    for watch in (1, 2, 3):
        count(scene, watch)
    assert told(scene) == [(3, NOT_COUNTED, True)]
    scene.publish("t", 1)
    scene.turn()
    assert told(scene) == [(1, 1, True), (2, 1, True)]


def test_with_very_many_slow_sockets_a_count_is_never_called_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_THROUGH", 0)
    scene = scene_with({}, SMALL)
    slow = stuck(scene)
    count(scene)
    scene.publish("t", 1)
    scene.turn()
    assert told(scene) == []
    slow.stuck = False
    slow.drain()
    scene.pass_time(0.25)
    assert told(scene) == [(1, 1, True)], "it is in step again: nobody is behind"
