"""What an ephemeral topic drops for a socket that is full, by its `on_slow`; for a socket that takes bytes, nothing."""

import pytest

from headgate.core.client.limits import Limits
from tests.core.scene import Scene


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "conflate"])
def test_an_ephemeral_topic_drops_nothing_for_a_socket_that_takes_bytes(policy: str) -> None:
    """Several topics in one write may be too much for it, and messages may come before the flush of a new one."""
    scene = Scene(Limits(queue_bytes=4_000, queue_frames=40))
    for topic in ("a", "b"):
        scene.owners.create(topic, settings={"profile": "ephemeral", "on_slow": policy})
    fast = scene.socket("a", "b")
    for topic in ("a", "b"):
        scene.publish(topic, *[[n, "x" * 100] for n in range(20)])
    new = scene.socket("a")
    scene.publish("a", *[[n, "x" * 100] for n in range(20, 25)])
    scene.turn()
    assert [frame["payload"][0] for frame in fast.frames("message") if frame["topic_id"] == "a"] == list(range(25))
    assert [frame["payload"][0] for frame in fast.frames("message") if frame["topic_id"] == "b"] == list(range(20))
    assert [frame["payload"][0] for frame in new.frames("message")] == list(range(20, 25))
    assert fast.frames("gap") == new.frames("gap") == []


@pytest.mark.parametrize(("policy", "kept"), [("drop_newest", []), ("conflate", [9])])
def test_a_batch_that_comes_while_a_socket_is_full_is_dropped_but_for_what_the_policy_keeps(
    policy: str, kept: list[int]
) -> None:
    scene = Scene(Limits(queue_bytes=4_000, queue_frames=40))
    for topic in ("a", "b"):
        scene.owners.create(topic, settings={"profile": "ephemeral", "on_slow": policy})
    slow = scene.socket("a", "b")
    slow.stuck = True
    while not slow.paused:
        scene.publish("a", [-1, "x" * 300])
        scene.turn()
    for topic in ("a", "b"):
        scene.publish(topic, *[[n] for n in range(10)])
    scene.turn()
    slow.stuck = False
    slow.drain()
    for topic in ("a", "b"):  # each topic by itself
        got = [frame["payload"][0] for frame in slow.frames("message") if frame["topic_id"] == topic]
        assert [n for n in got if n >= 0] == kept
        (gap,) = [frame for frame in slow.frames("gap") if frame["topic_id"] == topic]
        assert (gap["count"], gap["reason"], gap["recoverable"]) == (10 - len(kept), "slow_consumer", False)
    scene.publish("a", *[[n] for n in range(10, 20)])
    scene.turn()
    got = [frame["payload"][0] for frame in slow.frames("message") if frame["topic_id"] == "a"]
    assert got[-10:] == list(range(10, 20)), "in step again it gets each of a batch"


@pytest.mark.parametrize("policy", ["drop_newest", "conflate"])
def test_who_subscribes_while_his_socket_is_full_is_as_slow_as_he_was(policy: str) -> None:
    scene = Scene(Limits(queue_bytes=4_000, queue_frames=40))
    for topic in ("a", "b"):
        scene.owners.create(topic, settings={"profile": "ephemeral", "on_slow": policy})
    slow = scene.socket("a")
    slow.stuck = True
    while not slow.paused:
        scene.publish("a", "x" * 300)
        scene.turn()
    scene.follow(slow, "b")
    scene.publish("b", *range(10))
    scene.turn()
    slow.stuck = False
    slow.drain()
    (gap,) = [frame for frame in slow.frames("gap") if frame["topic_id"] == "b"]
    assert gap["count"] == (9 if policy == "conflate" else 10)
