"""The members of a gateway: acknowledgements and refusals on their way to the owner, also while it is away."""

from headgate.core.wire.link import AskSubscribe, Attach
from headgate.core.wire.link_groups import GroupAck, GroupNack, JoinGroup, LeaveGroup
from tests.core.fanout.grouping_scene import GroupScene


def test_a_member_joins_with_its_group_and_is_told_so() -> None:
    scene = GroupScene()
    pipe = scene.member(**{"from": "cursor"})
    (ask,) = [each for each in scene.owners.asked if isinstance(each, AskSubscribe)]
    assert pipe.session is not None
    assert (ask.group, ask.member, ask.position) == ("w", pipe.session.connection_id, ("cursor", 0, 0))
    (frame,) = pipe.frames("subscribed")
    assert frame["group"] == "w" and len(scene.hub.acknowledging.groups) == 1
    scene.say(pipe, type="subscribe", topic_id="a")
    assert pipe.frames("error")[0]["code"] == "already_subscribed"


def test_an_owner_that_does_not_know_groups_is_no_owner_of_a_group() -> None:
    scene = GroupScene()
    del scene.owners._AskSubscribe
    pipe = scene.member()
    assert pipe.frames("error")[0]["code"] == "not_ready" and scene.topic.count == 0
    assert len(scene.hub.acknowledging.groups) == 0


def test_acknowledgements_go_to_the_owner_and_are_answered_where_they_have_an_id() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, 1, 2, 3)
    scene.say(pipe, type="ack", topic_id="a", seq=2)
    scene.say(pipe, type="ack", topic_id="a", seq=3, id="x")
    assert [(ask.seqs, ask.stored) for ask in scene.heard(GroupAck)] == [([1, 2], False), ([3], True)]
    assert pipe.frames("ok") == [{"type": "ok", "id": "x"}]
    scene.say(pipe, type="ack", topic_id="a", seq=3, id="y")
    assert pipe.frames("ok")[-1]["id"] == "y"


def test_a_repeat_with_an_id_is_answered_once_the_log_has_what_was_acknowledged_without_one() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, 1, 2)
    scene.say(pipe, type="ack", topic_id="a", seq=2)
    scene.say(pipe, type="ack", topic_id="a", seq=2, id="x")
    assert [(ask.seqs, ask.stored) for ask in scene.heard(GroupAck)] == [([1, 2], False), ([], True)]


def test_a_refusal_goes_to_the_owner_once_and_only_for_what_was_written() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, 4)
    scene.say(pipe, type="nack", topic_id="a", seq=4, reason="down", id=1)
    scene.say(pipe, type="nack", topic_id="a", seq=4, id=2)
    scene.say(pipe, type="nack", topic_id="a", seq=5, id=3)
    assert [(ask.seq, ask.reason) for ask in scene.heard(GroupNack)] == [(4, "down")]
    assert [frame["id"] for frame in pipe.frames("ok")] == [1, 2]
    assert pipe.frames("error")[0]["code"] == "not_found"
    scene.say(pipe, type="ack", topic_id="a", seq=4)
    assert scene.heard(GroupAck) == [], "it comes again: it is not acknowledged by what was sent before"


def test_a_member_leaves_with_its_subscription() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.say(pipe, type="unsubscribe", topic_id="a")
    (left,) = [each for each in scene.owners.asked if isinstance(each, LeaveGroup)]
    assert pipe.session is not None and left.member == pipe.session.connection_id
    assert len(scene.hub.acknowledging.groups) == 0 and scene.topic.count == 0
    scene.hand(pipe, 1)
    assert pipe.seqs() == []


def test_a_new_owner_hears_what_members_hold_and_have_acknowledged_before_it_hears_of_the_topic() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, 1, 2, 3)
    scene.owners.go()
    scene.say(pipe, type="ack", topic_id="a", seq=1, id=7)
    assert pipe.frames("ok") == []
    at = len(scene.owners.asked)
    scene.owners.come()
    (join,) = scene.heard(JoinGroup)
    assert (join.held, join.done, join.group) == ([2, 3], [1], "w")
    assert next(type(each) for each in scene.owners.asked[at:] if isinstance(each, JoinGroup | Attach)) is JoinGroup
    assert [(ask.seqs, ask.stored) for ask in scene.heard(GroupAck)] == [([1], True)]
    assert pipe.frames("ok") == [{"type": "ok", "id": 7}]


def test_an_owner_that_does_not_know_a_member_hears_of_it_again() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, 1)
    scene.refuses = True
    scene.say(pipe, type="ack", topic_id="a", seq=1)
    scene.pass_time(1.5)
    scene.refuses = False
    scene.pass_time(1.5)
    (join,) = scene.heard(JoinGroup)
    assert (join.held, join.done) == ([], [1])
    scene.pass_time(3.0)
    assert scene.heard(JoinGroup) == []


def test_too_many_frames_with_an_id_may_not_wait() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, *range(1, 301))
    scene.owners.go()
    for seq in range(1, 301):
        scene.now += 1.0
        scene.say(pipe, type="ack", topic_id="a", seq=seq, id=seq)
    assert {frame["code"] for frame in pipe.frames("error")} == {"not_ready"}
    assert len(pipe.frames("error")) == 300 - 256
    scene.owners.come()
    assert scene.heard(JoinGroup)[0].done == list(range(1, 301))
