"""The delivery states: the table, the four invariants, the one error, and the proof that a socket can drive it too."""

from collections import deque
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.delivery.delivery import MAX_ERROR, TRANSITIONS, Delivery, Status, Step
from headgate.core.delivery.retry import SimpleRetryPolicy, fixed
from headgate.core.delivery.timers import Timers
from headgate.core.wire.errors import IllegalTransition

ALWAYS = SimpleRetryPolicy(max_attempts=1_000)
NEVER = SimpleRetryPolicy(max_attempts=1)


def take(delivery: Delivery, step: Step, now: float) -> None:
    """Takes a step by its public method."""
    if step in (Step.SCHEDULE, Step.GIVE_UP):
        delivery.resolve(ALWAYS if step is Step.SCHEDULE else NEVER, now)
    elif step is Step.FAIL:
        delivery.fail("error")
    elif step is Step.REQUEUE:
        delivery.requeue(now)
    else:
        getattr(delivery, step.name.lower())()


def snapshot(delivery: Delivery) -> tuple[object, ...]:
    return (delivery.status, delivery.attempts, delivery.last_error, delivery.due)


def test_a_message_that_is_delivered_at_the_third_try() -> None:
    policy = SimpleRetryPolicy(max_attempts=3, backoff_factor=0.25)
    delivery = Delivery()
    delivery.enqueue()
    seen = [delivery.status]
    for delay in (0.25, 0.5):
        delivery.start()
        delivery.fail("ValueError: no")
        assert delivery.resolve(policy, 2.0) == delay
        assert (delivery.status, delivery.due, delivery.last_error) == (
            Status.RETRY_SCHEDULED,
            2.0 + delay,
            "ValueError: no",
        )
        delivery.requeue(3.0)
        seen.append(delivery.status)
    delivery.start()
    delivery.succeed()
    assert seen == [Status.QUEUED] * 3
    assert snapshot(delivery) == (Status.DELIVERED, 3, "", None)


@pytest.mark.parametrize(("status", "step"), list(product(Status, Step)))
def test_an_illegal_step_raises_the_one_error_and_changes_nothing(status: Status, step: Step) -> None:
    delivery = Delivery(status=status, attempts=1, last_error="e")
    before = snapshot(delivery)
    if (status, step) in TRANSITIONS:
        take(delivery, step, 2.0)
        assert delivery.status is TRANSITIONS[status, step]
        return
    with pytest.raises(IllegalTransition) as caught:
        take(delivery, step, 2.0)
    assert caught.value.state is status
    assert caught.value.step is step
    assert repr(step.value) in str(caught.value)
    assert snapshot(delivery) == before


def test_every_state_is_reached_and_the_final_ones_are_left_by_nothing() -> None:
    left = {source for source, _ in TRANSITIONS}
    assert set(Status) - left == {Status.DELIVERED, Status.DEAD_LETTER}
    assert set(TRANSITIONS.values()) | {Status.CREATED} == set(Status)


@given(st.lists(st.tuples(st.sampled_from(list(Step)), st.floats(0, 10)), max_size=40))
def test_s2_inv_1_to_4(steps: list[tuple[Step, float]]) -> None:
    """Any steps in any order: what the invariants say is always true."""
    delivery = Delivery()
    now = 0.0
    for step, wait in steps:
        now += wait
        before, attempts = delivery.status, delivery.attempts
        try:
            take(delivery, step, now)
        except IllegalTransition:
            continue
        grew = delivery.attempts - attempts
        assert grew == (1 if step is Step.START else 0), "attempts grow on a try only"
        if before is Status.FAILED:
            dead = step is Step.GIVE_UP
            assert (delivery.status is Status.DEAD_LETTER) == dead, "given up is a dead letter, and nothing else is"
        if delivery.status is Status.QUEUED:
            assert before in (Status.CREATED, Status.RETRY_SCHEDULED), "scheduled before queued again"
        if delivery.status in (Status.QUEUED, Status.DELIVERING):
            assert delivery.due is None, "nothing is due while it is queued or delivered"
        if delivery.status is Status.DELIVERING:
            assert delivery.last_error == "", "a new try has cleared what the last one left"


def test_s2_inv_2_failed_at_the_cap_means_dead_letter() -> None:
    delivery = Delivery()
    delivery.enqueue()
    for _ in range(2):
        delivery.start()
        delivery.fail("e")
        assert delivery.resolve(fixed(3, 0.0), 0) == 0.0
        delivery.requeue(0)
    delivery.start()
    delivery.fail("e")
    assert delivery.resolve(fixed(3, 0.0), 0) is None
    assert delivery.status is Status.DEAD_LETTER


def test_s2_inv_3_a_retry_is_not_queued_before_it_is_due() -> None:
    delivery = Delivery(status=Status.FAILED, attempts=1)
    delivery.resolve(fixed(3, 2.0), 10.0)
    before = snapshot(delivery)
    with pytest.raises(IllegalTransition, match="due at 12"):
        delivery.requeue(11.999)
    assert snapshot(delivery) == before
    delivery.requeue(12.0)
    assert delivery.status is Status.QUEUED


def test_the_random_source_is_handed_on_to_the_policy() -> None:
    delivery = Delivery(status=Status.FAILED, attempts=1)
    assert delivery.resolve(fixed(3, 2.0, jitter=0.5), 0.0, lambda: 0.5) == 1.5
    assert delivery.due == 1.5
    delivery.requeue(1.5)
    assert delivery.due is None


def test_an_error_text_is_bounded() -> None:
    delivery = Delivery(status=Status.DELIVERING)
    delivery.fail("x" * 10_000)
    assert len(delivery.last_error) == MAX_ERROR


def test_a_late_acknowledgement_counts() -> None:
    """On a socket: the time-out has scheduled a retry, then the acknowledgement comes after all."""
    delivery = Delivery(status=Status.FAILED, attempts=1)
    delivery.resolve(fixed(3, 2.0), 0.0)
    delivery.succeed()
    assert (delivery.status, delivery.due) == (Status.DELIVERED, None)


class Window:
    """An acknowledged subscription as the gateway will have it: the same classes, nothing of the broker."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent: list[tuple[int, int]] = []  # (seq, attempt) as they go out on the socket
        self.flight: deque[tuple[int, Delivery]] = deque()
        self.timers: Timers[int] = Timers()
        self.dead: list[int] = []
        self.policy = fixed(max_attempts=3, delay=5.0)
        self.seq = 0

    def fill(self, newest: int, now: float) -> None:
        while self.seq < newest and len(self.flight) < self.size:
            self.seq += 1
            delivery = Delivery()
            delivery.enqueue()
            self.flight.append((self.seq, delivery))
            self.send(now)

    def send(self, now: float) -> None:
        for seq, delivery in self.flight:
            if delivery.status is Status.QUEUED:
                delivery.start()
                self.sent.append((seq, delivery.attempts))

    def ack(self, seq: int, now: float) -> None:
        while self.flight and self.flight[0][0] <= seq:
            self.flight.popleft()[1].succeed()

    def timeout(self, now: float) -> None:
        for seq, delivery in list(self.flight):
            delivery.fail("no ack")
            if delivery.resolve(self.policy, now) is None:
                self.dead.append(seq)
                self.flight.remove((seq, delivery))
        if self.flight:
            self.timers.at(now + 5.0, 0)

    def tick(self, now: float) -> None:
        while self.timers.pop(now) is not None:
            for _, delivery in self.flight:
                delivery.requeue(now)
            self.send(now)


def test_an_acknowledged_window_is_driven_by_the_same_classes() -> None:
    window = Window(size=3)
    window.fill(5, 0.0)
    assert window.sent == [(1, 1), (2, 1), (3, 1)]
    window.ack(1, 1.0)
    window.fill(5, 1.0)
    window.timeout(2.0)  # nothing acknowledged: the window goes again, in order
    window.ack(2, 3.0)  # but seq 2 was only slow
    window.tick(6.9)
    assert window.sent[3:] == [(4, 1)]
    window.tick(7.0)
    assert window.sent[4:] == [(3, 2), (4, 2)]
    window.timeout(8.0)
    window.tick(13.0)
    window.timeout(14.0)
    assert window.dead == [3, 4]
    assert not window.flight
