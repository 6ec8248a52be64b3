"""A member of a group at the gateway: what is written when, what an acknowledgement is for, and what a fence holds."""

from typing import Any

import pytest

from headgate.core.wire.link_messages import Amended
from tests.core.fanout.grouping_scene import GroupScene


def test_a_member_gets_what_the_owner_hands_it_and_nothing_of_the_feed() -> None:
    scene = GroupScene()
    pipe, plain = scene.member(), scene.socket("a")
    scene.publish("a", 1, 2)
    scene.turn()
    scene.pass_time(3.0)
    assert (plain.seqs(), pipe.seqs()) == ([1, 2], [])
    scene.hand(pipe, 2, 1)
    assert pipe.seqs() == [2, 1]
    assert scene.numbers.deliveries == {"durable": 4} and scene.numbers.again == 0
    scene.hand(pipe, 2, attempt=2, again=1)
    assert pipe.frames("message")[-1]["attempt"] == 2 and scene.numbers.again == 1


def test_gaps_come_before_and_caught_up_behind_the_messages() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, 5, lost=(2, 4), caught_up=5)
    assert [frame["type"] for frame in pipe.frames()][-3:] == ["gap", "message", "caught_up"]
    gap, caught_up = pipe.frames("gap")[0], pipe.frames("caught_up")[0]
    assert (gap["from_seq"], gap["to_seq"], gap["reason"], caught_up["seq"]) == (2, 4, "retention", 5)
    assert scene.numbers.gaps == {"retention": 3}


@pytest.mark.parametrize("place", ["earliest", {"seq": 0}, {"last": 0}])
def test_caught_up_comes_from_the_owner_alone(place: Any) -> None:
    scene = GroupScene()
    pipe = scene.member(**{"from": place})
    scene.pass_time(3.0)
    assert pipe.frames("caught_up") == []
    scene.hand(pipe, is_empty=True)
    assert [frame["seq"] for frame in pipe.frames("caught_up")] == [0]


def test_an_acknowledgement_is_for_the_message_and_for_lower_ones_written_before_it() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.hand(pipe, 2, 5, 9, 4)
    assert pipe.session is not None
    member = scene.hub.acknowledging.groups._members["a", pipe.session.connection_id]
    assert member.acknowledge(9) == [2, 5, 9]
    assert member.acknowledge(9) == [] and member.acknowledge(3) == []
    assert list(member.in_hand) == [4]
    scene.hand(pipe, 4, 6, attempt=2)
    assert member.acknowledge(4) == [4]
    assert member.holds() == [6]


def test_a_full_socket_holds_what_is_written_when_it_takes_bytes_again_and_redactions_reach_it() -> None:
    scene = GroupScene()
    pipe = scene.member()
    pipe.stuck = True
    scene.hand(pipe, *range(1, 1_500))
    assert pipe.paused
    scene.hand(pipe, 1_500, 1_501)
    assert 1_500 not in pipe.seqs()
    scene.on_push(1, Amended("a", scene.topic.epoch, 1_500, b"", True))
    pipe.stuck = False
    pipe.drain()
    last = {frame["seq"]: frame for frame in pipe.frames("message")[-2:]}
    assert last[1_500]["payload"] is None and last[1_500]["redacted"]
    assert last[1_501]["payload"] == 1_501


def test_a_fence_holds_messages_until_the_right_is_certain() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.owners.slow = True
    scene.owners.permit("a", "PRIVATE")
    scene.owners.topics["a"].permissions = "PUBLIC"
    scene.owners.deliver(1)
    scene.hand(pipe, 1)
    assert pipe.seqs() == []
    scene.owners.deliver()
    assert pipe.seqs() == [1]
    scene.hand(pipe, 2)
    assert pipe.seqs() == [1, 2]


def test_who_loses_the_right_gets_nothing_more() -> None:
    scene = GroupScene()
    pipe = scene.member()
    scene.owners.permit("a", "PRIVATE")
    scene.hand(pipe, 1)
    assert pipe.seqs() == [] and pipe.frames("unsubscribed")[0]["reason"] == "forbidden"
