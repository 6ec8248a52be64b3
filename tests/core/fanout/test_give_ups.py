"""Dead letters are asked for until they are written, and once at a time."""

import pytest

from headgate.core.fanout import give_ups
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


def test_what_is_refused_is_asked_again_at_a_bounded_rate_and_all_of_it_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the dead-letter log is away every window may be full of messages that are given up."""
    monkeypatch.setattr(give_ups, "ASKED_AGAIN", 4)
    scene = AckScene(retry={"max_attempts": 1})
    pipes = [scene.acker(f"u{n}") for n in range(6)]
    scene.send(1, 2)
    scene.cursors.away = True
    for pipe in pipes:
        scene.nack(pipe, 1)
        scene.nack(pipe, 2)
    asked = scene.cursors.refused_letters
    scene.pass_time(1.25)
    assert 0 < scene.cursors.refused_letters - asked <= 2 * 4
    scene.cursors.away = False
    scene.pass_time(4.5)
    assert sorted((letter.receiver.user_id, letter.seq) for letter in scene.cursors.letters) == [
        (f"u{n}", seq) for n in range(6) for seq in (1, 2)
    ]
    assert all(scene.cursors.seq(f"u{n}", "a") == 2 for n in range(6))
