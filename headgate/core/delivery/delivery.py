"""The life of one message for one subscriber, as a table; knows no queue, no socket and no clock.

The in-process broker keeps one `Delivery` at the head of each subscriber's queue, an acknowledged subscription on a
WebSocket one for each message of its in-flight window. Both drive it by the same five methods. Four invariants hold
because no other way exists (document S2, S2-INV-1 to 4):

1. `attempts` grows in `start` and nowhere else.
2. A failed delivery is left by `resolve` only, which asks the policy: at the cap it becomes a dead letter.
3. The only way from FAILED back to QUEUED leads over RETRY_SCHEDULED, and not before its time.
4. `start` and `requeue` clear what the last try left: the error, the due time.
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
    """Where a delivery stands. DELIVERED and DEAD_LETTER are final."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    DELIVERING = "DELIVERING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    DEAD_LETTER = "DEAD_LETTER"


class Step(enum.StrEnum):
    """What happens to a delivery."""

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
        # An acknowledgement over a network may come after its time-out; it counts, and the retry is not needed.
        (Status.RETRY_SCHEDULED, Step.SUCCEED): Status.DELIVERED,
    }
)


class Delivery(msgspec.Struct, gc=False):
    """One (message, subscriber). Read the fields, change them by the methods only.

    `due` (seconds) is set in RETRY_SCHEDULED alone; `last_ts` is the time of the last step.
    """

    status: Status = Status.CREATED
    attempts: int = 0
    last_error: str = ""
    due: float | None = None
    last_ts: float = 0.0

    def enqueue(self, now: float) -> None:
        """Takes the delivery into its subscriber's queue."""
        self._step(Step.ENQUEUE, now)

    def start(self, now: float) -> None:
        """Begins a try: the one place where `attempts` grows."""
        self._step(Step.START, now)
        self.attempts += 1
        self.last_error = ""

    def succeed(self, now: float) -> None:
        """The subscriber has it, for good."""
        self._step(Step.SUCCEED, now)
        self.due = None

    def fail(self, error: str, now: float) -> None:
        """The try failed; `resolve` says what comes next."""
        self._step(Step.FAIL, now)
        self.last_error = error[:MAX_ERROR]

    def resolve(self, policy: RetryPolicy, now: float, draw: Draw = no_jitter) -> float | None:
        """Returns the delay of the retry in seconds, or None when the delivery has become a dead letter."""
        retry = policy.should_retry(self.attempts)
        self._step(Step.SCHEDULE if retry else Step.GIVE_UP, now)
        if not retry:
            return None
        delay = max(0.0, policy.compute_delay(self.attempts, draw))
        self.due = now + delay
        return delay

    def requeue(self, now: float) -> None:
        """Puts a scheduled retry back at the head of the queue. Raises IllegalTransition before it is due."""
        if self.due is not None and now < self.due:
            raise IllegalTransition(self.status, Step.REQUEUE, f"due at {self.due}, now {now}")
        self._step(Step.REQUEUE, now)
        self.due = None

    def _step(self, step: Step, now: float) -> None:
        target = TRANSITIONS.get((self.status, step))
        if target is None:
            raise IllegalTransition(self.status, step)
        self.status = target
        self.last_ts = now
