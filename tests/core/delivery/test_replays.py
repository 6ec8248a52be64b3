"""Replayed dead letters: each by its own number, retried by the policy, and bounded."""

from headgate.core.delivery.ack_window import NO_ANSWER, Failure, Ignored
from headgate.core.delivery.replays import REPLAYS, Replays
from headgate.core.delivery.retry import fixed


def test_a_replay_is_sent_once_and_done_with_its_own_ack() -> None:
    replays = Replays(fixed(max_attempts=3, delay=1.0))
    assert replays.add(7, "letter")
    assert not replays.add(7, "letter")
    assert (replays.ready(0.0), replays.send(7, 0.0), replays.send(7, 0.0)) == ([7], 1, 0)
    assert replays.ack(8) is None
    assert replays.ack(7) == "letter"
    assert (7 in replays, len(replays), replays.due(0.0)) == (False, 0, None)
    assert replays.send(7, 0.0) == 0


def test_a_refused_replay_comes_again_and_is_given_up_after_the_last_attempt() -> None:
    replays = Replays(fixed(max_attempts=2, delay=1.0))
    replays.add(7, "letter")
    assert replays.nack(7, "x", 0.0) is Ignored.DONE  # it was not sent
    replays.send(7, 0.0)
    assert replays.nack(7, "busy", 0.5) == Failure(7, 1, "busy", False, 1.0)
    assert (replays.ready(1.4), replays.due(0.5)) == ([], 1.5)
    assert (replays.ready(1.5), replays.send(7, 1.5)) == ([7], 2)
    assert replays.nack(7, "no", 1.6) == Failure(7, 2, "no", True)
    assert replays.giving_up() == [Failure(7, 2, "no", True)]
    assert replays.ack(7) is None
    replays.remove(7)
    assert (7 in replays, replays.giving_up()) == (False, [])


def test_without_an_ack_it_is_ready_again() -> None:
    replays = Replays(fixed(max_attempts=3, delay=1.0))
    replays.add(7, "letter")
    replays.send(7, 0.0)
    assert (replays.visit(0.9), replays.due(0.9)) == ([], 1.0)
    assert replays.visit(1.0) == [Failure(7, 1, NO_ANSWER, False)]
    assert (replays.visit(1.0), replays.ready(1.0)) == ([], [7])
    assert replays.ack(7) == "letter"


def test_there_is_a_bound_and_it_is_noted_that_others_wait() -> None:
    replays = Replays(fixed())
    for seq in range(REPLAYS):
        assert replays.add(seq, "x")
    assert not replays.turned_away
    assert not replays.add(REPLAYS, "x")
    assert replays.turned_away
