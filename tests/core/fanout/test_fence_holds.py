"""Fences: nothing after a lost right reaches who lost it; everybody else misses nothing and gets no repeat."""

from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.subscription import SubscriptionState
from headgate.core.wire.link import Fetch
from headgate.core.wire.link_members import Authorize, Authorized, Fence
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
    monkeypatch.setattr(Hub, "write_out", lambda hub, feed: None)
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
