"""Strategies at the gateway: batches are written whole, in order, once; what must not wait does not."""

from typing import Any

import pytest

from headgate.core.fanout import held_messages
from headgate.core.wire.link import Ended
from headgate.core.wire.link_members import Fence, TopicSettings
from headgate.core.wire.link_messages import Amended
from tests.core.scene import Pipe, Scene

BATCHED = {"kind": "batched", "max_messages": 3, "max_delay_ms": 400}
EPHEMERAL = {"profile": "ephemeral"}
BOTH = pytest.mark.parametrize("settings", [{}, EPHEMERAL], ids=["durable", "ephemeral"])


def scene_with(settings: dict[str, Any] | None = None, **strategy: Any) -> Scene:
    scene = Scene()
    scene.owners.create("t", settings={"strategy": BATCHED | strategy, **(settings or {})})
    return scene


def say(scene: Scene, *payloads: Any) -> None:
    """One loop turn with these messages."""
    scene.publish("t", *payloads)
    scene.turn()


def heard(pipe: Pipe) -> list[Any]:
    return [frame["payload"] for frame in pipe.frames("message")]


def swap(scene: Scene, **settings: Any) -> None:
    topic = scene.owners.topics["t"]
    topic.settings |= settings
    scene.on_push(1, TopicSettings("t", topic.epoch, topic.settings))
    scene.turn()


@BOTH
def test_a_batch_is_written_when_it_is_full(settings: dict[str, Any]) -> None:
    scene = scene_with(settings)
    pipes = [scene.socket("t"), scene.stream("t")]
    say(scene, 1)
    say(scene, 2)
    assert heard(pipes[0]) == [] and scene.hub.held.size > 0
    say(scene, 3, 4)
    assert heard(pipes[0]) == [1, 2, 3]
    say(scene, 5, 6, 7, 8)
    assert heard(pipes[0]) == [1, 2, 3, 4, 5, 6]
    scene.pass_time(1)
    assert heard(pipes[0]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert scene.hub.held.size == 0 and scene.hub.held.next_due is None


@BOTH
def test_the_oldest_message_waits_no_longer_than_the_delay(settings: dict[str, Any]) -> None:
    scene = scene_with(settings)
    pipe = scene.socket("t")
    say(scene, 1)
    due = scene.hub.held.next_due
    assert due is not None and due == pytest.approx(scene.now + 0.4)
    scene.pass_time(0.3, 0.1)
    say(scene, 2)
    assert scene.hub.held.next_due == due, "a later message does not put it off"
    scene.now = due - 0.001
    scene.hub.held.wake(scene.now)
    scene.turn()
    assert heard(pipe) == []
    scene.now = due
    scene.hub.held.wake(scene.now)
    scene.turn()
    assert heard(pipe) == [1, 2]


def test_what_is_left_of_a_full_batch_waits_its_own_time() -> None:
    scene = scene_with()
    pipe = scene.socket("t")
    say(scene, 1, 2)
    scene.now += 0.3
    say(scene, 3, 4)
    assert heard(pipe) == [1, 2, 3]
    assert scene.hub.held.next_due == pytest.approx(scene.now + 0.4)


@BOTH
def test_a_flush_by_hand_writes_all(settings: dict[str, Any]) -> None:
    scene = scene_with(settings)
    pipe = scene.socket("t")
    say(scene, 1, 2)
    scene.hub.held.flush(scene.hub.feeds["t"])
    assert heard(pipe) == []
    scene.turn()
    assert heard(pipe) == [1, 2]
    say(scene, 3)
    assert heard(pipe) == [1, 2], "the next batch is held again"


@BOTH
def test_another_strategy_is_asked_about_what_is_held(settings: dict[str, Any]) -> None:
    scene = scene_with(settings)
    pipe = scene.socket("t")
    say(scene, 1, 2)
    swap(scene, strategy={"kind": "batched", "max_messages": 2, "max_delay_ms": 60_000})
    assert heard(pipe) == [1, 2]
    say(scene, 3)
    swap(scene, strategy={"kind": "immediate"})
    assert heard(pipe) == [1, 2, 3]
    say(scene, 4)
    assert heard(pipe) == [1, 2, 3, 4]
    swap(scene, strategy=BATCHED)
    say(scene, 5)
    assert heard(pipe) == [1, 2, 3, 4]
    scene.pass_time(0.5)
    assert heard(pipe) == [1, 2, 3, 4, 5]


def test_a_new_live_subscriber_gets_what_comes_after_it() -> None:
    scene = scene_with()
    first = scene.socket("t")
    say(scene, 1, 2)
    late = scene.socket("t")
    assert heard(first) == [], "it does not end the wait of the others"
    say(scene, 3, 4)
    scene.pass_time(1)
    assert heard(first) == [1, 2, 3, 4]
    assert heard(late) == [3, 4] and late.seqs() == [3, 4]


def test_replay_is_not_held_back() -> None:
    scene = scene_with()
    first = scene.socket("t")
    say(scene, 1, 2)
    late = scene.socket("t", form="earliest")
    scene.turn()
    assert heard(late) == [1, 2] and late.frames("caught_up")[0]["seq"] == 2
    assert heard(first) == [1, 2]
    say(scene, 3)
    assert heard(late) == [1, 2]
    scene.pass_time(1)
    assert heard(late) == heard(first) == [1, 2, 3]


def test_a_socket_that_was_full_gets_each_once() -> None:
    scene = scene_with()
    slow, fast = scene.socket("t"), scene.socket("t")
    slow.stuck = True
    expected: list[str] = []
    for n in range(40):
        expected.append("x" * 4_000 + str(n))
        say(scene, expected[-1])
    slow.stuck = False
    slow.drain()
    scene.pass_time(2)
    slow.drain()
    assert heard(fast) == expected
    assert heard(slow) == expected


def test_what_was_held_before_a_fence_is_written_before_it() -> None:
    scene = scene_with()
    pipe = scene.socket("t", user="eve")
    say(scene, 1, 2)
    scene.on_push(1, Fence("t", scene.owners.topics["t"].epoch, 1, "eve", True))
    kinds = [frame["type"] for frame in pipe.frames()]
    assert kinds[-3:] == ["message", "message", "unsubscribed"]
    scene.pass_time(1)
    assert heard(pipe) == [1, 2] and scene.hub.held.size == 0


@BOTH
def test_the_end_of_the_topic_writes_what_is_held(settings: dict[str, Any]) -> None:
    scene = scene_with(settings)
    pipe = scene.socket("t")
    say(scene, 1, 2)
    scene.on_push(1, Ended("t", scene.owners.topics["t"].epoch, "deleted"))
    assert heard(pipe) == [1, 2] and pipe.frames()[-1]["type"] == "unsubscribed"
    assert scene.hub.held.size == 0 and scene.hub.held.next_due is None


def test_the_last_subscriber_takes_the_timer_with_it() -> None:
    scene = scene_with()
    pipe = scene.socket("t")
    say(scene, 1)
    scene.say(pipe, type="unsubscribe", topic_id="t")
    assert scene.hub.held.next_due is None and scene.hub.held.size == 0


def test_a_message_that_was_redacted_while_it_was_held_shows_nothing() -> None:
    scene = scene_with()
    pipe = scene.socket("t")
    say(scene, "secret")
    blank = b'{"type":"message","topic_id":"t","seq":1,"payload":null,"redacted":true}'
    scene.on_push(1, Amended("t", scene.owners.topics["t"].epoch, 1, blank, True))
    scene.pass_time(1)
    assert heard(pipe) == [None] and b"secret" not in pipe.data


def test_many_bytes_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_with(max_messages=10_000)
    pipe = scene.socket("t")
    say(scene, "x" * 200_000)
    assert heard(pipe) == []
    say(scene, "y" * 70_000)
    assert len(heard(pipe)) == 2
    monkeypatch.setattr(held_messages, "HELD_BYTES_OF_ALL", 1_000)
    say(scene, 1)
    assert len(heard(pipe)) == 2
    say(scene, "z" * 1_000)
    assert len(heard(pipe)) == 4 and scene.hub.held.size == 0


def test_other_topics_do_not_wait() -> None:
    scene = scene_with()
    scene.owners.create("u")
    pipe = scene.socket("t", "u")
    scene.publish("t", 1)
    scene.publish("u", 2)
    scene.turn()
    assert heard(pipe) == [2]
    scene.pass_time(1)
    assert heard(pipe) == [2, 1]
