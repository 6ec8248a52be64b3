"""What a canary makes of each message: in time, late, lost, found after all, repeated, in disorder."""

from headgate.cli import canary_tally
from headgate.cli.canary_tally import Arrival, CanaryTally


def tally() -> CanaryTally:
    return CanaryTally(late_s=1.0, lost_s=10.0)


def test_a_message_in_time_and_one_that_is_late() -> None:
    judge = tally()
    judge.sent(1, 100.0)
    judge.accepted(1)
    judge.sent(2, 100.0)
    assert judge.came(1, "t", 7, 1, 101.0) == Arrival(seconds=1.0)
    assert judge.came(2, "t", 7, 2, 101.5) == Arrival(seconds=1.5, late=True)
    assert judge.give_up(200.0) == 0


def test_an_accepted_message_that_does_not_come_is_lost_once_and_not_a_moment_before() -> None:
    judge = tally()
    judge.sent(1, 100.0)
    judge.accepted(1)
    assert judge.oldest == 100.0
    assert judge.give_up(109.9) == 0
    assert judge.give_up(110.0) == 1
    assert judge.give_up(999.0) == 0 and judge.oldest is None


def test_what_was_never_accepted_is_not_lost_whether_it_comes_or_not() -> None:
    judge = tally()
    judge.sent(1, 100.0)
    judge.sent(2, 100.0)
    assert judge.give_up(110.0) == 0
    assert judge.came(1, "t", 7, 1, 111.0) == Arrival(seconds=11.0, late=True)


def test_a_lost_message_that_comes_after_all_is_late_and_found() -> None:
    judge = tally()
    judge.sent(1, 100.0)
    judge.accepted(1)
    assert judge.give_up(110.0) == 1
    assert judge.came(1, "t", 7, 1, 112.0) == Arrival(seconds=12.0, late=True, found=True)
    assert judge.came(1, "t", 7, 1, 113.0) == Arrival(again=True)


def test_a_message_may_come_before_the_answer_to_its_publish() -> None:
    judge = tally()
    judge.sent(1, 100.0)
    assert judge.came(1, "t", 7, 1, 100.1) is not None
    judge.accepted(1)
    assert judge.give_up(200.0) == 0


def test_a_message_that_comes_again_is_repeated_under_its_seq_and_under_another() -> None:
    judge = tally()
    judge.sent(1, 100.0)
    judge.came(1, "t", 7, 1, 100.1)
    assert judge.came(1, "t", 7, 1, 100.2) == Arrival(again=True)
    assert judge.came(1, "t", 7, 2, 100.2) == Arrival(again=True)


def test_a_message_behind_a_later_one_of_its_topic_is_in_disorder() -> None:
    judge = tally()
    for number in range(1, 5):
        judge.sent(number, 100.0)
    assert judge.came(2, "t", 7, 2, 100.1) == Arrival(seconds=100.1 - 100.0)
    behind = judge.came(1, "t", 7, 1, 100.1)
    assert behind is not None and behind.disordered
    other_topic, other_epoch = judge.came(3, "u", 7, 1, 100.1), judge.came(4, "t", 8, 1, 100.1)
    assert other_topic is not None and not other_topic.disordered
    assert other_epoch is not None and not other_epoch.disordered


def test_after_a_new_beginning_what_comes_again_says_nothing() -> None:
    judge = tally()
    judge.sent(1, 100.0)
    judge.came(1, "t", 7, 1, 100.1)
    judge.begin_again()
    assert judge.came(1, "t", 7, 1, 100.2) is None
    assert judge.came(99, "t", 7, 2, 100.2) is None


def test_what_is_remembered_is_bounded() -> None:
    judge = CanaryTally(late_s=1.0, lost_s=1.0)
    for number in range(2 * canary_tally.REMEMBERED):
        judge.sent(number, float(number))
        judge.accepted(number)
        if number % 2:
            judge.came(number, "t", 7, number, float(number))
    assert judge.give_up(1e9) == canary_tally.REMEMBERED
    for number in range(2 * canary_tally.REMEMBERED, 3 * canary_tally.REMEMBERED):
        judge.sent(number, 0.0)
        judge.came(number, "t", 7, number, 0.0)
    assert judge.came(1, "t", 7, 1, 1.0) is None, "the oldest are forgotten"
    assert judge.came(3 * canary_tally.REMEMBERED - 1, "t", 7, 1, 1.0) == Arrival(again=True)
