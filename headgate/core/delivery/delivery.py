"""The life of one message for one subscriber, as a table.

The in-process broker keeps one `Delivery` for the first message of each subscriber's queue. An acknowledged
subscription keeps one for each message that failed (`headgate/core/delivery/ack_window.py`). Both call the same
methods, and four rules hold because there is no other way to change a delivery:

1. `attempts` grows in `start` and nowhere else.
2. A failed delivery is left by `resolve` only. It asks the retry policy; after the last attempt it is a dead letter.
3. From FAILED the only way back to QUEUED is RETRY_SCHEDULED, and not before the retry is due.
4. `start` clears the error of the last try, `requeue` its due time.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from headgate.core.delivery.retry import Draw, RetryPolicy, no_jitter
from headgate.core.wire.errors import IllegalTransition

MAX_ERROR: Final = 500  # characters of `last_error`: enough to know the fault, small enough for a thousand dead letters


class Status(enum.StrEnum):
    """The state of a delivery. DELIVERED and DEAD_LETTER are final."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    DELIVERING = "DELIVERING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    DEAD_LETTER = "DEAD_LETTER"


class Step(enum.StrEnum):
    """The events of a delivery."""

    ENQUEUE = "enqueue"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    SCHEDULE = "schedule"
    GIVE_UP = "give up"
    REQUEUE = "requeue"


TRANSITIONS: Final[Mapping[tuple[Status, Step], Status]] = MappingProxyType(
    {
        (Status.CREATED, Step.ENQUEUE): Status.QUEUED,
        (Status.QUEUED, Step.START): Status.DELIVERING,
        (Status.DELIVERING, Step.SUCCEED): Status.DELIVERED,
        (Status.DELIVERING, Step.FAIL): Status.FAILED,
        (Status.FAILED, Step.SCHEDULE): Status.RETRY_SCHEDULED,
        (Status.FAILED, Step.GIVE_UP): Status.DEAD_LETTER,
        (Status.RETRY_SCHEDULED, Step.REQUEUE): Status.QUEUED,
        # An acknowledgement over a network may come after its timeout; it counts, and the retry is not needed.
        (Status.RETRY_SCHEDULED, Step.SUCCEED): Status.DELIVERED,
        (Status.QUEUED, Step.SUCCEED): Status.DELIVERED,
    }
)


class Delivery(msgspec.Struct, gc=False):
    """One (message, subscriber). Read the fields, change them by the methods only.

    `due` is the time of the retry in seconds; it is None but in RETRY_SCHEDULED. Each method raises IllegalTransition
    and changes nothing when the table does not allow its step.
    """

    status: Status = Status.CREATED
    attempts: int = 0
    last_error: str = ""
    due: float | None = None

    def enqueue(self) -> None:
        """Puts the delivery into its subscriber's queue."""
        self._step(Step.ENQUEUE)

    def start(self) -> None:
        """Begins a try and counts it in `attempts`."""
        self._step(Step.START)
        self.attempts += 1
        self.last_error = ""

    def succeed(self) -> None:
        """Ends the delivery: the subscriber has the message."""
        self._step(Step.SUCCEED)
        self.due = None

    def fail(self, error: str) -> None:
        """Ends a try that failed and keeps the first MAX_ERROR characters of `error`. Call `resolve` next."""
        self._step(Step.FAIL)
        self.last_error = error[:MAX_ERROR]

    def resolve(self, policy: RetryPolicy, now: float, draw: Draw = no_jitter, *, waited: bool = False) -> float | None:
        """Schedules a retry and returns its delay in seconds, or returns None: the delivery is a dead letter.

        `waited`: the delay is over already, as it is after a timeout, and the retry is due now.
        """
        retry = policy.should_retry(self.attempts)
        self._step(Step.SCHEDULE if retry else Step.GIVE_UP)
        if not retry:
            return None
        delay = 0.0 if waited else max(0.0, policy.compute_delay(self.attempts, draw))
        self.due = now + delay
        return delay

    def requeue(self, now: float) -> None:
        """Puts a scheduled retry back to the front of the queue. Raises IllegalTransition before it is due."""
        if self.due is not None and now < self.due:
            raise IllegalTransition(self.status, Step.REQUEUE, f"due at {self.due}, now {now}")
        self._step(Step.REQUEUE)
        self.due = None

    def _step(self, step: Step) -> None:
        target = TRANSITIONS.get((self.status, step))
        if target is None:
            raise IllegalTransition(self.status, step)
        self.status = target


def restored(failures: int, policy: RetryPolicy) -> Delivery:
    """Returns the delivery of a message that failed so often; it was given up where the policy allows no more."""
    given_up = not policy.should_retry(failures)
    delivery = Delivery(attempts=failures - given_up)
    delivery.enqueue()
    if given_up:
        delivery.start()
        delivery.fail("")
        delivery.resolve(policy, 0.0)
    return delivery
