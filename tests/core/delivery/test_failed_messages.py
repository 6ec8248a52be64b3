"""What a window keeps of messages that failed; the window itself is tested in `test_ack_window.py`."""

from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.delivery import Delivery, Status
from headgate.core.delivery.failed_messages import NOT_AGAIN, FailedMessages
from headgate.core.delivery.retry import fixed


def one_failed(attempts: int = 3) -> FailedMessages:
    failed = FailedMessages(BreakerPolicy())
    delivery = failed.failed[5] = Delivery()
    delivery.enqueue()
    delivery.start()
    delivery.fail("no")
    delivery.resolve(fixed(attempts, 1.0), 10.0)
    return failed


def test_nothing_is_left_of_a_window_without_failures() -> None:
    assert FailedMessages(BreakerPolicy()).is_over
    assert not one_failed().is_over


def test_a_retry_begins_when_the_message_is_sent() -> None:
    failed = one_failed()
    assert failed.waits(5, Status.RETRY_SCHEDULED) and not failed.passes(5)
    failed.start(5, 9, 11.0)
    assert (failed.failed[5].status, failed.failed[5].attempts) == (Status.DELIVERING, 2)


def test_what_is_given_up_or_acknowledged_is_not_sent_again() -> None:
    failed = one_failed(attempts=1)
    failed.above.add(7)
    assert failed.passes(5) and failed.passes(7) and not failed.passes(6)


def test_a_refused_message_is_covered_by_itself_and_by_what_was_new_after_it_had_come_again() -> None:
    failed = one_failed()
    failed.refused[5] = NOT_AGAIN
    assert failed.covers(5, 5) and not failed.covers(9, 5)
    failed.start(5, 9, 11.0)
    assert not failed.covers(9, 5) and failed.covers(10, 5)


def test_the_message_that_an_open_breaker_lets_through_is_the_probe() -> None:
    failed = one_failed()
    failed.breaker.record(False, 0.0, 0.0)
    for _ in range(4):
        failed.breaker.record(False, 0.0, 0.0)
    failed.breaker.probe()
    failed.start(5, 5, 11.0)
    assert failed.probe == 5
