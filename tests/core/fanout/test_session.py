"""A session on values: what it writes, when it ends, what time does to it."""

import gc

import pytest

from headgate.core.client.framing import SSE, WEBSOCKET, Framing
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import caught_up, pong
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller
from tests.core.scene import Scene


def test_what_is_held_is_one_write_behind_the_preface_with_the_next_frame() -> None:
    scene = Scene()
    pipe = scene.open(SSE, b"HEAD\n")
    assert pipe.session is not None
    pipe.session.hold(SSE.control(caught_up("a", 1)))
    assert pipe.writes == 0
    pipe.session.emit(pong(None, 2))
    assert pipe.writes == 1 and pipe.data.startswith(b"HEAD\nevent: caught_up\n") and b"event: pong" in pipe.data
    pipe.session.emit(pong(None, 3))
    assert pipe.data.count(b"HEAD") == 1
    pipe.session.release()
    assert pipe.writes == 2, "nothing is held"
    pipe.session.hold(b":\n")
    pipe.session.release()
    assert pipe.writes == 3 and pipe.data.endswith(b":\n")


@pytest.mark.parametrize("framing", [WEBSOCKET, SSE])
def test_the_first_frame_names_the_connection_and_its_user(framing: Framing) -> None:
    scene = Scene()
    pipe = scene.open(framing)
    assert pipe.session is not None
    scene.admit(pipe, Caller("bob"))
    pipe.session.emit(pong(None, 1))
    head, _, _ = pipe.data.partition(b"pong")
    assert b'"connection_id":"0c","user_id":"bob"' in head


def test_nobody_is_a_member_whom_the_owner_does_not_call_one() -> None:
    scene = Scene()
    for topic, members in (("a", {"ann": Role.MEMBER}), ("b", {})):
        scene.owners.create(topic, members=members)
    pipe = scene.socket("a", "b", user="ann")
    assert pipe.session is not None
    assert [each.member for each in pipe.session.subscriptions.values()] == [True, False]
    assert not pipe.session.follow(scene.hub.feeds["b"], 0, None).member


def test_nothing_is_written_after_the_end() -> None:
    scene = Scene()
    pipe = scene.socket()
    assert pipe.session is not None
    scene.hub.disconnect(pipe.session, 4508)
    scene.hub.disconnect(pipe.session, 4500)
    pipe.session.emit(pong(None, 1))
    assert pipe.code == 4508 and [f["type"] for f in pipe.frames()] == ["welcome", "disconnect"]
    assert scene.hub.session_count == 0


def test_pings_every_thirty_seconds_and_death_after_sixty_without_a_byte() -> None:
    scene = Scene()
    pipe = scene.socket()
    scene.pass_time(29)
    assert pipe.data.count(b"\x89\x00") == 0
    scene.pass_time(2)
    assert pipe.data.count(b"\x89\x00") == 1
    scene.pass_time(28)
    assert pipe.code is None
    scene.pass_time(3)
    assert pipe.code == 4602


def test_any_byte_is_life() -> None:
    scene = Scene()
    pipe = scene.socket()
    assert pipe.session is not None
    for _ in range(10):
        scene.pass_time(50)
        pipe.session.hear(scene.now)
    assert pipe.code is None


def test_an_sse_stream_lives_without_a_byte_from_the_client() -> None:
    scene = Scene()
    scene.owners.create("a")
    pipe = scene.stream("a")
    scene.pass_time(301)
    assert pipe.code is None and 19 <= pipe.data.count(b":\n\n") <= 20


@pytest.mark.parametrize("framing", ["websocket", "sse"])
def test_a_token_s_expiry_ends_the_session_and_is_said_before_to_who_can_refresh(framing: str) -> None:
    scene = Scene(Limits(heartbeat_s=1e6))
    pipe = scene.open() if framing == "websocket" else scene.open(SSE)
    assert pipe.session is not None
    scene.admit(pipe, Caller("bob"), scene.now + 100)
    scene.pass_time(99)
    assert pipe.code is None
    scene.pass_time(2)
    assert pipe.code == 4610 and pipe.data.count(b"token_expiring") == (framing == "websocket")


def test_no_auth_in_five_seconds() -> None:
    scene = Scene()
    pipe = scene.open()
    assert pipe.session is not None
    pipe.session.await_auth(scene.now + 5)
    scene.pass_time(4.5)
    assert pipe.code is None and pipe.data == b""
    scene.pass_time(1)
    assert pipe.code == 4408


def test_auth_comes_first_and_once() -> None:
    scene = Scene()
    pipe = scene.open()
    scene.say(pipe, type="auth", token="bob", id=1)
    scene.say(pipe, type="auth", token="bob", id=2)
    scene.say(pipe, type="refresh", token="eve", id=3)
    found = [(f["type"], f["id"], f.get("code")) for f in pipe.frames()]
    assert found == [("welcome", 1, None), ("error", 2, "bad_request"), ("error", 3, "forbidden")]
    other = scene.open()
    scene.say(other, type="subscribe", topic_id="a")
    assert other.code == 4401


def test_presence_on_request_is_the_owners_count() -> None:
    scene = Scene()
    scene.owners.create("a")
    pipe = scene.socket("a")
    scene.socket("a", user="ann")
    scene.turn()
    scene.say(pipe, type="presence", topic_id="a", id=5)
    assert pipe.frames()[-1] == {"type": "presence", "id": 5, "topic_id": "a", "subscribers": [], "count": 2}


def test_a_topic_that_is_asked_for_counts_as_followed() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.owners.go()
    pipe = scene.socket()
    scene.say(pipe, type="subscribe", topic_id="a")
    scene.say(pipe, type="subscribe", topic_id="a", id=1)
    scene.say(pipe, type="unsubscribe", topic_id="a", id=2)
    scene.owners.come()
    assert [(f["type"], f.get("id")) for f in pipe.frames()] == [("welcome", None), ("error", 1), ("unsubscribed", 2)]
    assert scene.owners.topics["a"].count == 0


def test_connections_of_a_user_are_limited_unless_it_is_a_service() -> None:
    scene = Scene(Limits(connections_per_user=2))
    pipes = [scene.open() for _ in range(4)]
    admitted = [scene.admit(pipe, Caller("bob")) for pipe in pipes[:3]]
    assert admitted == [True, True, False] and pipes[2].code == 4529
    assert pipes[2].frames() == [
        {
            "type": "disconnect",
            "code": 4529,
            "reason": "too many connections",
            "reconnect": True,
            "retry_after_ms": 5000,
        }
    ]
    assert scene.admit(pipes[3], Caller("bob", service=True))
    assert pipes[0].session is not None
    scene.hub.drop(pipes[0].session)
    assert not scene.admit(scene.open(), Caller("bob"))


def test_an_sse_stream_waits_for_the_answer_before_its_head() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.owners.go()
    stream = scene.open(SSE, b"HEAD")
    scene.admit(stream, Caller("bob"))
    scene.follow(stream, "a")
    scene.pass_time(20)
    assert stream.data == b""
    scene.owners.come()
    assert stream.data.startswith(b"HEADevent: welcome\n") and b"event: subscribed\n" in stream.data


def test_as_many_frames_as_the_burst_may_come_at_once_and_then_at_the_rate() -> None:
    limits = Limits(frames_per_s=4, frames_burst=4)
    scene = Scene(limits)
    session = scene.open().session
    assert session is not None
    assert [session.counts_frame(scene.now, limits) for _ in range(5)] == [True] * 4 + [False]
    assert session.counts_frame(scene.now + 0.5, limits), "half a second is room for two, and one was refused"
    assert not session.counts_frame(scene.now + 0.5, limits)
    assert [session.counts_frame(scene.now + 60, limits) for _ in range(5)] == [True] * 4 + [False], "no more than that"


def test_its_subscriptions_are_by_topic_however_many_there_are() -> None:
    scene = Scene()
    pipe = scene.socket()
    session = pipe.session
    assert session is not None
    for topic_id in "abc":
        scene.owners.create(topic_id)
        scene.follow(pipe, topic_id)
    followed = ["a", "b", "c"]
    assert list(session.subscriptions) == followed and session.follows == 3
    for topic_id in "bac":
        scene.say(pipe, type="unsubscribe", topic_id=topic_id)
        followed.remove(topic_id)
        assert list(session.subscriptions) == followed and session.follows == len(followed)
    scene.follow(pipe, "a")
    (subscription,) = session.subscriptions.values()
    assert session.subscriptions.get("a") is subscription and session.follows == 1


def test_a_session_with_one_subscription_has_no_dict_for_it() -> None:
    scene = Scene()
    scene.owners.create("a")
    pipe = scene.socket("a")
    assert not any(isinstance(held, dict) for held in gc.get_referents(pipe.session))
