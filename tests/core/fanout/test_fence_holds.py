"""Fences: nothing after a lost right reaches who lost it; everybody else misses nothing and gets no repeat."""

from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout import renewals
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.subscription import SubscriptionState
from headgate.core.wire.link import Attach, Ended, Fetch, Messages, Refused
from headgate.core.wire.link_members import Authorize, Authorized, Fence, TopicSettings
from headgate.core.wire.member_roles import Role
from tests.core.scene import Pipe, Scene

BIG = "x" * 1_000
FENCED = SubscriptionState.FENCED


def private(scene: Scene, *members: str, **changes: Any) -> None:
    """A PRIVATE topic `a` with members."""
    scene.owners.create("a", permissions="PRIVATE", members=dict.fromkeys(members, Role.MEMBER), **changes)


def ended(pipe: Pipe) -> list[str]:
    return [frame["reason"] for frame in pipe.frames("unsubscribed")]


def state(pipe: Pipe) -> SubscriptionState:
    assert pipe.session is not None
    (subscription,) = pipe.session.subscriptions.values()
    return subscription.state


def asked(scene: Scene) -> list[Authorize]:
    return [message for message in scene.owners.asked if isinstance(message, Authorize)]


def payloads(pipe: Pipe) -> list[Any]:
    return [frame["payload"] for frame in pipe.frames("message")]


def leaves_between_two_messages(scene: Scene) -> tuple[Pipe, Pipe]:
    """Ann is put out between two messages of one batch; ben stays."""
    private(scene, "ann", "ben")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    scene.publish("a", "before")
    scene.owners.remove("a", "ann")
    scene.publish("a", "after")
    scene.turn()
    return ann, ben


def test_nothing_after_a_removal_reaches_him_and_everything_before_it_does() -> None:
    scene = Scene()
    ann, ben = leaves_between_two_messages(scene)
    assert payloads(ann) == ["before"] and ended(ann) == ["forbidden"]
    assert [frame["type"] for frame in ann.frames()][-2:] == ["message", "unsubscribed"]
    assert payloads(ben) == ["before", "after"] and ended(ben) == []
    assert asked(scene) == [], "he who was put out is not asked for"
    assert scene.owners.topics["a"].count == 1 and scene.hub.subscription_count == 1


def test_planted_fault_a_fence_before_the_last_frames_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "_write_out", lambda hub, feed: None)
    ann, ben = leaves_between_two_messages(Scene())
    assert payloads(ann) == [] and payloads(ben) == ["before", "after"]


def test_who_was_put_out_may_follow_a_public_topic_again() -> None:
    scene = Scene()
    scene.owners.create("a", members={"ann": Role.MEMBER})
    ann = scene.socket("a", user="ann")
    scene.owners.remove("a", "ann")
    scene.publish("a", 1)
    scene.follow(ann, "a")
    scene.publish("a", 2)
    scene.turn()
    assert ended(ann) == ["forbidden"] and payloads(ann) == [2]


@pytest.mark.parametrize("profile", ["durable", "ephemeral"])
def test_a_topic_made_private_is_heard_by_its_members_only(profile: str) -> None:
    scene = Scene()
    scene.owners.create("a", members={"ann": Role.SUBSCRIBER}, settings={"profile": profile})
    scene.owners.create("b")
    ann, eve = scene.socket("a", "b", user="ann"), scene.socket("a", "b", user="eve")
    scene.publish("a", 1)
    scene.owners.slow = True
    scene.owners.permit("a", "PRIVATE")
    scene.publish("a", 2)
    scene.publish("b", "b")
    while scene.owners._link:
        scene.owners.deliver(1)
        scene.turn()
    assert payloads(ann) == [1, "b", 2] and ended(ann) == []
    assert payloads(eve) == [1, "b"] and ended(eve) == ["forbidden"]
    scene.owners.slow = False
    scene.publish("a", 3)
    scene.turn()
    assert payloads(ann)[-1] == 3 and len(asked(scene)) == 2
    assert ann.frames("caught_up") == ann.frames("gap") == []


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "conflate", "disconnect"])
def test_who_was_held_is_not_slow(policy: str) -> None:
    scene = Scene()
    scene.owners.create("a", settings={"profile": "ephemeral", "on_slow": policy})
    ann = scene.socket("a", user="ann")
    scene.owners.slow = True
    scene.owners.permit("a", "SUBSCRIBE_ONLY")
    scene.owners.deliver(1)
    for n in range(50):
        scene.publish("a", n)
    answer = scene.owners._link.pop(0)
    scene.owners.deliver()
    scene.turn()
    scene.pass_time(2)
    assert payloads(ann) == [] and state(ann) is FENCED
    answer[0](answer[1])
    assert payloads(ann) == list(range(50)) and state(ann) is SubscriptionState.IN_STEP
    assert ann.code is None and ann.frames("gap") == []


def test_who_was_held_long_gets_pages_of_the_owner() -> None:
    scene = Scene(Limits(ring_frames=10, slow_messages=100))
    private(scene, "ann", "ben")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    held_answer = hold(scene, "ann")
    for n in range(300):
        scene.publish("a", n)
        scene.turn()
    assert payloads(ann) == [] and payloads(ben) == list(range(300)) and state(ben) is SubscriptionState.IN_STEP
    held_answer()
    assert payloads(ann) == list(range(300)) and ended(ann) == [] and ann.frames("gap") == []
    assert any(isinstance(message, Fetch) for message in scene.owners.asked)


def hold(scene: Scene, user: str) -> Any:
    """A fence for a user who keeps his right; returns what lets the answer arrive."""
    answers: list[Any] = []
    request = scene.owners.request

    def later(shard: Any, build: Any, on_answer: Any) -> None:
        request(shard, build, lambda answer: answers.append((on_answer, answer)))

    scene.owners.request = later  # type: ignore[method-assign]
    scene.owners.demote("a", user, Role.SUBSCRIBER)
    scene.owners.request = request  # type: ignore[method-assign]
    ((on_answer, answer),) = answers
    return lambda: on_answer(answer)


@pytest.mark.parametrize("keeps", [True, False])
def test_who_is_held_behind_the_ring_continues_or_ends_there(keeps: bool) -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    ann.stuck = True
    for n in range(200):
        scene.publish("a", n, BIG)
        scene.turn()
    assert state(ann) is SubscriptionState.BEHIND
    before = len(payloads(ann))
    scene.owners.demote("a", "ann", Role.SUBSCRIBER if keeps else Role.PUBLISHER)
    scene.publish("a", "after")
    scene.turn()
    ann.stuck = False
    ann.drain()
    assert len(payloads(ben)) == 401
    if keeps:
        assert payloads(ann) == payloads(ben) and ended(ann) == []
    else:
        assert len(payloads(ann)) == before and ended(ann) == ["forbidden"]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_parked_session_is_held_and_released_while_its_socket_is_full(keeps: bool) -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    ann, ben = scene.socket("a", user="ann"), scene.socket("a", user="ben")
    ann.stuck = True
    scene.publish("a", *[BIG] * 100)
    scene.turn()
    assert ann.paused
    answer = hold(scene, "ann")
    if not keeps:
        scene.owners.remove("a", "ann")
    answer()
    scene.publish("a", "after")
    scene.turn()
    ann.stuck = False
    ann.drain()
    if keeps:
        assert payloads(ann) == payloads(ben) == [BIG] * 100 + ["after"] and ended(ann) == []
    else:
        assert "after" not in payloads(ann) and ended(ann) == ["forbidden"]


def test_a_page_that_was_on_its_way_at_the_fence_is_dropped_and_asked_for_again() -> None:
    scene = Scene(Limits(ring_frames=10))
    private(scene, "ann", "ben")
    scene.publish("a", *range(2_000))
    scene.owners.slow = True
    ann = scene.socket("a", user="ann", form="earliest")
    scene.owners.deliver(1)
    assert state(ann) is SubscriptionState.FETCHING
    scene.owners.demote("a", "ann", Role.SUBSCRIBER)
    page, fence = scene.owners._link
    scene.owners._link = [fence]  # the page is large: it waits for room on the link
    scene.owners.deliver(1)
    assert state(ann) is FENCED and payloads(ann) == []
    (answer,) = scene.owners._link
    scene.owners._link = []
    answer[0](answer[1])
    assert state(ann) is SubscriptionState.BEHIND and scene.owners._link == [], "one page at a time"
    page[0](page[1])
    assert payloads(ann) == [] and state(ann) is SubscriptionState.FETCHING
    while scene.owners._link:
        scene.owners.deliver(1)
    assert payloads(ann) == list(range(2_000)) and len(ann.frames("caught_up")) == 1
    assert not scene.hub.catchup._stale_pages


@pytest.mark.parametrize("order", ["page first", "answer first", "gone"])
def test_a_page_with_what_came_after_the_fence_reaches_nobody_who_lost_his_right(order: str) -> None:
    scene = Scene(Limits(ring_frames=10))
    private(scene, "ann")
    scene.publish("a", *range(100))
    scene.owners.slow = True
    ann = scene.socket("a", user="ann", form="earliest")
    scene.owners.deliver(1)
    (page,) = scene.owners._link
    scene.owners._link = []
    scene.owners.demote("a", "ann", Role.PUBLISHER)
    scene.owners.deliver(1)
    (answer,) = scene.owners._link
    scene.owners._link = []
    if order == "gone":
        assert ann.session is not None
        scene.hub.lost(ann.session)
    for handler, message in [page, answer] if order == "page first" else [answer, page]:
        handler(message)
    assert payloads(ann) == [] and ended(ann) == ([] if order == "gone" else ["forbidden"])
    assert not scene.hub.catchup._stale_pages and scene.hub.feeds == {} and not scene.hub.renewals._asked


def test_a_waiting_subscription_is_taken_from_the_flush_and_given_back() -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    scene.socket("a", user="ben")
    scene.owners.lose = True
    scene.publish("a", 1, 2)
    scene.owners.lose = False
    scene.owners.slow = True  # the gateway asks for what it misses, and waits
    ann = scene.socket("a", user="ann")
    scene.owners.deliver(1)
    assert state(ann) is SubscriptionState.WAITING
    feed = scene.hub.feeds["a"]
    repair, scene.owners._link = scene.owners._link, []
    scene.owners.demote("a", "ann", Role.SUBSCRIBER)
    scene.owners.deliver(1)
    assert state(ann) is FENCED and not feed.waiting
    scene.owners.deliver()
    assert state(ann) is SubscriptionState.WAITING
    scene.owners._link = repair
    scene.owners.deliver()
    scene.publish("a", 3)
    scene.owners.deliver()
    scene.turn()
    assert state(ann) is SubscriptionState.IN_STEP and payloads(ann) == [3]


def test_a_subscribe_that_is_granted_after_the_fence_is_not_held() -> None:
    scene = Scene()
    private(scene, "ann", "ben")
    scene.socket("a", user="ben")
    scene.owners.slow = True
    scene.owners.demote("a", "ann", Role.SUBSCRIBER)
    ann = scene.socket("a", user="ann")
    scene.owners.deliver()
    assert state(ann) is SubscriptionState.IN_STEP and asked(scene) == []


def test_a_subscribe_that_was_granted_before_the_fence_is_held() -> None:
    scene = Scene()
    private(scene, "ann")
    scene.owners.slow = True
    ann = scene.socket("a", user="ann")
    scene.owners.demote("a", "ann", Role.PUBLISHER)
    scene.publish("a", 1)
    while scene.owners._link:
        scene.owners.deliver(1)
        scene.turn()
    assert len(ann.frames("subscribed")) == 1 and payloads(ann) == [] and ended(ann) == ["forbidden"]


def test_two_fences_in_a_row_are_one_question_and_the_last_one_counts() -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    scene.owners.slow = True
    scene.owners.demote("a", "ann", Role.SUBSCRIBER)
    scene.owners.deliver(1)
    scene.owners.demote("a", "ann", Role.PUBLISHER)
    scene.publish("a", 1)
    assert len(asked(scene)) == 1
    scene.owners.deliver(1)  # the answer to the first question: given before the second fence
    assert state(ann) is SubscriptionState.IN_STEP
    while scene.owners._link:
        scene.owners.deliver(1)
        scene.turn()
    assert payloads(ann) == [] and ended(ann) == ["forbidden"] and len(asked(scene)) == 2


def test_a_second_fence_while_he_is_held_asks_nothing_more() -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    answer = hold(scene, "ann")
    feed = scene.hub.feeds["a"]
    scene.hub.on_push(1, Fence("a", feed.epoch, 2))
    assert state(ann) is FENCED and len(asked(scene)) == 1 and feed.fence == 2
    answer()
    assert state(ann) is SubscriptionState.IN_STEP


def test_a_refresh_while_he_is_held_is_asked_with_the_new_rights_before_he_continues() -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    answer = hold(scene, "ann")
    scene.say(ann, type="refresh", token="ann")
    assert state(ann) is FENCED
    del scene.owners.topics["a"].members["ann"]
    answer()
    assert ended(ann) == ["forbidden"] and len(asked(scene)) == 2


def test_a_refresh_under_way_at_the_fence_decides_for_it() -> None:
    scene = Scene()
    private(scene, "ann")
    ann = scene.socket("a", user="ann")
    scene.owners.slow = True
    scene.say(ann, type="refresh", token="ann")
    scene.owners._link.clear()
    scene.owners.demote("a", "ann", Role.SUBSCRIBER)
    scene.owners.deliver()
    assert state(ann) is FENCED and len(asked(scene)) == 1
    assert ann.session is not None
    (subscription,) = ann.session.subscriptions.values()
    scene.hub.renewals._answered(subscription, Authorized(1, 1, True))
    assert state(ann) is SubscriptionState.IN_STEP


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
