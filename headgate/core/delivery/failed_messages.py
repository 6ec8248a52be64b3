"""What an acknowledged subscription's window needs once something failed; most windows never do."""

from typing import Final

from headgate.core.delivery.breaker import Breaker, BreakerPolicy, BreakerState
from headgate.core.delivery.delivery import Delivery, Status

NOT_AGAIN: Final = 1 << 63  # above every number: a refused message has not come again
COMES_AGAIN: Final = (Status.RETRY_SCHEDULED, Status.QUEUED)


class FailedMessages:
    """The failed messages of one window.

    `above` are acknowledged numbers above `acked`, `deliveries` how often messages above it were sent where that is
    more than once. `refused` are messages of which a `nack` came, with the newest number that had been sent when it
    came again. `failed` are deliveries of messages that failed; a given up one stays until its dead letter is
    written. `probe_at` is when the open breaker lets one message through, `probe` that message.
    """

    __slots__ = ("above", "breaker", "deliveries", "failed", "probe", "probe_at", "refused")

    def __init__(self, breaker: BreakerPolicy) -> None:
        self.above: set[int] = set()
        self.deliveries: dict[int, int] = {}
        self.refused: dict[int, int] = {}
        self.failed: dict[int, Delivery] = {}
        self.breaker = Breaker(breaker)
        self.probe_at: float | None = None
        self.probe: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        quiet = self.breaker.state is BreakerState.CLOSED and not self.breaker.failures
        return quiet and not self.above and not self.deliveries and not self.failed

    def waits(self, seq: int, *statuses: Status) -> bool:
        """Whether the message failed and is in one of these states."""
        delivery = self.failed.get(seq)
        return delivery is not None and delivery.status in statuses

    def passes(self, seq: int) -> bool:
        """Whether the message is not to be sent any more."""
        return seq in self.above or self.waits(seq, Status.DEAD_LETTER)

    def start(self, seq: int, sent: int, now: float) -> None:
        """A message is sent; `sent` is the newest number that was sent before."""
        delivery = self.failed.get(seq)
        if delivery is not None:
            if delivery.status is Status.RETRY_SCHEDULED:
                delivery.requeue(now)
            if delivery.status is Status.QUEUED:  # else it comes again with one before it: its try goes on
                delivery.start()
        if self.refused.get(seq) == NOT_AGAIN:
            self.refused[seq] = max(sent, seq)
        if self.breaker.state is BreakerState.HALF_OPEN:
            self.probe = seq

    def covers(self, last: int, seq: int) -> bool:
        """Whether an acknowledgement of all up to `last` counts for the message."""
        return not self.passes(seq) and (seq == last or last > self.refused.get(seq, 0))
