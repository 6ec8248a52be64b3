"""The verdict on a publish when a topic's queue is full."""

import enum

import msgspec


class OnFull(enum.StrEnum):
    """The policies for a full queue. Each tells the publisher or a listener; none drops in silence."""

    REJECT = "reject"
    DROP_OLDEST = "drop_oldest"
    BLOCK = "block"
    OVERFLOW = "overflow"


class Admittance(enum.Enum):
    """The verdict on one publish."""

    ADMIT = enum.auto()
    REJECT = enum.auto()
    EVICT = enum.auto()  # admit it and drop the oldest message that nobody is working on; reject when there is none
    WAIT = enum.auto()  # let the publisher wait until there is room or its time is up
    SPILL = enum.auto()  # put it into the overflow queue


class Backpressure(msgspec.Struct, frozen=True):
    """A topic's bounds: `max_queue_size` messages in the queue, `overflow_size` more in the overflow queue.

    `block_timeout_s` is how long a publisher waits for room, in seconds. Raises ValueError for a size below 1.
    """

    on_full: OnFull = OnFull.REJECT
    max_queue_size: int = 10_000
    overflow_size: int = 10_000
    block_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.max_queue_size < 1 or self.overflow_size < 1:
            raise ValueError(f"sizes {self.max_queue_size} and {self.overflow_size}, expected at least 1")

    def admit(self, queued: int, spilled: int) -> Admittance:
        """Judges a publish that finds `queued` messages in the queue and `spilled` in the overflow queue.

        While the overflow queue holds anything, new messages go behind it: otherwise they would overtake.
        """
        if queued < self.max_queue_size and not spilled:
            return Admittance.ADMIT
        if self.on_full is OnFull.OVERFLOW:
            full = queued + spilled >= self.max_queue_size + self.overflow_size
            return Admittance.REJECT if full else Admittance.SPILL
        if self.on_full is OnFull.DROP_OLDEST:
            return Admittance.EVICT
        return Admittance.WAIT if self.on_full is OnFull.BLOCK else Admittance.REJECT
