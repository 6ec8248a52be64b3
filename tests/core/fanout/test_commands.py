"""The topics of a query on values: their order, what an owner that does not answer does to it, frames meanwhile."""

from typing import Any

import pytest

from headgate.core.client import outbound
from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.fanout.query_turns import QueryTopic
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import AskSubscribe
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Pipe, Scene, Tokens


def opened(scene: Scene, *topics: str) -> Pipe:
    """A socket whose query named these topics."""
    pipe = scene.open()
    assert pipe.session is not None
    scene.hub.pending.want(pipe.session, [(topic, Subscribe(topic, None, False)) for topic in topics])
    scene.admit(pipe, Caller("bob", service=True))
    scene.hub.begin(pipe.session, scene.moment)
    return pipe


def told(pipe: Pipe) -> list[tuple[Any, ...]]:
    """What was answered: type, topic, code."""
    return [(f["type"], f["topic_id"], f.get("code")) for f in pipe.frames() if "topic_id" in f]


def test_an_owner_that_does_not_answer_holds_up_no_later_topic() -> None:
    scene = Scene()
    for topic in "abc":
        scene.owners.create(topic)
    scene.owners.slow = True
    pipe = opened(scene, "a", "b", "c")
    scene.pass_time(0.75)
    assert [a.topic_id for a in scene.owners.asked if isinstance(a, AskSubscribe)] == ["a", "b", "c"]
    rebuilding = scene.owners._link.pop(0)
    scene.owners.deliver()
    assert told(pipe) == [], "those behind a wait for it"
    scene.pass_time(1.5)
    assert told(pipe) == [("subscribed", "b", None), ("subscribed", "c", None)]
    rebuilding[0](rebuilding[1])
    assert told(pipe)[2:] == [("subscribed", "a", None)]


def test_every_topic_of_the_query_has_its_deadline_from_the_admission() -> None:
    scene = Scene(Limits(hold_s=10))
    scene.owners.slow = True
    for topic in "abc":
        scene.owners.create(topic)
    pipe = opened(scene, "a", "b", "c")
    scene.pass_time(9)
    assert told(pipe) == []
    scene.pass_time(2.5)
    assert told(pipe) == [("error", topic, "not_ready") for topic in "abc"]


def test_a_frame_means_the_topics_that_were_not_asked_for_yet_too() -> None:
    scene = Scene()
    topics = [f"o{n}" for n in range(12)]
    for topic in topics:
        scene.owners.create(topic)
    scene.owners.slow = True
    pipe = opened(scene, *topics)
    scene.say(pipe, type="unsubscribe", topic_id="o3")
    scene.say(pipe, type="subscribe", topic_id="o11")
    scene.say(pipe, type="unsubscribe", topic_id="o3")
    while scene.owners._link:
        scene.owners.deliver(1)
    assert told(pipe)[:3] == [
        ("unsubscribed", "o3", None),
        ("error", "o11", "already_subscribed"),
        ("error", "o3", "not_found"),
    ]
    assert told(pipe)[3:] == [("subscribed", topic, None) for topic in topics if topic != "o3"]
    assert scene.owners.topics["o3"].count == 0


def test_an_unsubscribe_means_a_topic_that_the_query_names_again_too() -> None:
    scene = Scene()
    for topic in "ab":
        scene.owners.create(topic)
    scene.owners.slow = True
    pipe = opened(scene, "a", "b", "a")
    scene.owners.deliver(1)
    scene.say(pipe, type="unsubscribe", topic_id="a")
    while scene.owners._link:
        scene.owners.deliver(1)
    assert told(pipe) == [("subscribed", "a", None), ("unsubscribed", "a", None), ("subscribed", "b", None)]


def test_wanted_topics_count_for_the_limit_and_the_query_s_own_are_taken_in_its_order() -> None:
    scene = Scene(Limits(topics=3))
    for topic in "abcd":
        scene.owners.create(topic)
    scene.owners.slow = True
    pipe = opened(scene, "a", "b", "b", "c", "d")
    scene.say(pipe, type="subscribe", topic_id="x")
    while scene.owners._link:
        scene.owners.deliver(1)
    assert told(pipe) == [
        ("error", "x", "limit_reached"),
        ("subscribed", "a", None),
        ("subscribed", "b", None),
        ("error", "b", "already_subscribed"),
        ("subscribed", "c", None),
        ("error", "d", "limit_reached"),
    ]


def test_what_fails_in_one_session_s_opening_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    for topic in "ab":
        scene.owners.create(topic)
    pipe = scene.open()
    assert pipe.session is not None
    topics: list[QueryTopic] = [("a", Refusal("bad_request", "planted")), ("b", Subscribe("b", None, False))]
    scene.hub.pending.want(pipe.session, topics)
    scene.admit(pipe, Caller("bob", service=True))
    with monkeypatch.context() as planted:
        planted.setattr(outbound, "error", _broken)
        with pytest.raises(ValueError, match="planted"):
            scene.hub.begin(pipe.session, scene.moment)
    assert told(opened(scene, "a", "b")) == [("subscribed", "a", None), ("subscribed", "b", None)]


def test_where_credentials_are_ignored_an_auth_frame_is_refreshed() -> None:
    scene = Scene()
    pipe = scene.socket()
    scene.say(pipe, type="auth", token="bob", id=1)
    scene.commands._tokens.open = True
    scene.say(pipe, type="auth", token="whatever", id=2)
    assert [(f["type"], f.get("id")) for f in pipe.frames()][1:] == [("error", 1), ("refreshed", 2)]


def test_every_refusal_leaves_a_trace_by_its_code() -> None:
    scene = Scene(Limits(control_burst=6))
    scene.owners.create("a", permissions="PRIVATE")
    scene.owners.create("b", permissions="PUBLISH_ONLY")
    for frame in ({"type": "auth", "token": "bad"}, {"type": "ping"}):
        scene.say(scene.open(), **frame)
    silent = scene.open()
    assert silent.session is not None
    silent.session.await_auth(scene.now + 5)
    scene.pass_time(10)
    pipe = scene.socket()
    scene.say(pipe, type="subscribe", topic_id="a")
    scene.say(pipe, type="subscribe", topic_id="b")
    scene.say(pipe, type="subscribe", topic_id="?")
    scene.say(pipe, type="dance")
    scene.say(pipe, type="refresh", token="eve")
    for _ in range(2):
        scene.say(pipe, type="ping")
    assert pipe.session is not None
    scene.commands.receive(pipe.session, b"junk", scene.moment)
    assert pipe.code == 4400
    assert all(scene.numbers.details), "each says why"
    assert scene.numbers.refusals == [
        *("unauthenticated", "unauthenticated", "unauthenticated"),
        *("topic_not_found", "forbidden", "invalid_topic_id", "unknown_type", "forbidden", "rate_limited", "bad_frame"),
    ]


def _broken(*_: Any) -> Any:
    raise ValueError("planted")


def test_who_asks_and_reads_no_answer_is_ended_above_the_queue_and_not_at_it() -> None:
    scene = Scene(Limits(queue_bytes=1_000))
    pipe = scene.socket()
    assert pipe.session is not None
    scene.hub.catchup.park(pipe.session, scene.now)
    pipe.waiting = 1_000
    scene.say(pipe, type="ping")
    assert pipe.code is None and len(pipe.frames("pong")) == 1
    pipe.waiting = 1_001
    scene.say(pipe, type="ping")
    assert pipe.code == 4508 and len(pipe.frames("pong")) == 1


def test_a_frame_above_the_rate_is_refused_with_its_topic_and_many_of_them_end_the_session() -> None:
    scene = Scene(Limits(control_per_s=1, control_burst=1, control_patience_s=0.5))
    pipe = scene.socket()
    scene.say(pipe, type="ping")
    scene.say(pipe, type="unsubscribe", topic_id="a", id=7)
    (error,) = pipe.frames("error")
    assert (error["code"], error["topic_id"], error["id"]) == ("rate_limited", "a", 7)
    assert error["retry_after_ms"] == 1_000
    scene.now += 0.5
    scene.say(pipe, type="ping")
    assert pipe.code == 4503
    assert pipe.frames("disconnect")[0]["retry_after_ms"] == 10_000


def test_the_owner_s_refusal_of_a_count_is_an_error_of_that_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.owners.create("a")
    pipe = scene.socket("a")
    monkeypatch.setattr(scene.owners, "up", False)
    scene.say(pipe, type="presence", topic_id="a", id=3)
    (error,) = pipe.frames("error")
    assert (error["code"], error["topic_id"], error["id"]) == ("not_ready", "a", 3)


def test_every_answer_names_the_frame_it_answers() -> None:
    scene = Scene()
    for topic in "ab":
        scene.owners.create(topic)
    pipe = scene.open()
    frames: list[dict[str, Any]] = [
        {"type": "auth", "token": "bob"},
        {"type": "ping", "t": 5},
        {"type": "subscribe", "topic_id": "a"},
        {"type": "presence", "topic_id": "a"},
        {"type": "unsubscribe", "topic_id": "a"},
        {"type": "refresh", "token": "bob"},
        {"type": "auth", "token": "bob"},
    ]
    for number, frame in enumerate(frames):
        scene.say(pipe, **frame, id=number)
    scene.owners.slow = True
    scene.say(pipe, type="subscribe", topic_id="b", id=7)
    scene.say(pipe, type="unsubscribe", topic_id="b", id=8)
    answers = [(frame["type"], frame["id"]) for frame in pipe.frames() if "id" in frame]
    assert answers == [
        *(("welcome", 0), ("pong", 1), ("subscribed", 2), ("presence", 3), ("unsubscribed", 4), ("refreshed", 5)),
        *(("error", 6), ("unsubscribed", 8)),
    ]
    assert pipe.frames("pong")[0]["t"] == 5
    assert [frame["reason"] for frame in pipe.frames("unsubscribed")] == ["requested", "requested"]
    assert all(frame["message"] for frame in pipe.frames("error"))


class Unready(Tokens):
    """The keys are not known yet."""

    def authenticate(self, token: str) -> Identity:
        raise Refusal("not_ready", "no keys yet", retry_after_ms=2_500)


@pytest.mark.parametrize(("tokens", "code", "wait"), [(Unready(), 4503, 2_500), (Tokens(), 4401, None)])
def test_a_token_that_cannot_be_checked_yet_is_to_be_sent_again_and_a_bad_one_is_not(
    tokens: Tokens, code: int, wait: int | None
) -> None:
    scene = Scene(tokens=tokens)
    pipe = scene.open()
    scene.say(pipe, type="auth", token="bad")
    assert pipe.code == code and scene.hub.session_count == 0
    assert [frame.get("retry_after_ms") for frame in pipe.frames("disconnect")] == [wait]


def test_the_expiry_is_the_newest_token_s() -> None:
    scene = Scene()
    pipe = scene.open()
    assert pipe.session is not None
    assert scene.now == scene.moment.wall_ms / 1_000
    scene.say(pipe, type="auth", token="bob@1060")
    assert pipe.session.expires == 1_060
    scene.say(pipe, type="refresh", token="bob@1200")
    assert pipe.session.expires == 1_200
    scene.say(pipe, type="refresh", token="bob")
    assert pipe.session.expires is None


def test_where_credentials_are_ignored_a_refresh_asks_no_owner() -> None:
    scene = Scene()
    scene.owners.create("a")
    pipe = scene.socket("a")
    scene.commands._tokens.open = True
    asked = len(scene.owners.asked)
    scene.say(pipe, type="refresh", token="eve@1001")
    assert len(scene.owners.asked) == asked and pipe.frames()[-1]["type"] == "refreshed"
    assert pipe.session is not None and pipe.session.expires is None


@pytest.mark.parametrize("kind", ["unsubscribe", "presence"])
def test_a_topic_that_is_not_followed_is_named(kind: str) -> None:
    scene = Scene()
    pipe = scene.socket()
    scene.say(pipe, type=kind, topic_id="a")
    (error,) = pipe.frames("error")
    assert error["code"] == "not_found" and error["message"].endswith(" a")
