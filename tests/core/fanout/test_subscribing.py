"""Subscribes on their way: the cursor's owner is asked before the topic's, and each may be away."""

from headgate.core.client.inbound import subscribe_from_query
from headgate.core.wire.link import AskSubscribe
from headgate.core.wire.link_acks import OpenCursor
from tests.core.fanout.acking import AckScene, got


def test_the_owner_of_the_user_is_asked_before_that_of_the_topic() -> None:
    scene = AckScene()
    scene.acker()
    asked = [type(request) for request in scene.owners.asked if isinstance(request, OpenCursor | AskSubscribe)]
    assert asked == [OpenCursor, AskSubscribe]


def test_while_the_owner_of_the_user_is_away_the_subscribe_is_held_and_then_refused() -> None:
    scene = AckScene()
    scene.cursors.away = True
    bob = scene.acker(id=1)
    scene.pass_time(29.0)
    assert (bob.frames("subscribed"), bob.frames("error")) == ([], [])
    scene.pass_time(2.0)
    assert [(error["id"], error["code"], error["retryable"]) for error in bob.frames("error")] == [
        (1, "not_ready", True)
    ]
    scene.cursors.away = False
    scene.pass_time(2.0)
    assert bob.frames("subscribed") == []


def test_a_held_one_is_answered_when_the_owner_is_back() -> None:
    scene = AckScene()
    scene.cursors.away = True
    bob = scene.acker()
    scene.pass_time(5.0)
    scene.cursors.away = False
    scene.pass_time(1.25)
    assert len(bob.frames("subscribed")) == 1
    scene.send(1)
    assert got(bob) == [(1, 1)]


def test_with_no_dispatcher_at_all_it_is_held_too() -> None:
    scene = AckScene()
    scene.owners.go()
    scene.owners.shards = 0
    bob = scene.acker()
    scene.turn()
    assert bob.frames("error") == []
    scene.owners.come()
    scene.pass_time(1.25)
    assert len(bob.frames("subscribed")) == 1


def test_the_cursor_is_asked_again_when_the_owner_of_the_topic_was_away() -> None:
    """Another session of the device may have acknowledged meanwhile."""
    scene = AckScene()
    scene.owners.slow = True
    bob = scene.acker()
    scene.owners.deliver(1)  # the cursor
    scene.owners.go()
    scene.owners.slow = False
    scene.owners.come()
    scene.pass_time(1.25)
    assert len(bob.frames("subscribed")) == 1
    assert sum(isinstance(request, OpenCursor) for request in scene.owners.asked) == 2


def test_an_ephemeral_topic_takes_no_acknowledgements() -> None:
    scene = AckScene()
    topic = scene.owners.create("e", settings={"profile": "ephemeral"})
    bob = scene.acker(topic="e", id=1)
    assert [(error["id"], error["code"]) for error in bob.frames("error")] == [(1, "not_in_profile")]
    assert (topic.count, scene.cursors.leases, len(scene.hub.acknowledging)) == (0, {}, 0)


def test_a_refused_one_gives_its_lease_back() -> None:
    scene = AckScene()
    bob = scene.acker(topic="missing")
    assert bob.frames("error")[0]["code"] == "topic_not_found"
    assert scene.cursors.leases == {}


def test_a_session_that_ends_before_its_cursor_comes() -> None:
    scene = AckScene()
    scene.owners.slow = True
    bob = scene.acker()
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.owners.deliver()
    assert (scene.topic.count, len(scene.hub.acknowledging)) == (0, 0)


def test_the_topics_of_a_query_come_in_order() -> None:
    scene = AckScene()
    scene.owners.create("b")
    pipe = scene.open()
    assert pipe.session is not None
    options = {"ack": "true", "from": "cursor", "device_id": "phone"}
    scene.hub.pending.want(pipe.session, [(topic, subscribe_from_query(topic, options)) for topic in "ab"])
    scene.admit(pipe, scene.caller("bob"))
    scene.hub.begin(pipe.session, scene.moment)
    assert [frame["topic_id"] for frame in pipe.frames("subscribed")] == ["a", "b"]
    assert set(scene.cursors.leases) == {("bob", "phone", "a"), ("bob", "phone", "b")}


def test_a_session_that_ends_before_its_cursor_comes_gives_the_lease_back() -> None:
    scene = AckScene()
    scene.owners.slow = True
    bob = scene.acker()
    assert scene.cursors.leases
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.owners.deliver()
    assert scene.cursors.leases == {}


def test_one_that_begins_anew_before_the_answer_keeps_the_lease_of_its_connection() -> None:
    scene = AckScene()
    scene.owners.slow = True
    bob = scene.acker()
    scene.say(bob, type="unsubscribe", topic_id="a")
    scene.say(bob, type="subscribe", topic_id="a", ack=True)
    scene.owners.slow = False
    scene.owners.deliver()
    assert len(bob.frames("subscribed")) == 1
    assert set(scene.cursors.leases) == {("bob", "default", "a")}
