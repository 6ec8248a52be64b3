"""The window of an acknowledged subscription: acks, nacks, timeouts, the order of what comes again, and the bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.delivery.ack_window import NO_ANSWER, AckWindow, Failure, Ignored, Sending
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.retry import BackoffPolicy, fixed, linear

EVERY_SECOND = fixed(max_attempts=3, delay=1.0)


def window(acked: int = 0, policy: BackoffPolicy = EVERY_SECOND, failures: int = 100, size: int = 256) -> AckWindow:
    return AckWindow(acked, policy, BreakerPolicy(failures, open_s=30.0), size)


def sent(w: AckWindow, last: int, now: float = 0.0) -> list[tuple[int, int]]:
    """Sends what may be sent, up to `last`; returns (seq, attempt) of what was written."""
    return [(each.seq, each.attempt) for each in w.send(min(w.limit(now), last), now)]


def test_new_messages_are_sent_once_and_cost_no_entry() -> None:
    w = window(10)
    assert sent(w, 13) == [(11, 1), (12, 1), (13, 1)]
    assert sent(w, 13) == []
    assert w.send_new(14, 0.0)
    assert (w.acked, w.sent, w.next, w.in_flight, w.is_plain) == (10, 14, 15, 4, True)
    assert w.ack(12, 0.5)
    assert (w.acked, w.in_flight, w.above(), w.attempts()) == (12, 2, [], [])


def test_messages_that_were_not_sent_after_all_come_as_new() -> None:
    w = window()
    w.send_new(3, 0.0)
    w.send_new(6, 0.0)
    w.take_back(4)
    assert (w.in_flight, sent(w, 6)) == (3, [(4, 1), (5, 1), (6, 1)])


def test_the_window_is_bounded_and_an_ack_makes_room() -> None:
    w = window()
    assert w.limit(0.0) == 256
    assert not w.send_new(257, 0.0)
    assert w.send_new(256, 0.0)
    assert w.limit(0.0) == 256
    w.ack(100, 0.0)
    assert w.limit(0.0) == 356
    assert sent(w, 1_000) == [(seq, 1) for seq in range(257, 357)]


def test_an_ack_above_what_was_sent_counts_up_to_it_and_an_old_one_changes_nothing() -> None:
    w = window()
    sent(w, 5)
    assert w.ack(9, 0.0)
    assert (w.acked, w.next) == (5, 6)
    assert not w.ack(5, 0.0)
    assert not w.ack(3, 0.0)


def test_a_nack_holds_the_line_and_what_is_not_acknowledged_behind_it_comes_again_in_order() -> None:
    w = window()
    sent(w, 6)
    assert w.nack(3, "busy", 1.0) == Failure(3, 1, "busy", False)
    assert w.limit(1.5) == 2
    assert not w.send_new(7, 1.5)
    assert sent(w, 8, 1.5) == []
    assert w.ack(5, 1.5)  # of 1, 2, 4 and 5
    assert (w.acked, w.above(), w.attempts()) == (2, [4, 5], [(3, 1)])
    assert w.due(1.5) == 2.0
    assert sent(w, 8, 2.0) == [(3, 2), (6, 2), (7, 1), (8, 1)]
    assert w.ack(3, 2.5)
    assert (w.acked, w.above()) == (5, [])
    assert w.ack(8, 2.5)
    assert (w.acked, w.is_plain) == (8, True)


def test_an_ack_of_the_refused_message_itself_counts() -> None:
    w = window()
    sent(w, 4)
    w.nack(3, "busy", 0.0)
    assert w.ack(3, 0.1)
    assert w.acked == 3
    assert sent(w, 4, 0.1) == [(4, 2)]


def test_a_refused_message_is_acknowledged_with_others_once_it_came_again() -> None:
    w = window()
    sent(w, 4)
    w.nack(2, "busy", 0.0)
    sent(w, 6, 1.0)
    assert w.ack(4, 1.1)  # who sends this may not have seen the message again: 4 was there before it
    assert (w.acked, w.above()) == (1, [3, 4])
    assert w.ack(5, 1.2)  # and 5 came behind it
    assert (w.acked, w.is_plain) == (5, True)


def test_a_refusal_after_the_timeout_counts_and_is_not_lost_in_an_acknowledgement_of_others() -> None:
    w = window()
    sent(w, 4)
    assert w.visit(1.0) is not None  # 1 has failed for want of an answer, and was not sent again yet
    assert w.nack(1, "busy", 1.1) is Ignored.DONE
    assert w.ack(4, 1.2)
    assert (w.acked, w.above()) == (0, [2, 3, 4])
    assert sent(w, 4, 1.3) == [(1, 2)]
    assert w.ack(1, 1.4)
    assert (w.acked, w.is_plain) == (4, True)


def test_two_refused_messages_come_again_in_order_each_when_it_is_due() -> None:
    w = window(policy=linear(max_attempts=5, step=1.0))
    sent(w, 4)
    w.nack(2, "x", 0.0)
    sent(w, 4, 1.0)
    w.nack(2, "x", 1.0)  # due at 3.0
    w.nack(3, "x", 2.5)  # due at 3.5
    assert sent(w, 4, 2.9) == []
    assert sent(w, 4, 3.0) == [(2, 3)]
    assert w.due(3.0) == 3.5
    assert sent(w, 4, 3.5) == [(3, 3), (4, 3)]  # 3 was sent with 2 before
    assert w.attempts() == [(2, 2), (3, 1)]


def test_without_an_ack_the_whole_window_comes_again_and_only_the_oldest_has_failed() -> None:
    w = window()
    sent(w, 3)
    sent(w, 4, 0.9)  # a later message does not put the timeout off
    assert w.due(0.9) == 1.0
    assert w.visit(0.99) is None
    assert w.visit(1.0) == Failure(1, 1, NO_ANSWER, False)
    assert w.due(1.0) is None
    assert sent(w, 5, 1.0) == [(1, 2), (2, 2), (3, 2), (4, 2), (5, 1)]
    assert w.attempts() == [(1, 1)]
    assert w.due(1.0) == 2.0


def test_the_timeout_counts_from_the_last_ack() -> None:
    w = window()
    sent(w, 3)
    w.ack(1, 0.9)
    assert w.due(0.9) == pytest.approx(1.9)
    assert w.visit(1.5) is None
    w.ack(3, 1.8)
    assert w.due(1.8) is None


def test_an_ack_after_the_timeout_counts_and_nothing_comes_again() -> None:
    w = window()
    sent(w, 3)
    w.visit(1.0)
    assert w.ack(3, 1.1)
    assert (w.acked, w.next, w.is_plain) == (3, 4, True)


def test_a_nack_after_the_timeout_is_the_same_failure() -> None:
    w = window()
    sent(w, 3)
    w.visit(1.0)
    assert w.nack(1, "late", 1.1) is Ignored.DONE
    assert w.attempts() == [(1, 1)]


def test_after_the_last_attempt_the_message_waits_for_its_dead_letter_and_holds_nobody() -> None:
    w = window(policy=fixed(max_attempts=2, delay=1.0))
    sent(w, 3)
    w.nack(1, "no", 0.0)
    assert sent(w, 3, 1.0) == [(1, 2), (2, 2), (3, 2)]
    assert w.nack(1, "never", 1.5) == Failure(1, 2, "never", True)
    assert w.giving_up() == [Failure(1, 2, "never", True)]
    assert sent(w, 4, 1.5) == [(4, 1)]
    assert w.nack(1, "again", 1.5) is Ignored.DONE
    assert w.ack(4, 1.6)
    assert (w.acked, w.above()) == (0, [2, 3, 4])
    assert not w.given_up(2, 1.7)
    assert w.given_up(1, 1.7)
    assert (w.acked, w.giving_up(), w.is_plain) == (4, [], True)
    assert not w.given_up(1, 1.8)


def test_a_single_attempt_is_given_up_by_its_timeout() -> None:
    w = window(policy=fixed(max_attempts=1, delay=1.0))
    sent(w, 2)
    assert w.visit(1.0) == Failure(1, 1, NO_ANSWER, True)
    assert w.due(1.0) == 2.0  # the next oldest has its own time
    assert w.visit(2.0) == Failure(2, 1, NO_ANSWER, True)
    assert w.due(2.0) is None


def test_a_nack_of_what_is_not_in_flight_changes_nothing() -> None:
    w = window()
    sent(w, 3)
    w.ack(1, 0.0)
    assert w.nack(1, "x", 0.0) is Ignored.DONE
    assert w.nack(4, "x", 0.0) is Ignored.NOT_SENT
    assert w.is_plain


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_message_through() -> None:
    w = window(policy=fixed(max_attempts=100, delay=0.5), failures=3)
    sent(w, 4)
    w.nack(1, "x", 0.0)
    w.nack(2, "x", 0.0)
    w.ack(3, 0.0)  # a success begins the row again
    for at in (0.1, 0.7, 1.3):
        assert not w.is_open
        sent(w, 4, at + 0.5)
        w.nack(4, "x", at + 0.5)
    assert w.is_open
    assert w.limit(5.0) == w.next - 1
    assert w.due(5.0) == pytest.approx(31.8)
    assert w.visit(31.0) is None
    assert w.visit(31.8) is None
    assert not w.is_open
    assert [seq for seq, _ in sent(w, 9, 31.8)] == [1]
    assert sent(w, 9, 31.8) == []
    assert w.visit(32.3) == Failure(1, 2, NO_ANSWER, False)  # the probe fails: open again
    assert w.is_open
    w.visit(62.3)
    assert [seq for seq, _ in sent(w, 9, 62.3)] == [1]
    w.ack(1, 62.4)
    assert [seq for seq, _ in sent(w, 9, 62.4)] == [2, 4, 5, 6, 7, 8, 9]


def test_the_breaker_counts_timeouts_and_an_ack_of_the_probe_closes_it() -> None:
    w = window(policy=fixed(max_attempts=100, delay=1.0), failures=2)
    sent(w, 2)
    w.visit(1.0)
    sent(w, 2, 1.0)
    w.visit(2.0)
    assert w.is_open
    w.lose(1, 3.0)
    w.visit(32.0)
    assert sent(w, 5, 32.0) == [(2, 3)]
    w.lose(2, 32.1)  # the probe is gone: another one
    assert sent(w, 5, 32.1) == [(3, 1)]
    w.ack(3, 32.2)
    assert sent(w, 5, 32.2) == [(4, 1), (5, 1)]


def test_what_is_kept_no_longer_is_passed() -> None:
    w = window()
    sent(w, 4)
    w.nack(2, "x", 0.0)
    w.ack(4, 0.0)
    w.lose(3, 0.1)
    assert (w.acked, w.next, w.is_plain) == (4, 5, True)
    w.lose(20, 0.2)
    assert (w.acked, w.sent, w.next) == (20, 20, 21)
    w.lose(5, 0.2)
    assert w.acked == 20


def test_a_window_continues_where_another_was() -> None:
    w = window(10)
    w.restore([12, 14, 10, 600], [(11, 1), (13, 3), (5, 1)])
    assert (w.acked, w.above(), w.attempts()) == (10, [12, 14], [(11, 1), (13, 3)])
    assert w.giving_up() == [Failure(13, 3, "", True)]  # the other window had given it up
    assert sent(w, 16) == [(11, 2), (15, 1), (16, 1)]
    assert w.attempts() == [(11, 1), (13, 3)]
    w.given_up(13, 0.0)
    assert w.ack(11, 0.0)
    assert w.acked == 14
    done = window(10)
    done.restore([11, 12], [])
    assert (done.acked, done.sent, done.next, done.is_plain) == (12, 12, 13, True)


def test_a_new_policy_counts_from_the_next_failure() -> None:
    w = window()
    sent(w, 1)
    w.policy = fixed(max_attempts=1)
    failure = w.nack(1, "x", 0.0)
    assert isinstance(failure, Failure)
    assert failure.given_up


class Checked:
    """A window and what must hold of it: nothing acknowledged comes again, runs are in order, attempts count."""

    def __init__(self, failures: int, attempts: int) -> None:
        self.window = window(policy=fixed(max_attempts=attempts, delay=1.0), failures=failures, size=8)
        self.now = 0.0
        self.done = set[int]()
        self.count = dict[int, int]()

    def send(self, number: int) -> None:
        w = self.window
        before = w.next
        runs = w.send(max(min(w.limit(self.now), w.acked + number), before - 1), self.now)
        assert [each.seq for each in runs] == sorted(each.seq for each in runs)
        for seq, attempt in runs:
            assert seq >= before
            assert seq not in self.done, "what is done never comes again"
            self.count[seq] = self.count.get(seq, 0) + 1
            assert attempt == self.count[seq]

    def ack(self, number: int) -> None:
        self.window.ack(self.window.acked + number, self.now)
        self.done |= set(range(1, self.window.acked + 1)) | set(self.window.above())

    def nack(self, number: int) -> None:
        self.window.nack(self.window.acked + number, "no", self.now)

    def visit(self, _: int) -> None:
        self.window.visit(self.now)

    def given_up(self, _: int) -> None:
        for failure in self.window.giving_up():
            self.done.add(failure.seq)
            assert self.window.given_up(failure.seq, self.now)

    def wait(self, number: int) -> None:
        self.now += number / 4

    def check(self) -> None:
        w = self.window
        assert w.in_flight <= 8
        assert w.acked < w.next <= w.sent + 1
        assert all(w.acked < each <= w.sent for each in w.above())
        assert self.done >= set(range(1, w.acked + 1)), "the cursor passes only what is done"


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["send", "ack", "nack", "visit", "given_up", "wait"]), st.integers(0, 12)), max_size=60
)


@settings(max_examples=200, deadline=None)
@given(ACTIONS, st.integers(1, 4), st.integers(2, 4))
def test_in_any_order_of_events_the_rules_hold(actions: list[tuple[str, int]], failures: int, attempts: int) -> None:
    checked = Checked(failures, attempts)
    for action, number in actions:
        getattr(checked, action)(number)
        checked.check()
    for _ in range(200):  # a subscriber that answers gets all of it in the end
        checked.given_up(0)
        checked.visit(0)
        checked.send(8)
        checked.ack(checked.window.next - 1 - checked.window.acked)
        checked.check()
        checked.wait(40)
    assert checked.window.acked > 100


def test_sending_names_the_message_and_its_delivery() -> None:
    w = window()
    assert w.send(1, 0.0) == [Sending(seq=1, attempt=1)]
