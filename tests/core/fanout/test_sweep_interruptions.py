"""What may happen while a sweep runs: sessions come and go, messages change, rights are lost, the topic ends."""

import pytest

from headgate.core.wire.frames import message_frame
from headgate.core.wire.link_messages import Amended
from headgate.core.wire.member_roles import Role
from tests.core.fanout.sweeping import SweepScene, served, subscription

BIG = "x" * 1_000


def test_who_leaves_or_unsubscribes_while_a_sweep_runs_gets_nothing_more() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    rest = [pipe for pipe in pipes if not pipe.frames("message")]
    assert rest[0].session is not None
    scene.hub.lost(rest[0].session)
    scene.say(rest[1], type="unsubscribe", topic_id="a")
    scene.turn()
    assert served(rest) == [0, 0, 1, 1] and scene.numbers.deliveries == {"durable": 4}


def test_who_is_parked_before_his_turn_continues_from_before_the_message() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    first, last = (next(p for p in pipes if bool(p.frames("message")) is got) for got in (True, False))
    for pipe in (first, last):
        assert pipe.session is not None
        scene.hub.catchup.park(pipe.session, scene.now)
    assert (subscription(first).cursor, subscription(last).cursor) == (1, 0)
    scene.turn()
    assert (served([first]), served([last])) == ([1], [0])
    for pipe in (first, last):
        assert pipe.session is not None
        scene.hub.resume(pipe.session, scene.moment)
    assert served(pipes) == [1] * 6 and scene.numbers.deliveries == {"durable": 6}


def test_a_socket_that_fills_up_in_a_sweep_is_parked_behind_the_message() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    pipes[3].stuck = True
    for n in range(200):
        scene.publish("a", BIG + str(n))
        scene.turn()
    assert pipes[3].paused and scene.feed().in_step == 5
    pipes[3].stuck = False
    pipes[3].drain()
    scene.turn()
    assert all(pipe.seqs() == list(range(1, 201)) for pipe in pipes) and scene.feed().in_step == 6


@pytest.mark.parametrize(("form", "expected"), [("live", [2]), ("seq:0", [1, 2])])
def test_who_comes_while_a_sweep_runs_gets_each_message_once(form: str, expected: list[int]) -> None:
    scene = SweepScene()
    scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    late = scene.socket("a", form=form)
    scene.publish("a", 2)
    scene.turn()
    assert late.seqs() == expected


def test_a_subscriber_that_waits_for_the_sweep_is_caught_up_behind_it() -> None:
    scene = SweepScene()
    scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    scene.publish("a", 2)
    late = scene.socket("a", form="seq:0")
    assert late.frames("caught_up") == []
    scene.turn()
    assert late.seqs() == [1, 2] and late.frames("caught_up")[0]["seq"] == 2


def test_a_second_topic_of_a_session_changes_nothing_for_a_sweep() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.owners.create("b")
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    for pipe in pipes:
        scene.follow(pipe, "b")
    scene.publish("b", 1)
    scene.turn()
    assert all([f["topic_id"] for f in pipe.frames("message")].count("a") == 1 for pipe in pipes)
    assert served(pipes) == [2] * 6
    scene.publish("a", 2)
    scene.turn()
    assert served(pipes) == [3] * 6


def amended(scene: SweepScene, seq: int, payload: bytes, *, redacted: bool = False) -> Amended:
    tail = b'"message_id":"m","publisher_id":"p","payload":%b}' % payload
    return Amended("a", scene.feed().epoch, seq, message_frame("a", seq, 1, tail), redacted)


@pytest.mark.parametrize("kind", ["edited", "redacted"])
def test_who_has_not_got_a_message_that_is_changed_gets_it_as_it_is_now(kind: str) -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", "secret")
    scene.slice()
    scene.hub.on_push(1, amended(scene, 1, b"null" if kind == "redacted" else b'"new"', redacted=kind == "redacted"))
    scene.turn()
    got = [pipe.frames("message")[0]["payload"] for pipe in pipes]
    assert got.count("secret") == 2 and got.count(None if kind == "redacted" else "new") == 4


def test_a_redaction_that_the_gateway_has_no_frame_of_blanks_what_is_on_its_way() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", "secret")
    scene.slice()
    scene.hub.on_push(1, Amended("a", scene.feed().epoch, 1, b"", True))
    scene.turn()
    assert [pipe.frames("message")[0]["payload"] for pipe in pipes].count("secret") == 2


def test_who_loses_his_right_while_a_sweep_runs_gets_what_came_before_and_nothing_after() -> None:
    scene = SweepScene()
    names = [f"u{n}" for n in range(6)]
    scene.owners.create("a", permissions="PRIVATE", members=dict.fromkeys(names, Role.MEMBER))
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    rest = [pipe for pipe in pipes if not pipe.frames("message")]
    scene.publish("a", 2)
    assert rest[0].session is not None and rest[0].session.caller is not None
    scene.owners.remove("a", rest[0].session.caller.user_id)
    scene.publish("a", 3)
    assert rest[0].seqs() == [1, 2] and rest[0].frames()[-1]["type"] == "unsubscribed"
    assert served(rest[1:]) == [0, 0, 0], "the sweep goes on, in slices"
    scene.turn()
    assert all(pipe.seqs() == [1, 2, 3] for pipe in pipes if pipe is not rest[0]) and rest[0].seqs() == [1, 2]


def test_a_fence_holds_one_above_the_others_and_takes_no_message_out_of_the_next_sweep() -> None:
    scene = SweepScene()
    names = [f"u{n}" for n in range(6)]
    scene.owners.create("a", permissions="PRIVATE", members=dict.fromkeys(names, Role.MEMBER))
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    writes = [pipe.writes for pipe in pipes]
    for n in (2, 3):
        scene.publish("a", n)
        scene.owners.demote("a", "u5", Role.MEMBER)
        assert pipes[5].seqs() == [1, 2], "he is above the others, and waits for them"
    assert len(scene.hub.sweeps._running[scene.feed()].pieces) == 1
    scene.publish("a", 4)
    scene.turn()
    scene.pass_time(1)
    assert all(pipe.seqs() == [1, 2, 3, 4] for pipe in pipes) and scene.feed().in_step == 6
    assert sum(pipe.writes - before for pipe, before in zip(pipes, writes, strict=True)) <= 4 + 6 + 3
    assert scene.numbers.deliveries == {"durable": 24}


def test_very_many_that_a_fence_holds_continue_where_each_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.fanout.fence_holds.BROUGHT_UP", 3)
    scene = SweepScene()
    names = [f"u{n}" for n in range(6)]
    scene.owners.create("a", permissions="PRIVATE", members=dict.fromkeys(names, Role.MEMBER))
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    scene.owners.permit("a", "RESTRICTED")
    scene.publish("a", 2)
    scene.turn()
    scene.pass_time(2)
    assert all(pipe.seqs() == [1, 2] for pipe in pipes)


def test_the_end_of_a_topic_comes_behind_its_sweep_in_slices() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    scene.publish("a", 2)
    scene.owners.delete("a")
    assert "a" not in scene.hub.feeds and not any(pipe.frames("unsubscribed") for pipe in pipes)
    scene.turn()
    assert all(pipe.seqs() == [1, 2] for pipe in pipes)
    assert all(pipe.frames()[-1]["reason"] == "deleted" for pipe in pipes)
    assert scene.hub.subscription_count == 0 and scene.is_quiet


def test_a_recreated_topic_is_followed_while_the_old_one_ends() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", "old")
    scene.owners.delete("a")
    scene.owners.create("a")
    late = scene.socket("a", user="late")
    scene.publish("a", "new")
    scene.turn()
    assert [f["payload"] for f in late.frames("message")] == ["new"]
    assert all([f["payload"] for f in pipe.frames("message")] == ["old"] for pipe in pipes)
    assert scene.hub.subscription_count == 1 and not late.frames("unsubscribed")
