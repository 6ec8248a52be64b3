"""Dead letters are asked for until they are written, and once at a time."""

from tests.core.fanout.acking import AckScene, got


def test_one_question_is_under_way_at_a_time_and_a_refused_one_is_asked_again() -> None:
    scene = AckScene(retry={"max_attempts": 1})
    bob = scene.acker()
    scene.send(1, 2)
    scene.owners.slow = True
    scene.nack(bob, 1)
    scene.pass_time(3.0)  # 2 is given up for want of an acknowledgement
    assert [letter.seq for letter in scene.cursors.letters] == [1, 2]
    scene.owners.slow = False
    scene.owners.deliver()
    scene.pass_time(2.0)
    assert ([letter.seq for letter in scene.cursors.letters], scene.cursors.seq("bob", "a")) == ([1, 2], 2)


def test_while_the_owner_is_away_nothing_is_lost() -> None:
    scene = AckScene(retry={"max_attempts": 1})
    bob = scene.acker()
    scene.send(1)
    scene.owners.go()
    scene.nack(bob, 1)
    scene.pass_time(5.0)
    assert scene.cursors.letters == []
    scene.owners.come()
    scene.pass_time(1.25)
    assert [letter.seq for letter in scene.cursors.letters] == [1]
    assert got(bob) == [(1, 1)]


def test_the_next_session_asks_again_for_what_was_not_answered() -> None:
    scene = AckScene(retry={"max_attempts": 1})
    bob = scene.acker()
    scene.send(1, 2)
    scene.cursors.away = True
    scene.nack(bob, 1)
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.cursors.away = False
    scene.pass_time(2.0)
    assert scene.cursors.letters == []
    again = scene.acker()
    assert [(letter.seq, letter.attempts) for letter in scene.cursors.letters] == [(1, 1)]
    assert got(again) == [(2, 1)]


def test_a_replay_that_begins_before_the_answer_does_not_keep_the_cursor_from_passing() -> None:
    scene = AckScene(retry={"max_attempts": 1})
    bob = scene.acker()
    scene.send(1)
    scene.owners.slow = True
    scene.nack(bob, 1)
    scene.owners.slow = False
    scene.cursors.redeliver("a", scene.topic.epoch, 1, "bob", "letter", scene.topic.frames[0])
    scene.owners.deliver()
    assert got(bob) == [(1, 1), (1, 1)]
    scene.ack(bob, 1)
    assert scene.cursors.done == ["letter"]
    scene.pass_time(1.25)
    assert scene.cursors.seq("bob", "a") == 1
