"""The checker of deliveries fails on each fault that it is for."""

from collections.abc import Callable

import pytest

from tests.delivery_ledger import DeliveryLedger


def owing(*messages: int) -> DeliveryLedger:
    ledger = DeliveryLedger("ann")
    for message in messages:
        ledger.owe(message)
    return ledger


def jumps_the_queue(ledger: DeliveryLedger) -> None:
    ledger.tried(1, 1)
    ledger.failed(1)
    ledger.tried(2, 1)


def settled_twice(ledger: DeliveryLedger) -> None:
    ledger.tried(1, 1)
    ledger.succeeded(1)
    ledger.tried(1, 2)


def out_of_order(ledger: DeliveryLedger) -> None:
    ledger.tried(2, 1)
    ledger.tried(1, 1)


def out_of_order_at_the_end(ledger: DeliveryLedger) -> None:
    ledger.tried(1, 1)
    ledger.tried(2, 1)
    ledger.succeeded(2)
    ledger.succeeded(1)


def an_attempt_too_few(ledger: DeliveryLedger) -> None:
    ledger.tried(1, 1)
    ledger.tried(1, 1)


def an_attempt_too_many(ledger: DeliveryLedger) -> None:
    ledger.tried(1, 2)


def stored_before_it_was_acknowledged(ledger: DeliveryLedger) -> None:
    ledger.tried(1, 1)
    ledger.acknowledge(1)
    ledger.store(1)


def lost(ledger: DeliveryLedger) -> None:
    ledger.tried(1, 1)
    ledger.succeeded(1)
    ledger.nothing_is_due()


def two_letters(ledger: DeliveryLedger) -> None:
    for _ in range(2):
        ledger.given_up(1, 3, 3)


def a_letter_too_late(ledger: DeliveryLedger) -> None:
    ledger.given_up(1, 4, 3)


@pytest.mark.parametrize(
    ("fault", "invariant"),
    [
        (jumps_the_queue, "order: 2 jumps the queue"),
        (settled_twice, "once: 1 comes again"),
        (out_of_order, "order: 1 is new"),
        (out_of_order_at_the_end, "order: 1 after 2"),
        (an_attempt_too_few, "attempts: 1 at ann: 1 after 1"),
        (an_attempt_too_many, "attempts: 1 at ann: 2 after 0"),
        (stored_before_it_was_acknowledged, "cursor: 1 is stored"),
        (lost, "lost: ann never got"),
        (two_letters, "once: 1 was settled already"),
        (a_letter_too_late, "attempts: 1 at ann was given up after 4 of 3"),
    ],
)
def test_a_fault_is_caught(fault: Callable[[DeliveryLedger], None], invariant: str) -> None:
    with pytest.raises(AssertionError, match=invariant):
        fault(owing(1, 2))


def test_a_failed_message_that_is_tried_again_in_its_turn_is_right() -> None:
    ledger = owing(1, 2, 3)
    ledger.tried(1, 1)
    ledger.tried(2, 1)
    ledger.failed(1)
    ledger.succeeded(2, in_order=False)
    ledger.tried(1, 2)
    ledger.succeeded(1, in_order=False)
    ledger.acknowledge(2)
    ledger.store(2)
    ledger.tried(3, 1)
    ledger.given_up(3, 1, 5)
    ledger.replay(3)
    ledger.tried(3, 1)
    ledger.succeeded(3)
    ledger.nothing_is_due()


def test_after_a_death_one_try_of_a_message_may_be_missing_in_its_count_and_not_two() -> None:
    ledger = owing(1)
    for attempt in (1, 2):
        ledger.tried(1, attempt)
        ledger.failed(1)
    ledger.died()
    ledger.died()
    ledger.tried(1, 2)
    with pytest.raises(AssertionError, match="attempts: 1 at ann: 2 after 2"):
        ledger.tried(1, 2)
    ledger.died()
    with pytest.raises(AssertionError, match="attempts: 1 at ann: 1 after 2"):
        ledger.tried(1, 1)


def test_tries_that_did_not_fail_are_forgotten_at_a_death() -> None:
    ledger = owing(1)
    ledger.tried(1, 1)
    ledger.tried(1, 2)
    ledger.died()
    ledger.tried(1, 1)


def test_after_a_death_more_may_have_been_tried_than_was_seen() -> None:
    ledger = owing(1, 2)
    ledger.tried(1, 1)
    ledger.died()
    ledger.tried(1, 4)
    ledger.tried(2, 1)
    with pytest.raises(AssertionError, match="attempts: 1 at ann: 6 after 4"):
        ledger.tried(1, 6)


def test_what_was_stored_does_not_come_again_after_a_death() -> None:
    ledger = owing(1, 2)
    ledger.tried(1, 1)
    ledger.succeeded(1)
    ledger.acknowledge(1)
    ledger.store(1)
    ledger.owe(1)  # as if it had not been settled
    ledger.died()
    with pytest.raises(AssertionError, match="cursor: 1 comes again"):
        ledger.tried(1, 1)


def test_an_acknowledgement_does_not_count_for_what_was_settled_after_it_was_sent() -> None:
    ledger = DeliveryLedger("ann", at_least_once=True)
    for message in (1, 2):
        ledger.owe(message)
        ledger.tried(message, 1)
    ledger.succeeded(2, in_order=False)
    ledger.acknowledge(2)
    ledger.succeeded(1, in_order=False)
    ledger.store(2)
    assert ledger.stored == {2}
    ledger.tried(1, 2)
