"""What an owner's answers, and its loss, do to subscriptions that a fence holds."""

from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout import renewals
from headgate.core.fanout.subscription import SubscriptionState
from headgate.core.wire.link import Attach, Ended, Messages, Refused
from headgate.core.wire.link_members import Fence, TopicSettings
from headgate.core.wire.member_roles import Role
from tests.core.fanout.test_fence_holds import BIG, FENCED, asked, ended, hold, payloads, private, state
from tests.core.scene import Scene


@pytest.mark.parametrize("keeps", [True, False])
def test_an_owner_that_is_lost_before_it_answers_is_asked_again(keeps: bool) -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    scene.owners.slow = True
    scene.owners.demote("a", "ann", Role.SUBSCRIBER if keeps else Role.PUBLISHER)
    scene.owners.deliver(1)
    scene.owners.go()
    scene.pass_time(5)
    assert state(ann) is FENCED and ended(ann) == []
    scene.owners.slow = False
    scene.publish("a", 1)
    scene.owners.come()
    scene.turn()
    told = [topic for message in scene.owners.asked if isinstance(message, Attach) for topic in message.topics]
    assert [(topic.cursor, topic.fence) for topic in told] == [(0, 1)]
    assert payloads(ben) == [1]
    assert (payloads(ann), ended(ann)) == (([1], []) if keeps else ([], ["forbidden"]))
    assert not scene.hub.renewals._waiting and not scene.hub.renewals._asked


def test_an_owner_that_knows_a_newer_fence_sends_it_before_anything_else() -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    scene.owners.go()
    scene.owners.demote("a", "ann", Role.PUBLISHER)  # nobody tells this gateway
    scene.publish("a", 1)
    scene.owners.come()
    scene.turn()
    assert payloads(ben) == [1] and payloads(ann) == [] and ended(ann) == ["forbidden"]


def test_who_was_a_member_does_not_stay_as_anyone() -> None:
    scene = Scene()
    scene.owners.create("a", members={"ann": Role.MEMBER})
    ann, eve = scene.socket("a", user="ann"), scene.socket("a", user="eve")
    scene.owners.go()
    del scene.owners.topics["a"].members["ann"]
    scene.owners.topics["a"].fence += 1
    scene.owners.come()
    assert {message.caller.user_id: message.member for message in asked(scene)} == {"ann": True, "eve": False}
    assert ended(ann) == ["forbidden"] and state(eve) is SubscriptionState.IN_STEP


def test_membership_is_learned_with_every_answer() -> None:
    scene = Scene()
    scene.owners.create("a")
    ann = scene.socket("a", user="ann")
    scene.owners.topics["a"].members["ann"] = Role.MEMBER
    for expected in (False, True):
        scene.say(ann, type="refresh", token="ann")
        assert asked(scene)[-1].member is expected


@pytest.mark.parametrize("code", ["not_ready", "internal", "overloaded"])
def test_a_refusal_that_is_not_about_rights_is_asked_again(code: str) -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    answer = scene.owners.answer
    scene.owners.answer = scene.owners._answer = lambda request: Refused(request.req, code, "no")  # type: ignore[method-assign]
    scene.owners.demote("a", "ann", Role.SUBSCRIBER)
    scene.publish("a", 1)
    scene.pass_time(3)
    assert state(ann) is FENCED and payloads(ann) == [] and len(asked(scene)) >= 3
    scene.owners.answer = scene.owners._answer = answer  # type: ignore[method-assign]
    scene.pass_time(1.5)
    assert payloads(ann) == [1] and state(ann) is SubscriptionState.IN_STEP


def test_an_sse_stream_is_held_and_ends_with_the_event() -> None:
    scene = Scene()
    scene.owners.create("a", members={"bob": Role.MEMBER})
    stream = scene.stream("a")
    scene.publish("a", 1)
    scene.owners.demote("a", "bob", Role.SUBSCRIBER)
    scene.publish("a", 2)
    scene.turn()
    assert stream.code is None and stream.data.count(b'"payload":') == 2
    scene.owners.remove("a", "bob")
    scene.publish("a", 3)
    scene.turn()
    assert stream.code == 1000 and stream.data.count(b'"payload":') == 2
    assert b"event: unsubscribed\n" in stream.data and b'"forbidden"' in stream.data
    assert scene.hub.session_count == 0 and scene.owners.topics["a"].count == 0


def test_unsubscribing_and_leaving_while_held_leave_nothing_behind() -> None:
    scene = Scene()
    private(scene, "ann")
    ann, other = scene.socket("a", user="ann"), scene.socket("a", user="ann")
    scene.owners.slow = True
    scene.owners.demote("a", "ann", Role.SUBSCRIBER)
    scene.owners.deliver(1)
    scene.say(ann, type="unsubscribe", topic_id="a")
    assert other.session is not None
    scene.hub.lost(other.session)
    scene.owners.deliver()
    assert ended(ann) == ["requested"] and scene.owners.topics["a"].count == 0
    hub = scene.hub
    assert not hub.feeds and not hub.renewals._asked and not hub.renewals._wanted and not hub.catchup._released


def test_a_fence_for_somebody_who_is_not_here_writes_and_asks_nothing() -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    ben = scene.socket("a", user="ben")
    scene.publish("a", 1)
    before = ben.writes
    scene.owners.remove("a", "ann")
    assert ben.writes == before and scene.hub.feeds["a"].fence == 1 and asked(scene) == []


def test_a_fence_of_another_epoch_is_not_this_topics() -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    epoch = scene.hub.feeds["a"].epoch
    scene.hub.on_push(1, Fence("a", epoch - 1, 9))
    scene.hub.on_push(1, Fence("b", epoch, 9))
    assert state(ann) is SubscriptionState.IN_STEP and scene.hub.feeds["a"].fence == 0
    scene.hub.on_push(1, Fence("a", epoch + 1, 9))
    assert ended(ann) == ["deleted"]


@pytest.mark.parametrize("answer", ["subscribed", "authorized"])
def test_an_answer_that_names_a_fence_that_never_came_holds_all_others(answer: str) -> None:
    scene = Scene()
    private(scene, "ann", "ben", "eve")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    topic = scene.owners.topics["a"]
    topic.fence += 1
    topic.members["ann"] = Role.PUBLISHER
    if answer == "subscribed":
        eve = scene.socket("a", user="eve")
        assert state(eve) is SubscriptionState.IN_STEP
    else:
        scene.say(ben, type="refresh", token="ben")
    scene.publish("a", 1)
    scene.turn()
    assert payloads(ben) == [1] and payloads(ann) == [] and ended(ann) == ["forbidden"]


def test_a_grant_to_a_session_that_ended_while_a_missed_fence_was_written_out_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    ann = scene.socket("a", user="ann")
    scene.publish("a", 1)
    scene.owners.topics["a"].fence += 1
    pipe = scene.open()
    assert pipe.session is not None
    scene.admit(pipe, scene.caller("ben"))
    session, write_out = pipe.session, scene.hub._flush.write_out

    def ends_meanwhile(*feed: Any) -> Any:
        scene.hub.disconnect(session, 4508)
        return write_out(*feed)

    monkeypatch.setattr(scene.hub._flush, "write_out", ends_meanwhile)
    scene.follow(pipe, "a")
    assert session.subscriptions == {} and scene.hub.feeds["a"].count == 1
    assert scene.owners.topics["a"].count == 1 and payloads(ann) == [1] and state(ann) is SubscriptionState.IN_STEP


def test_an_owner_of_version_1_ends_the_topic_here_with_the_reason() -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    scene.publish("a", 1)
    scene.hub.on_push(1, Ended("a", scene.owners.topics["a"].epoch, "forbidden"))
    assert payloads(ann) == [1] and ended(ann) == ["forbidden"]


def test_a_change_of_settings_counts_at_once() -> None:
    scene = Scene(Limits(slow_messages=100))
    scene.owners.create("a")
    slow = scene.socket("a")
    feed = scene.hub.feeds["a"]
    scene.hub.on_push(1, TopicSettings("a", feed.epoch, {"profile": "durable", "on_slow": "drop_oldest"}))
    slow.stuck = True
    for n in range(300):
        scene.publish("a", n, BIG)
        scene.turn()
    slow.stuck = False
    slow.drain()
    scene.pass_time(1)
    assert slow.code is None and len(slow.frames("gap")) == 1
    scene.hub.on_push(1, TopicSettings("a", feed.epoch, {"profile": "durable", "on_slow": None}))
    assert feed.on_slow == "disconnect"


def test_questions_of_a_large_topic_are_asked_in_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "UNDER_WAY", 10)
    scene = Scene()
    scene.owners.create("a")
    pipes = [scene.socket("a", user=f"u{n}") for n in range(35)]
    scene.owners.slow = True
    scene.owners.permit("a", "PRIVATE")
    scene.publish("a", 1)
    scene.owners.deliver(1)
    assert len(asked(scene)) == 10 and all(state(pipe) is FENCED for pipe in pipes)
    while scene.owners._link:
        assert len(scene.hub.renewals._asked) <= 10
        scene.owners.deliver(1)
        scene.turn()
    assert all(ended(pipe) == ["forbidden"] and payloads(pipe) == [] for pipe in pipes)


def test_a_repaired_gap_reaches_nobody_who_lost_his_right_meanwhile() -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    scene.owners.lose = True
    scene.publish("a", 1)
    scene.owners.lose = False
    scene.owners.slow = True
    topic = scene.owners.topics["a"]
    scene.publish("a", 2)
    scene.owners.deliver(1)  # asks for 1, whose page will hold what is there then
    scene.owners._link.clear()
    scene.owners.remove("a", "ann")
    scene.publish("a", 3)
    scene.owners.deliver()
    feed = scene.hub.feeds["a"]
    scene.hub._input._gaps._holes[feed].asked = False
    scene.owners.slow = False
    scene.pass_time(1.5)
    assert payloads(ann) == [] and ended(ann) == ["forbidden"]
    assert payloads(ben) == [1, 2, 3] and topic.seq == 3


def test_a_grant_takes_the_settings_of_its_time() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.owners.topics["a"].settings = {"profile": "durable", "on_slow": "drop_oldest"}
    scene.socket("a")
    assert scene.hub.feeds["a"].on_slow == "drop_oldest"


def test_messages_that_come_while_all_are_held_are_kept_for_them() -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    answer = hold(scene, "ann")
    topic = scene.owners.topics["a"]
    scene.hub.on_push(1, Messages("a", topic.epoch, 1, [0], [b'{"type":"message","seq":1,"payload":1}']))
    scene.turn()
    assert ann.frames("message") == []
    answer()
    assert payloads(ann) == [1]
