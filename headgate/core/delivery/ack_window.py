"""The window of one acknowledged subscription: what is in flight, what comes again, and when.

Messages have consecutive numbers. In flight are those above `acked` and up to `sent`: two numbers, whatever the window
holds. Only messages that failed, or that came again, have an entry of their own; most windows have none. The caller
sends what `limit` allows, says so with `send`, and calls `visit` at `due`. It knows the messages; the window does not.

Five rules:

1. A failed message holds the line: nothing at or above it is sent before it is due.
2. It then comes again, and behind it, in order, whatever is not acknowledged. What is acknowledged never comes again.
3. An acknowledgement counts for all messages up to its number, but not for those that were given up and wait for
   their dead letters, and not for those that were refused: one of those counts by its own number, or by that of a
   message that was sent for the first time after it had come again. Who acknowledges a lower one may not have seen it.
4. Without an acknowledgement for the retry delay the oldest message has failed.
5. `acked` passes a message when it was acknowledged, was given up (`given_up`), or is lost (`lose`).
"""

import enum
from typing import Final, NamedTuple

from headgate.core.delivery.breaker import BreakerPolicy, BreakerState
from headgate.core.delivery.delivery import Delivery, Status, restored
from headgate.core.delivery.failed_messages import COMES_AGAIN, NOT_AGAIN, FailedMessages
from headgate.core.delivery.retry import Draw, RetryPolicy, no_jitter
from headgate.core.wire.link_acks import WINDOW

NO_ANSWER: Final = "no acknowledgement in time"


class Sending(NamedTuple):
    """A message to write now; `attempt` counts its deliveries, this one included."""

    seq: int
    attempt: int


class Failure(NamedTuple):
    """A delivery failed. `given_up`: it was the last attempt, and the message waits for its dead letter.

    `delay_s` is how long it waits for its retry; 0 where that is due, or there is none.
    """

    seq: int
    attempts: int
    error: str
    given_up: bool
    delay_s: float = 0.0


class Ignored(enum.Enum):
    """Why a `nack` changes nothing."""

    DONE = enum.auto()  # acknowledged, given up, or waiting for its retry
    NOT_SENT = enum.auto()


class AckWindow:
    """The window of one subscription that has all messages up to `acked`.

    `next` is the number of the message to send next, at most `sent` + 1. Times are seconds on the caller's clock,
    `draw` is the randomness of the retry policy. `policy` may be replaced at any time.
    """

    __slots__ = ("_breaker", "_timeout_at", "_trouble", "acked", "next", "policy", "sent", "size")

    def __init__(self, acked: int, policy: RetryPolicy, breaker: BreakerPolicy, size: int = WINDOW) -> None:
        self.acked = acked
        self.sent = acked
        self.next = acked + 1
        self.policy = policy
        self.size = size
        self._breaker = breaker
        self._timeout_at: float | None = None
        self._trouble: FailedMessages | None = None

    def restore(self, above: list[int], attempts: list[tuple[int, int]]) -> None:
        """Continues where another window was; see `headgate.core.wire.link_acks.Cursor`. Nothing was sent yet."""
        last = self.acked + self.size
        trouble = FailedMessages(self._breaker)
        trouble.above = {seq for seq in above if self.acked < seq <= last}
        for seq, count in attempts:
            if self.acked < seq <= last and count > 0 and seq not in trouble.above:
                trouble.failed[seq] = restored(count, self.policy)
                trouble.deliveries[seq] = count
        self._trouble = trouble
        self._pass(trouble)

    # What others may know

    @property
    def is_plain(self) -> bool:
        """Whether nothing failed and nothing comes again: whatever is sent next is new."""
        return self._trouble is None and self.next > self.sent

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: nothing is sent."""
        return self._trouble is not None and self._trouble.probe_at is not None

    @property
    def in_flight(self) -> int:
        """How many messages the window holds."""
        return self.sent - self.acked

    def above(self) -> list[int]:
        """Returns the acknowledged numbers above `acked`, ascending."""
        return sorted(self._trouble.above) if self._trouble is not None else []

    def attempts(self) -> list[tuple[int, int]]:
        """Returns the messages that failed and how often, ascending."""
        failed = {} if self._trouble is None else self._trouble.failed
        return sorted((seq, each.attempts - (each.status is Status.DELIVERING)) for seq, each in failed.items())

    def deliveries(self, seq: int) -> int:
        """Returns how often a message in flight was sent."""
        return 1 if self._trouble is None else self._trouble.deliveries.get(seq, 1)

    def giving_up(self) -> list[Failure]:
        """Returns the messages that wait for their dead letters, ascending."""
        failed = {} if self._trouble is None else self._trouble.failed
        return [
            Failure(seq, delivery.attempts, delivery.last_error, True)
            for seq, delivery in sorted(failed.items())
            if delivery.status is Status.DEAD_LETTER
        ]

    def due(self, now: float) -> float | None:
        """Returns the time at which to call `visit`, or None; a retry that is due already waits for a `send`."""
        trouble = self._trouble
        if trouble is None:
            return self._timeout_at
        if trouble.probe_at is not None:
            return trouble.probe_at
        dues = [each.due for seq, each in trouble.failed.items() if seq >= self.next]
        ahead = [due for due in dues if due is not None and due > now]
        return min(ahead if self._timeout_at is None else [self._timeout_at, *ahead], default=None)

    # Sending

    def limit(self, now: float) -> int:
        """Returns the number of the last message that may be sent now; below `next`: none."""
        most = self.acked + self.size
        trouble = self._trouble
        if trouble is None:
            return most
        if trouble.breaker.state is BreakerState.OPEN:
            return self.next - 1
        if trouble.breaker.state is BreakerState.HALF_OPEN:
            most = self.next - 1 if trouble.probe is not None else min(most, self._unsent(trouble))
        for seq, delivery in trouble.failed.items():
            if self.next <= seq <= most and delivery.due is not None and delivery.due > now:
                most = seq - 1
        return most

    def send(self, last: int, now: float, draw: Draw = no_jitter) -> list[Sending]:
        """Notes that all up to `last` are sent, at most `limit`; returns those to write, in order."""
        sendings = [Sending(seq, 1) for seq in range(self.next, last + 1)] if self.is_plain else self._again(last, now)
        self.sent = max(self.sent, last)
        self.next = max(self.next, last + 1)
        if self._timeout_at is None:
            self._wait(now, draw)
        return sendings

    def send_new(self, last: int, now: float, draw: Draw = no_jitter) -> bool:
        """Notes that all new messages up to `last` are sent, where the window is plain and has the room."""
        if self._trouble is not None or self.next <= self.sent or last > self.acked + self.size:
            return False
        self.sent = last
        self.next = last + 1
        if self._timeout_at is None:
            self._wait(now, draw)
        return True

    def take_back(self, seq: int) -> None:
        """The new messages from `seq` on were not sent after all; right after the `send_new` that counted them."""
        self.sent = seq - 1
        self.next = seq

    # Answers

    def ack(self, seq: int, now: float, draw: Draw = no_jitter) -> bool:
        """Takes an acknowledgement of all up to `seq`; above `sent` it counts up to `sent`. True: something changed."""
        seq = min(seq, self.sent)
        if seq <= self.acked:
            return False
        if self._trouble is None:
            self.acked = seq
        elif not self._count(self._trouble, seq):
            return False
        self.next = max(self.next, self.acked + 1)
        self._wait(now, draw)
        return True

    def nack(self, seq: int, reason: str, now: float, draw: Draw = no_jitter) -> Failure | Ignored:
        """Takes a refusal of one message in flight."""
        if seq > self.sent:
            return Ignored.NOT_SENT
        trouble = self._trouble
        if seq <= self.acked:
            return Ignored.DONE
        if trouble is not None and trouble.passes(seq):
            return Ignored.DONE
        trouble = self._troubled()
        trouble.refused[seq] = NOT_AGAIN
        if trouble.waits(seq, *COMES_AGAIN):
            return Ignored.DONE  # where it had failed for want of an answer, this was the answer
        failure = self._fail(seq, reason, now, draw)
        self._wait(now, draw)
        return failure

    def given_up(self, seq: int, now: float, draw: Draw = no_jitter) -> bool:
        """Its dead letter is written: `acked` may pass the message. True: something changed."""
        trouble = self._trouble
        delivery = None if trouble is None else trouble.failed.get(seq)
        if trouble is None or delivery is None or delivery.status is not Status.DEAD_LETTER:
            return False
        del trouble.failed[seq]
        trouble.above.add(seq)
        self._pass(trouble)
        self.next = max(self.next, self.acked + 1)
        self._wait(now, draw)
        return True

    def lose(self, seq: int, now: float, draw: Draw = no_jitter) -> None:
        """The messages up to `seq` are kept no longer, and the subscriber was told so."""
        if seq <= self.acked:
            return
        self.acked = seq
        self.sent = max(self.sent, seq)
        self.next = max(self.next, seq + 1)
        if self._trouble is not None:
            for lost in [each for each in self._trouble.failed if each <= seq]:
                del self._trouble.failed[lost]
            if self._trouble.probe is not None and self._trouble.probe <= seq:
                self._trouble.probe = None
            self._pass(self._trouble)
        self._wait(now, draw)

    def visit(self, now: float, draw: Draw = no_jitter) -> Failure | None:
        """Does what time does: the oldest message may have failed, the breaker may let one through."""
        trouble = self._trouble
        if trouble is not None and trouble.probe_at is not None:
            if now >= trouble.probe_at:
                self._probe(trouble)
            return None
        if self._timeout_at is None or now < self._timeout_at:
            return None
        oldest = self._oldest()
        if oldest is None:
            self._timeout_at = None
            return None
        failure = self._fail(oldest, NO_ANSWER, now, draw, waited=True)
        self._wait(now, draw)
        return failure

    # Private

    def _again(self, last: int, now: float) -> list[Sending]:
        """Counts a delivery of each message from `next` to `last` that is to be sent."""
        trouble = self._troubled()
        sendings = []
        for seq in range(self.next, last + 1):
            if trouble.passes(seq):
                continue
            trouble.start(seq, self.sent, now)
            attempt = trouble.deliveries.get(seq, int(seq <= self.sent)) + 1
            if attempt > 1:
                trouble.deliveries[seq] = attempt
            sendings.append(Sending(seq, attempt))
        return sendings

    def _count(self, trouble: FailedMessages, last: int) -> bool:
        """Counts an acknowledgement of all up to `last`; false when there was none of them left to acknowledge."""
        before = len(trouble.above)
        for seq in range(self.acked + 1, last + 1):
            if not trouble.covers(last, seq):
                continue
            delivery = trouble.failed.pop(seq, None)
            if delivery is not None:
                delivery.succeed()
            trouble.above.add(seq)
        if len(trouble.above) == before:
            return False
        trouble.breaker.record(True, 0.0, 0.0)
        trouble.probe = None
        self._pass(trouble)
        return True

    def _pass(self, trouble: FailedMessages) -> None:
        """Moves `acked` over what is done, and forgets what is below it."""
        while self.acked + 1 in trouble.above:
            self.acked += 1
        trouble.above = {seq for seq in trouble.above if seq > self.acked}
        trouble.refused = {seq: sent for seq, sent in trouble.refused.items() if seq > self.acked}
        trouble.deliveries = {seq: count for seq, count in trouble.deliveries.items() if seq > self.acked}
        self.sent = max(self.sent, self.acked)
        self.next = max(self.next, self.acked + 1)
        if trouble.is_over:
            self._trouble = None

    def _fail(self, seq: int, error: str, now: float, draw: Draw, *, waited: bool = False) -> Failure:
        trouble = self._troubled()
        delivery = trouble.failed.get(seq)
        if delivery is None:
            delivery = trouble.failed[seq] = Delivery()
            delivery.enqueue()
            delivery.start()
        delivery.fail(error)
        delay = delivery.resolve(self.policy, now, draw, waited=waited)
        opened = trouble.breaker.record(False, 0.0, now)
        if opened is not None:
            trouble.probe_at, trouble.probe = opened, None
        if delay is not None:
            self.next = min(self.next, seq)
            if waited:
                delivery.requeue(now)
        return Failure(seq, delivery.attempts, delivery.last_error, delay is None, delay or 0.0)

    def _probe(self, trouble: FailedMessages) -> None:
        """The breaker lets the oldest message through."""
        trouble.probe_at = None
        trouble.breaker.probe()
        self.next = min(self.next, self._oldest() or self.next)
        self._timeout_at = None

    def _wait(self, now: float, draw: Draw) -> None:
        """Begins to wait for an acknowledgement of the oldest message, where it is with the subscriber."""
        oldest = self._oldest()
        if oldest is None or oldest >= self.next:
            self._timeout_at = None
            return
        delivery = None if self._trouble is None else self._trouble.failed.get(oldest)
        self._timeout_at = now + self.policy.compute_delay(1 if delivery is None else delivery.attempts, draw)

    def _oldest(self) -> int | None:
        """Returns the oldest message in flight that is not given up."""
        trouble = self._trouble
        if trouble is None:
            return self.acked + 1 if self.acked < self.sent else None
        return next((seq for seq in range(self.acked + 1, self.sent + 1) if not trouble.passes(seq)), None)

    def _unsent(self, trouble: FailedMessages) -> int:
        """Returns the number of the next message that is to be written."""
        seq = self.next
        while trouble.passes(seq):
            seq += 1
        return seq

    def _troubled(self) -> FailedMessages:
        if self._trouble is None:
            self._trouble = FailedMessages(self._breaker)
        return self._trouble
