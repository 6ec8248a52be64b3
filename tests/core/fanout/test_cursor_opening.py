"""Where a subscription begins that asks for its device's cursor, and what its `subscribed` frame says."""

from typing import Any

import pytest

from headgate.core.client.framing import SSE
from headgate.core.wire.link_acks import Cursor
from tests.core.fanout.acking import AckScene, got
from tests.core.scene import Pipe


def stored(scene: AckScene, seq: int, epoch: int | None = None, device: str = "default") -> None:
    cursor = Cursor("bob", device, "a", scene.topic.epoch if epoch is None else epoch, seq)
    scene.cursors.cursors["bob", device, "a"] = cursor


def told(pipe: Pipe) -> tuple[Any, Any]:
    frame = pipe.frames("subscribed")[0]
    return frame.get("resumed"), frame.get("reason")


def follower(scene: AckScene, **frame: Any) -> Pipe:
    pipe = scene.socket()
    scene.say(pipe, **{"type": "subscribe", "topic_id": "a", "from": "cursor"} | frame)
    return pipe


def test_a_stored_cursor_is_a_position() -> None:
    scene = AckScene()
    scene.send(1, 2, 3)
    stored(scene, 1)
    bob = follower(scene)
    assert (told(bob), got(bob)) == ((True, None), [(2, 1), (3, 1)])
    assert bob.frames("caught_up")[0]["seq"] == 3
    assert (scene.cursors.leases, scene.cursors.moves) == ({}, [])


def test_the_device_decides_and_another_has_its_own() -> None:
    scene = AckScene()
    scene.send(1, 2, 3)
    stored(scene, 2, device="phone")
    assert got(follower(scene, device_id="phone")) == [(3, 1)]
    assert told(follower(scene, device_id="other")) == (False, "no_cursor")


@pytest.mark.parametrize("ack", [True, False])
def test_a_member_without_a_cursor_begins_where_he_joined(ack: bool) -> None:
    scene = AckScene()
    scene.send(1, 2, 3)
    scene.cursors.joined["bob", "a"] = (scene.topic.epoch, 2)
    bob = follower(scene, ack=ack)
    assert (told(bob), got(bob)) == ((False, "no_cursor"), [(3, 1)])
    scene.turn()
    assert scene.cursors.seq("bob", "a") == (2 if ack else None)


def test_anybody_else_without_a_cursor_is_live() -> None:
    scene = AckScene()
    scene.send(1, 2, 3)
    bob = follower(scene)
    assert (told(bob), got(bob)) == ((False, "no_cursor"), [])
    assert bob.frames("caught_up")[0]["seq"] == 3
    scene.send(4)
    assert got(bob) == [(4, 1)]


def test_a_cursor_of_another_epoch() -> None:
    scene = AckScene()
    scene.send(1, 2)
    stored(scene, 2, epoch=scene.topic.epoch - 1)
    bob = follower(scene, ack=True)
    assert (told(bob), got(bob)) == ((False, "epoch_changed"), [(1, 1), (2, 1)])
    scene.turn()
    assert scene.cursors.cursors["bob", "default", "a"].epoch == scene.topic.epoch


def test_a_cursor_older_than_what_is_kept() -> None:
    scene = AckScene()
    scene.send(1, 2, 3, 4)
    stored(scene, 1)
    scene.owners.forget("a", 4)
    bob = follower(scene, ack=True)
    assert (told(bob), got(bob)) == ((False, "expired"), [(4, 1)])
    gap = bob.frames("gap")[0]
    assert (gap["from_seq"], gap["to_seq"], gap["recoverable"]) == (2, 3, False)


def test_a_joined_place_older_than_what_is_kept_is_a_gap_too() -> None:
    scene = AckScene()
    scene.send(1, 2, 3, 4)
    scene.cursors.joined["bob", "a"] = (scene.topic.epoch, 1)
    scene.owners.forget("a", 4)
    bob = follower(scene)
    assert told(bob) == (False, "expired")
    assert bob.frames("gap")[0]["from_seq"] == 2


def test_an_ephemeral_topic_has_no_cursor() -> None:
    scene = AckScene()
    scene.owners.create("e", settings={"profile": "ephemeral"})
    bob = follower(scene, topic_id="e")
    assert told(bob) == (False, "ephemeral")


def test_other_places_say_what_they_always_say() -> None:
    scene = AckScene()
    scene.send(1, 2)
    assert told(scene.acker(form="live")) == (None, None)
    assert told(scene.acker(form={"seq": 1})) == (True, None)


def test_a_stream_may_begin_at_a_cursor() -> None:
    scene = AckScene()
    scene.send(1, 2)
    stored(scene, 1)
    stream = scene.socket("a", framing=SSE, form="cursor")
    assert (b"id: %d:1\nevent: subscribed" % scene.topic.epoch) in stream.data
    assert b'"seq":2' in stream.data


def test_a_subscribe_is_as_old_as_it_is_however_long_it_waited_for_its_owner() -> None:
    scene = AckScene()
    begun = scene.moment.wall_ms
    scene.owners.go()
    scene.acker()
    scene.pass_time(3.0)
    scene.owners.come()
    (lease,) = scene.cursors.leases.values()
    assert lease.opened_ms == begun
