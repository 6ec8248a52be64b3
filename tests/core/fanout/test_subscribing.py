"""Subscribes on their way: the cursor's owner is asked before the topic's, and each may be away."""

import pytest

from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.inbound import subscribe_from_query
from headgate.core.wire.link import AskSubscribe, AskTopic
from headgate.core.wire.link_acks import OpenCursor
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller
from tests.core.fanout.acking import AckScene, got
from tests.core.scene import Pipe, Scene

ASKED = AskTopic | OpenCursor | AskSubscribe


def test_the_owner_of_the_user_is_asked_before_the_subscribe_and_before_a_lease_that_of_the_topic() -> None:
    scene = AckScene()
    scene.acker()
    asked = [type(request) for request in scene.owners.asked if isinstance(request, ASKED)]
    assert asked == [AskTopic, OpenCursor, AskSubscribe]
    scene.owners.asked.clear()
    scene.say(scene.socket(user="eve"), **{"type": "subscribe", "topic_id": "a", "from": "cursor"})
    asked = [type(request) for request in scene.owners.asked if isinstance(request, ASKED)]
    assert asked == [OpenCursor, AskSubscribe]


def weak_token(scene: AckScene, caller: Caller, topic: str = "a") -> Pipe:
    """Subscribes for the same device with another token of bob's."""
    pipe = scene.open(WEBSOCKET, raw_id=b"weak")
    scene.admit(pipe, caller)
    scene.say(pipe, **{"type": "subscribe", "topic_id": topic, "ack": True, "from": "cursor", "id": 1})
    return pipe


@pytest.mark.parametrize(
    ("permissions", "caller", "code"),
    [
        ("PRIVATE", Caller("bob", subscribe=("other",), only=True), "topic_not_found"),
        ("PRIVATE", Caller("bob", publish=("a",), only=True), "forbidden"),
        ("PUBLIC", Caller("bob", only=True), "forbidden"),
    ],
)
def test_who_may_not_subscribe_ends_no_subscription_of_the_device(permissions: str, caller: Caller, code: str) -> None:
    scene = AckScene(permissions=permissions)
    scene.topic.members["bob"] = Role.MEMBER
    first = scene.acker()
    leases = dict(scene.cursors.leases)
    weak = weak_token(scene, caller)
    assert [(error["id"], error["code"]) for error in weak.frames("error")] == [(1, code)]
    assert (first.frames("unsubscribed"), scene.cursors.leases) == ([], leases)
    scene.send(1)
    assert got(first) == [(1, 1)]
    strong = weak_token(scene, Caller("bob", subscribe=("a",), only=True))
    assert [end["reason"] for end in first.frames("unsubscribed")] == ["replaced"]
    assert got(strong) == [(1, 1)]


def test_the_owner_of_the_topic_is_asked_about_the_rights_again_when_it_was_away() -> None:
    scene = AckScene(permissions="PRIVATE")
    scene.topic.members["bob"] = Role.MEMBER
    scene.owners.slow = True
    bob = scene.acker()
    scene.owners.deliver(1)  # he may
    scene.owners.go()
    del scene.topic.members["bob"]
    scene.owners.slow = False
    scene.owners.come()
    scene.pass_time(1.25)
    assert [error["code"] for error in bob.frames("error")] == ["topic_not_found"]


@pytest.mark.parametrize("create", [True, False])
def test_an_acknowledged_subscribe_makes_a_topic_where_the_caller_may(create: bool) -> None:
    scene = Scene(auto_create=create)
    pipe = scene.socket()
    scene.say(pipe, **{"type": "subscribe", "topic_id": "new", "ack": True})
    assert len(pipe.frames("subscribed")) == create
    scene.admit(stranger := scene.open(raw_id=b"only"), Caller("eve", only=True))
    scene.say(stranger, **{"type": "subscribe", "topic_id": "newer", "ack": True})
    assert [error["code"] for error in stranger.frames("error")] == ["topic_not_found"]
    assert len(scene.owners.cursors.leases) == create


def test_a_session_that_ends_before_it_is_known_whether_it_may_takes_no_lease() -> None:
    scene = AckScene()
    scene.owners.slow = True
    bob = scene.acker()
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.owners.deliver()
    assert not [request for request in scene.owners.asked if isinstance(request, OpenCursor | AskSubscribe)]


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
    scene.owners.deliver(2)  # that he may, and the cursor
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
    scene.owners.deliver(1)
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
    scene.owners.deliver(1)
    assert scene.cursors.leases
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.owners.deliver()
    assert scene.cursors.leases == {}


def test_one_that_begins_anew_before_the_answer_keeps_the_lease_of_its_connection() -> None:
    scene = AckScene()
    scene.owners.slow = True
    bob = scene.acker()
    scene.owners.deliver(1)
    scene.say(bob, type="unsubscribe", topic_id="a")
    scene.say(bob, type="subscribe", topic_id="a", ack=True)
    scene.owners.slow = False
    scene.owners.deliver()
    assert len(bob.frames("subscribed")) == 1
    assert set(scene.cursors.leases) == {("bob", "default", "a")}
