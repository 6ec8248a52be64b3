"""Presence on a gateway: first frames, diffs at most once a second, settings that change, owners that come and go."""

from typing import Any

import pytest

from headgate.core.client.framing import SSE
from headgate.core.client.inbound import Subscribe
from headgate.core.fanout import gateway_presence
from headgate.core.wire import link
from headgate.core.wire.link_members import Authorize, TopicSettings
from headgate.core.wire.link_presence import PresenceState
from headgate.core.wire.member_roles import Role
from headgate.core.wire.position import from_query
from headgate.core.wire.topic_settings import effective
from tests.core.scene import Pipe, Scene


def scene_of(presence: str = "list", permissions: str = "PUBLIC") -> Scene:
    scene = Scene()
    scene.owners.create("a", settings={"presence": presence}, permissions=permissions)
    return scene


def follow(scene: Scene, user: str, level: int = 1, pipe: Pipe | None = None) -> Pipe:
    pipe = pipe or scene.socket(user=user)
    assert pipe.session is not None
    scene.hub.subscribe(pipe.session, Subscribe("a", from_query("live"), level), scene.moment)
    scene.turn()
    return pipe


def leave(scene: Scene, pipe: Pipe) -> None:
    assert pipe.session is not None
    scene.hub.lost(pipe.session)
    scene.turn()


def names(members: list[dict[str, Any]]) -> list[str]:
    return [member["user_id"] for member in members]


def first(pipe: Pipe) -> tuple[list[str], int]:
    frame = pipe.frames("presence")[0]
    return names(frame["subscribers"]), frame["count"]


def diffs(pipe: Pipe) -> list[tuple[list[str], list[str], list[str], int]]:
    return [
        (names(frame["joined"]), names(frame["left"]), names(frame["changed"]), frame["count"])
        for frame in pipe.frames("presence_diff")
    ]


def settings(scene: Scene, permissions: str = "", **changes: str) -> None:
    topic = scene.owners.topics["a"]
    topic.settings = effective(changes)
    scene.owners.push(TopicSettings("a", topic.epoch, topic.settings, permissions))
    scene.turn()


def known(pipe: Pipe) -> tuple[set[str], int]:
    """Who is there and how many, as the client knows from all its frames."""
    users: set[str] = set()
    count = 0
    for frame in pipe.frames():
        if frame["type"] == "presence":
            users, count = set(names(frame["subscribers"])), frame["count"]
        elif frame["type"] == "presence_diff":
            users, count = users - set(names(frame["left"])) | set(names(frame["joined"])), frame["count"]
    return users, count


@pytest.mark.parametrize("told_late", [False, True])
def test_who_come_at_the_same_moment_know_of_each_other(told_late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner has not heard of the first when the second asks, or has not told the gateway yet."""
    scene = scene_of()
    scene.owners.slow = not told_late
    with monkeypatch.context() as late:
        if told_late:
            late.setattr(scene.owners.presence, "tell", lambda _: None)
        ann, bob = follow(scene, "ann", 2), follow(scene, "bob", 2)
        scene.owners.deliver()
        scene.turn()
    assert "bob" in first(bob)[0]
    scene.owners.presence.tell("a")
    scene.owners.deliver()
    scene.pass_time(2.0)
    assert [known(pipe) for pipe in (ann, bob)] == [({"ann", "bob"}, 2)] * 2


def test_the_first_frame_lists_all_and_its_reader_and_comes_before_messages() -> None:
    scene = scene_of()
    scene.owners.presence.elsewhere("a", "eve", 2)
    ann = follow(scene, "ann")
    bob = follow(scene, "bob")
    again = follow(scene, "ann")
    scene.publish("a", 1)
    scene.turn()
    assert first(ann) == (["eve", "ann"], 2) and first(bob) == (["eve", "ann", "bob"], 3)
    (frame,) = again.frames("presence")
    assert {user["user_id"]: user["connections"] for user in frame["subscribers"]} == {"eve": 2, "ann": 2, "bob": 1}
    assert frame["count"] == 3
    assert [frame["type"] for frame in ann.frames()] == ["welcome", "subscribed", "presence", "message"]


def test_the_first_frame_counts_who_came_in_the_same_moment_and_is_not_told_yet() -> None:
    scene = scene_of("count")
    pipes = []
    for user in ("ann", "bob", "cid"):
        pipe = scene.socket(user=user)
        assert pipe.session is not None
        scene.hub.subscribe(pipe.session, Subscribe("a", from_query("live"), 1), scene.moment)  # and no turn passes
        pipes.append(pipe)
    scene.turn()
    assert [first(pipe)[1] for pipe in pipes] == [1, 2, 3]


def test_a_state_that_came_for_a_client_who_has_gone_is_shown_to_nobody() -> None:
    scene = scene_of()
    scene.owners.presence.elsewhere("a", "eve", 1)
    scene.owners.slow = True
    leave(scene, follow(scene, "ann"))
    scene.owners.deliver()
    scene.owners.slow = False
    scene.owners.presence.elsewhere("a", "fay", 1)
    follow(scene, "bob", 0)  # his grant brings no state
    listed, count = first(follow(scene, "cid"))
    assert (sorted(listed), count) == (["bob", "cid", "eve", "fay"], 4)


def test_in_mode_count_users_are_counted_and_nobody_is_listed_and_in_none_there_is_no_frame() -> None:
    scene = scene_of("count")
    follow(scene, "ann")
    assert first(follow(scene, "ann")) == ([], 1) and first(follow(scene, "bob")) == ([], 2)
    assert not any(isinstance(m, PresenceState) for m in scene.owners.asked)
    scene = scene_of("none")
    pipe = follow(scene, "ann", 2)
    assert [frame["type"] for frame in pipe.frames()] == ["welcome", "subscribed"]
    scene.say(pipe, type="presence", topic_id="a")
    assert first(pipe) == ([], 0)


def test_an_owner_of_an_older_version_counts_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of("count")
    monkeypatch.setattr(scene.owners.presence, "granted", lambda ask, topic: None)
    follow(scene, "ann")
    assert first(follow(scene, "ann")) == ([], 2)


def test_a_stream_gets_the_first_frame_too() -> None:
    scene = scene_of()
    pipe = scene.socket(framing=SSE)
    follow(scene, "bob", 1, pipe)
    assert b'event: presence\ndata: {"type":"presence","topic_id":"a","subscribers":[{"user_id":"bob"' in pipe.data


def test_diffs_come_at_most_once_a_second_and_joined_and_left_cancel_out() -> None:
    scene = scene_of()
    ann, quiet = follow(scene, "ann", 2), follow(scene, "ann", 1)
    scene.pass_time(1.25)
    before = len(diffs(ann))
    bob = follow(scene, "bob")
    scene.pass_time(0.25)
    assert diffs(ann)[before:] == [(["bob"], [], [], 2)]
    eve = follow(scene, "eve")
    scene.say(bob, type="status", state="away")
    leave(scene, eve)
    scene.turn()
    scene.pass_time(0.5)
    assert len(diffs(ann)) == before + 1
    scene.pass_time(0.5)
    assert diffs(ann)[before + 1 :] == [([], [], ["bob"], 2)] and diffs(quiet) == []
    scene.pass_time(3)
    assert len(diffs(ann)) == before + 2
    leave(scene, bob)
    scene.pass_time(0.25)
    assert diffs(ann)[before + 2 :] == [([], ["bob"], [], 1)]


def test_in_mode_count_a_diff_has_the_count() -> None:
    scene = scene_of("count")
    ann = follow(scene, "ann", 2)
    scene.pass_time(1.25)
    before = len(diffs(ann))
    follow(scene, "bob")
    scene.pass_time(1.25)
    assert diffs(ann)[before:] == [([], [], [], 2)]


def test_every_client_gets_the_same_bytes_and_one_that_is_full_the_whole_later() -> None:
    scene = scene_of()
    pipes = [follow(scene, "ann", 2) for _ in range(3)]
    scene.pass_time(1.25)
    full = pipes[0]
    assert full.session is not None
    full.session.pause(scene.now)
    for pipe in pipes:
        pipe.data = b""
    follow(scene, "bob")
    scene.pass_time(1.25)
    assert full.data == b"" and pipes[1].data == pipes[2].data and len(diffs(pipes[1])) == 1
    full.session.resume()
    scene.pass_time(1.25)
    assert first(full) == (["ann", "bob"], 2) and len(full.frames()) == 1 and len(diffs(pipes[1])) == 1


def test_a_client_whose_first_frame_had_somebody_hears_that_he_left() -> None:
    scene = scene_of()
    follow(scene, "ann", 2)
    scene.pass_time(1.25)
    eve = follow(scene, "eve")
    bob = follow(scene, "bob", 2)
    assert "eve" in first(bob)[0]
    leave(scene, eve)
    scene.pass_time(1.25)
    assert any("eve" in left for _, left, _, _ in diffs(bob))


def test_a_new_owner_that_knows_the_same_causes_no_diff() -> None:
    scene = scene_of()
    ann = follow(scene, "ann", 2)
    for n in range(5):
        follow(scene, f"u{n}")
    scene.pass_time(1.25)
    before = diffs(ann)
    scene.owners.go()
    scene.pass_time(2)
    scene.owners.presence.forget()
    scene.owners.come()
    scene.turn()
    scene.pass_time(2.5)
    assert diffs(ann) == before
    follow(scene, "eve")
    scene.pass_time(1.25)
    assert diffs(ann)[len(before) :] == [(["eve"], [], [], 7)]


def test_modes_change_while_running() -> None:
    scene = scene_of("count")
    ann = follow(scene, "ann", 2)
    bob = follow(scene, "bob")
    settings(scene, presence="list")
    scene.pass_time(1.25)
    assert names(ann.frames("presence")[-1]["subscribers"]) == ["ann", "bob"]
    settings(scene, presence="none")
    before = len(ann.frames())
    leave(scene, bob)
    follow(scene, "eve")
    scene.pass_time(2.5)
    assert len(ann.frames()) == before and scene.owners.presence.of("a").open("a", 0).count == 0
    settings(scene, presence="list")
    scene.pass_time(1.25)
    assert names(ann.frames("presence")[-1]["subscribers"]) == ["ann", "eve"]
    assert first(follow(scene, "dan")) == (["ann", "eve", "dan"], 3)
    settings(scene, presence="count")
    scene.pass_time(1.25)
    frame = ann.frames("presence")[-1]
    assert (frame["subscribers"], frame["count"]) == ([], 3)


def test_who_may_not_know_gets_nothing_and_is_refused_on_request() -> None:
    scene = scene_of(permissions="SUBSCRIBE_ONLY")
    scene.owners.topics["a"].members["ann"] = Role.SUBSCRIBER
    ann, bob = follow(scene, "ann", 2), follow(scene, "bob", 2)
    follow(scene, "eve")
    scene.pass_time(2.5)
    assert first(ann)[1] == 1 and diffs(ann)[-1][3] == 3
    assert bob.frames("presence") == [] and diffs(bob) == []
    scene.say(bob, type="presence", topic_id="a", id=4)
    (error,) = bob.frames("error")
    assert (error["code"], error["id"]) == ("forbidden", 4)
    scene.say(ann, type="presence", topic_id="a", id=5)
    frame = ann.frames("presence")[-1]
    assert (frame["id"], sorted(names(frame["subscribers"]))) == (5, ["ann", "bob", "eve"])


def test_a_right_that_is_lost_ends_the_diffs_and_one_that_is_gained_begins_them() -> None:
    scene = scene_of()
    bob = follow(scene, "bob", 2)
    scene.pass_time(1.25)
    before = len(bob.frames())
    topic = scene.owners.topics["a"]
    topic.permissions = "SUBSCRIBE_ONLY"
    settings(scene, "SUBSCRIBE_ONLY", presence="list")
    follow(scene, "eve")
    scene.pass_time(1.25)
    assert len(bob.frames()) == before
    topic.permissions = "PUBLIC"
    settings(scene, "PUBLIC", presence="list")
    scene.pass_time(1.25)
    assert sorted(names(bob.frames("presence")[-1]["subscribers"])) == ["bob", "eve"]


def test_a_grant_whose_replica_went_meanwhile_is_given_back_and_asked_for_again() -> None:
    scene = scene_of()
    ann = follow(scene, "ann")
    scene.owners.slow = True
    bob = scene.socket(user="bob")
    assert bob.session is not None
    scene.hub.subscribe(bob.session, Subscribe("a", None, 1), scene.moment)
    leave(scene, ann)
    scene.owners.deliver()
    scene.turn()
    scene.owners.deliver()
    assert first(bob) == (["bob"], 1)
    asked = [message for message in scene.owners.asked if isinstance(message, link.AskSubscribe)]
    assert [message.presence for message in asked] == [1, 0, 1] and scene.owners.topics["a"].count == 1


def test_a_question_does_not_overtake_the_announcement_of_who_asks() -> None:
    scene = scene_of("count")
    pipe = scene.socket("a", user="ann")
    scene.say(pipe, type="presence", topic_id="a")
    assert first(pipe) == ([], 1)


def test_a_replica_of_an_older_epoch_is_of_no_use() -> None:
    scene = scene_of()
    ann = follow(scene, "ann")
    topic = scene.owners.topics.pop("a")
    again = scene.owners.create("a", settings={"presence": "list"})  # and Ended was lost
    bob = follow(scene, "bob")
    assert first(bob) == (["bob"], 1) and again.epoch > topic.epoch
    assert ann.frames("unsubscribed")[0]["reason"] == "deleted"


def test_settings_that_leave_the_permissions_as_they_are_renew_nothing() -> None:
    scene = scene_of()
    follow(scene, "ann", 2)
    for _ in range(3):
        settings(scene, "PUBLIC", presence="list")
    assert sum(isinstance(message, Authorize) for message in scene.owners.asked) == 1


def test_states_without_a_grant_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_presence, "EARLY", 3)
    scene = Scene()
    for n in range(10):
        scene.owners.push(PresenceState(f"t{n}", 1, "list", 0, []))
    presence = scene.hub.audience.presence
    assert list(presence._early) == ["t7", "t8", "t9"]


def test_nothing_is_left_when_all_have_gone() -> None:
    scene = scene_of()
    pipes = [follow(scene, user, 2) for user in ("ann", "bob")]
    scene.say(pipes[0], type="status", state="away")
    scene.pass_time(1.25)
    for pipe in pipes:
        leave(scene, pipe)
    scene.pass_time(1.25)
    presence = scene.hub.audience.presence
    for kept in (presence._replicas, presence._watching, presence._barred, presence._dirty, presence._away):
        assert kept == {}
    assert presence._local._feeds == presence._local._changed == {}
