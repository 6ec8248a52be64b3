"""Sessions that follow several topics and acknowledge some of them."""

from headgate.core.client.limits import Limits
from tests.core.fanout.acking import RETRY, AckScene


def test_a_socket_that_fills_up_loses_nothing_of_its_other_topics() -> None:
    """Both topics are written in one flush: the first write may park the session."""
    scene = AckScene(Limits(queue_bytes=8_000))
    scene.owners.create("b", settings={"retry": RETRY})
    scene.owners.create("c")
    bob = scene.acker()
    for frame in ({"topic_id": "b", "ack": True, "from": "cursor"}, {"topic_id": "c"}):
        scene.say(bob, type="subscribe", **frame)
    bob.stuck = True
    for topic in "abc":
        scene.publish(topic, 1)
    scene.turn()
    scene.publish("c", "x" * 1_300)
    scene.turn()
    assert not bob.paused
    for topic in "abc":
        scene.publish(topic, "x" * 300)
    scene.turn()
    assert bob.paused
    for _ in range(20):
        bob.drain()
        for topic in "ab":
            newest = [frame["seq"] for frame in bob.frames("message") if frame["topic_id"] == topic]
            if newest:
                scene.say(bob, type="ack", topic_id=topic, seq=newest[-1])
        scene.now += 0.25
        scene.hub.tick(scene.moment)
        scene.turn()
    for topic in "abc":
        frames = [frame for frame in bob.frames("message") if frame["topic_id"] == topic]
        assert [frame["seq"] for frame in frames] == list(range(1, scene.owners.topics[topic].seq + 1)), topic
        assert not any("attempt" in frame for frame in frames), topic


def test_more_than_one_write_may_carry_is_sent_topic_by_topic() -> None:
    scene = AckScene(Limits(queue_bytes=4_000))
    scene.owners.create("b", settings={"retry": RETRY})
    bob = scene.acker()
    scene.say(bob, type="subscribe", topic_id="b", ack=True)
    scene.publish("a", "x" * 700)
    scene.publish("b", "x" * 700)
    scene.turn()
    frames = bob.frames("message")
    assert sorted((frame["topic_id"], frame["seq"]) for frame in frames) == [("a", 1), ("b", 1)]
    assert not any("attempt" in frame for frame in frames)


def test_caught_up_names_at_least_the_head_of_the_grant_where_the_strategy_holds_it_back() -> None:
    """The window has just the replay, and a page of the owner brought more of it than was written here."""
    batched = {"kind": "batched", "max_messages": 3, "max_delay_ms": 60_000}
    scene = AckScene(Limits(ack_window=5, ring_frames=1))
    scene.topic.settings["strategy"] = batched
    scene.socket("a", user="eve")
    scene.send(1, 2, 3)
    scene.send(4)
    scene.send(5)  # held with the one before
    bob = scene.acker(form="earliest")
    scene.turn()
    assert bob.seqs() == [1, 2, 3, 4, 5]
    assert bob.frames("caught_up") == [{"type": "caught_up", "topic_id": "a", "seq": 5}]
