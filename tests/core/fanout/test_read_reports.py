"""Read marks on their way: resolved, stored and told, once a second, at once where somebody waits or a session ends."""

from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout import read_reports
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link_inbox import MAX_MARKS
from headgate.core.wire.member_roles import Role
from tests.core.scene import Pipe, Scene


class ReadScene(Scene):
    """One topic, `a`, with members bob and eve."""

    def __init__(self, limits: Limits | None = None, messages: int = 9, **topic: Any) -> None:
        super().__init__(limits)
        self.members = {"bob": Role.MEMBER, "eve": Role.MEMBER}
        self.owners.create("a", members=self.members, **topic)
        self.marks = self.owners.marks
        if messages:
            self.publish("a", *range(messages))

    def read(self, pipe: Pipe, seq: int, **frame: Any) -> None:
        self.say(pipe, type="read", topic_id="a", seq=seq, **frame)
        self.turn()

    def lose(self, pipe: Pipe) -> None:
        assert pipe.session is not None
        self.hub.lost(pipe.session)
        self.turn()

    @property
    def reads(self) -> Any:
        return self.hub.audience.reads


def answered(pipe: Pipe) -> list[Any]:
    return [frame["id"] for frame in pipe.frames("ok")]


def test_with_an_id_it_is_stored_at_once_and_answered_when_it_is_in_the_log() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.slow = True
    scene.read(bob, 4, id=1)
    assert answered(bob) == [] and scene.reads.is_pending
    scene.owners.deliver()
    scene.turn()
    assert answered(bob) == []
    scene.owners.deliver()
    assert answered(bob) == [1] and not scene.reads.is_pending
    assert scene.marks.seq("bob", "a") == 4
    epoch = scene.owners.topics["a"].epoch
    assert [(told.topic_id, told.epoch, told.user_id, told.seq) for told in scene.marks.told] == [
        ("a", epoch, "bob", 4)
    ]


def test_without_an_id_at_most_one_a_second_goes_out_and_the_newest_wins() -> None:
    scene = ReadScene(Limits(control_per_s=1_000_000, control_burst=1_000_000), messages=1_000)
    bob = scene.socket("a")
    for seq in range(1, 1_001):
        scene.read(bob, seq)
        if seq % 100 == 0:
            scene.pass_time(0.25)
    assert 2 <= len(scene.marks.resolved) <= 4 and len(scene.marks.moves) == len(scene.marks.resolved)
    scene.pass_time(1.25)
    assert scene.marks.seq("bob", "a") == 1_000 and bob.frames("ok") == []
    moves = len(scene.marks.moves)
    scene.pass_time(5.0)
    scene.read(bob, 7)
    scene.pass_time(5.0)
    assert len(scene.marks.moves) == moves, "a lower mark changes nothing"


def test_what_comes_while_one_is_under_way_is_merged_behind_it() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.slow = True
    scene.read(bob, 2, id=1)
    for seq in (3, 4, 5):
        scene.read(bob, seq, id=seq)
    assert len(scene.marks.resolved) == 1
    scene.owners.slow = False
    scene.owners.deliver()
    scene.turn()
    assert answered(bob) == [1, 3, 4, 5]
    assert [ask.seq for ask in scene.marks.resolved] == [2, 5]


def test_a_seq_above_the_head_is_the_head_and_later_messages_can_be_read() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.read(bob, MAX_INTEGER, id=1)
    assert (scene.marks.seq("bob", "a"), answered(bob)) == (9, [1])
    scene.pass_time(3.0)
    assert len(scene.marks.moves) == 1
    scene.publish("a", "new")
    scene.read(bob, 10, id=2)
    assert (scene.marks.seq("bob", "a"), answered(bob)) == (10, [1, 2])
    scene.read(bob, 3, id=3)
    assert answered(bob) == [1, 2, 3] and len(scene.marks.moves) == 2


def test_a_session_or_subscription_that_ends_has_its_mark_stored_now() -> None:
    scene = ReadScene()
    bob, eve = scene.socket("a"), scene.socket("a", user="eve")
    scene.read(bob, 3)
    scene.read(eve, 4)
    scene.say(bob, type="unsubscribe", topic_id="a")
    scene.lose(eve)
    assert (scene.marks.seq("bob", "a"), scene.marks.seq("eve", "a")) == (3, 4)
    assert scene.reads._reads == {} and scene.reads._ended == {}


def test_the_mark_of_one_session_outlives_another_of_the_same_user() -> None:
    scene = ReadScene()
    phone, desk = scene.socket("a"), scene.socket("a")
    scene.read(phone, 3)
    scene.read(desk, 5)
    scene.lose(phone)
    assert scene.marks.seq("bob", "a") == 5 and scene.reads.has_read(desk.session, "a", 5)
    scene.lose(desk)
    assert scene.reads._reads == {}


def test_who_is_no_member_is_told_so_with_and_without_an_id() -> None:
    scene = ReadScene()
    cat = scene.socket("a", user="cat")
    scene.read(cat, 1, id="x")
    scene.read(cat, 2)
    scene.pass_time(1.25)
    errors = [(error.get("id"), error["code"], error["topic_id"]) for error in cat.frames("error")]
    assert errors == [("x", "topic_not_found", "a"), (None, "topic_not_found", "a")]
    assert scene.reads._reads == {} and not scene.reads.is_pending


def test_a_removed_member_hears_it_only_in_the_session_that_asked() -> None:
    scene = ReadScene()
    phone, desk = scene.socket("a"), scene.socket("a")
    scene.read(phone, 1, id=1)
    scene.read(desk, 2, id=2)
    del scene.members["bob"]
    scene.read(desk, 3)
    scene.pass_time(1.25)
    assert [error["code"] for error in desk.frames("error")] == ["topic_not_found"]
    assert phone.frames("error") == []


def test_an_ephemeral_topic_has_no_marks_and_one_that_is_not_followed_is_not_found() -> None:
    scene = ReadScene(messages=0, settings={"profile": "ephemeral"})
    bob = scene.socket("a")
    scene.read(bob, 1, id=1)
    scene.say(bob, type="read", topic_id="other", seq=1, id=2)
    scene.say(bob, type="read", topic_id="a", seq=-1, id=3)
    assert [(error["id"], error["code"]) for error in bob.frames("error")] == [
        (1, "not_in_profile"),
        (2, "not_found"),
        (3, "bad_request"),
    ]


def test_an_owner_away_costs_nothing_but_time() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.go()
    scene.read(bob, 3, id=1)
    scene.read(bob, 4)
    scene.pass_time(3.0)
    assert bob.frames("error") == [] and scene.reads.is_pending
    scene.owners.come()
    scene.pass_time(1.25)
    assert (answered(bob), scene.marks.seq("bob", "a")) == ([1], 4)


def test_a_users_owner_that_refuses_is_asked_again() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.marks.away = True
    scene.read(bob, 3, id=1)
    scene.pass_time(2.0)
    assert answered(bob) == [] and scene.marks.told == []
    scene.marks.away = False
    scene.pass_time(1.25)
    assert (answered(bob), scene.marks.seq("bob", "a"), len(scene.marks.told)) == ([1], 3, 1)


def test_the_users_owner_may_be_away_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    shard = scene.owners.shard_of_user("bob")
    assert shard != scene.owners.shard_of("a")
    linked = scene.owners.linked
    monkeypatch.setattr(scene.owners, "linked", lambda number: number != shard and linked(number))
    scene.read(bob, 3, id=1)
    scene.pass_time(2.0)
    assert answered(bob) == [] and scene.reads.is_pending
    monkeypatch.setattr(scene.owners, "linked", linked)
    scene.pass_time(1.25)
    assert answered(bob) == [1] and not scene.reads.is_pending


def test_frames_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_reports, "MAX_WAITING", 2)
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.go()
    for n in range(3):
        scene.read(bob, n + 1, id=n)
    assert [(error["id"], error["code"]) for error in bob.frames("error")] == [(2, "not_ready")]
    scene.owners.come()
    scene.pass_time(1.25)
    assert (answered(bob), scene.marks.seq("bob", "a")) == ([0, 1], 3)


def test_who_comes_and_goes_while_an_owner_is_away_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_reports, "MAX_WAITING", 3)
    scene = ReadScene()
    pipes = [scene.socket("a") for _ in range(5)]
    scene.owners.go()
    for n, pipe in enumerate(pipes):
        scene.read(pipe, n + 1)
        scene.read(pipe, n + 1, id=n)
        assert pipe.frames("error") == []
        scene.lose(pipe)
    (progress,) = scene.reads._reads.values()
    assert not progress.silent and not progress.sessions and len(progress.waiting) <= 3
    scene.owners.come()
    scene.pass_time(1.25)
    assert scene.marks.seq("bob", "a") == 5 and scene.reads._reads == {}


def test_marks_of_ended_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_reports, "MAX_ENDED", 2)
    scene = ReadScene()
    scene.members |= {f"u{n}": Role.MEMBER for n in range(4)}
    pipes = [scene.socket("a", user=f"u{n}") for n in range(4)]
    scene.owners.go()
    for pipe in pipes:
        scene.read(pipe, 1)
        scene.lose(pipe)
    scene.pass_time(1.25)
    scene.owners.come()
    scene.pass_time(1.25)
    assert [scene.marks.seq(f"u{n}", "a") for n in range(4)] == [None, None, 1, 1]
    assert scene.reads._reads == {} and not scene.reads.is_pending


def test_who_comes_back_before_his_mark_is_stored_goes_on_with_it() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.go()
    scene.read(bob, 3)
    scene.lose(bob)
    again = scene.socket("a")
    assert scene.marks.moves == [] and len(scene.reads._ended) == 1
    scene.owners.come()
    scene.say(again, type="read", topic_id="a", seq=1, id=1)
    scene.turn()
    assert (answered(again), scene.marks.seq("bob", "a")) == ([1], 3), "of two marks of one epoch the higher"
    assert len(scene.reads._reads) == 1 and scene.reads._ended == {}


def test_a_mark_of_a_topic_that_was_recreated_reads_nothing_of_the_new_one() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.slow = True
    scene.read(bob, 9, id=1)
    scene.owners.slow = False
    ((_, held),) = scene.owners._link
    scene.owners.topics.pop("a")
    scene.owners.create("a", members=scene.members)
    scene.publish("a", *range(9))
    scene.owners.deliver()
    scene.turn()
    assert held.epoch != scene.owners.topics["a"].epoch
    assert scene.marks.seq("bob", "a") in (None, 9)
    bob2 = scene.socket("a")
    scene.read(bob2, 2, id=2)
    mark = scene.marks.marks["bob", "a"]
    assert (mark.epoch, mark.seq) == (scene.owners.topics["a"].epoch, 2)


def test_what_was_read_of_the_topic_before_is_not_read_of_the_new_one() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.go()
    scene.read(bob, 9, id=1)
    scene.lose(bob)
    scene.owners.topics.pop("a")
    scene.owners.create("a", members=scene.members)
    again = scene.socket("a")
    scene.owners.come()
    scene.publish("a", *range(9))
    scene.read(again, 2, id=2)
    assert (answered(again), scene.marks.seq("bob", "a")) == ([2], 2)


def test_an_answer_of_another_epoch_is_the_end_of_the_mark() -> None:
    scene = ReadScene()
    bob = scene.socket("a")
    scene.owners.lose = True  # the end of the old topic is not heard of
    scene.owners.topics.pop("a")
    scene.owners.create("a", members=scene.members)
    scene.read(bob, 9, id=1)
    assert [error["code"] for error in bob.frames("error")] == ["topic_not_found"]
    assert scene.marks.moves == [] and scene.reads._reads == {}


def test_many_marks_make_few_messages() -> None:
    scene = ReadScene()
    users = [f"u{n}" for n in range(2 * MAX_MARKS)]
    scene.members |= dict.fromkeys(users, Role.MEMBER)
    for user in users:
        scene.say(scene.socket("a", user=user), type="read", topic_id="a", seq=1)
    scene.pass_time(1.25)
    assert all(scene.marks.seq(user, "a") == 1 for user in users)
    assert len(scene.marks.moves) <= 4 and all(len(move.marks) <= MAX_MARKS for move in scene.marks.moves)
    assert all(scene.owners.shard_of_user(mark.user_id) == m.shard for m in scene.marks.moves for mark in m.marks)


def test_read_counts_as_a_control_frame() -> None:
    scene = ReadScene(Limits(control_burst=3, control_per_s=0.001))
    bob = scene.socket("a")
    for seq in range(5):
        scene.read(bob, seq)
    assert [error["code"] for error in bob.frames("error")] == ["rate_limited"] * 2
