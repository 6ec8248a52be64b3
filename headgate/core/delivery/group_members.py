"""What a consumer group's window knows of a message that is not done, and of a member."""

import enum

from headgate.core.delivery.breaker import Breaker, BreakerPolicy, BreakerState
from headgate.core.delivery.delivery import Delivery
from headgate.core.wire.link_groups import MEMBER_BYTES, MEMBER_WINDOW


class Place(enum.Enum):
    """Where a message is: to be sent, in its member's hand, waiting for its retry, or for its dead letter."""

    QUEUED = enum.auto()
    SENT = enum.auto()
    WAITS = enum.auto()
    GIVEN_UP = enum.auto()


class OpenMessage:
    """A message that is not done. `deliveries` counts how often it was sent, `failed` is there once it failed.

    `letter` is the id of its dead letter while that is replayed; `is_extra` says that its number is done
    for the cursor.
    """

    __slots__ = ("deliveries", "failed", "is_extra", "key", "letter", "member", "place", "seq", "size")

    def __init__(self, seq: int, key: int, member: str) -> None:
        self.seq = seq
        self.key = key
        self.member = member
        self.place = Place.QUEUED
        self.deliveries = 0
        self.failed: Delivery | None = None
        self.size = 0
        self.letter = ""
        self.is_extra = False


class MemberHand:
    """`in_hand` are its messages in the order of sending. `probe` is the one that its half open breaker let through."""

    __slots__ = ("breaker", "bytes", "in_hand", "number", "probe", "probe_at", "timeout_at")

    def __init__(self, number: int, breaker: BreakerPolicy) -> None:
        self.number = number
        self.in_hand: dict[int, None] = {}
        self.bytes = 0
        self.timeout_at: float | None = None
        self.breaker = Breaker(breaker)
        self.probe_at: float | None = None
        self.probe: int | None = None

    @property
    def room(self) -> int:
        """How many messages it may be sent now."""
        if self.breaker.state is BreakerState.OPEN or self.bytes >= MEMBER_BYTES:
            return 0
        if self.breaker.state is BreakerState.HALF_OPEN:
            return int(self.probe is None)
        return MEMBER_WINDOW - len(self.in_hand)

    def give_back(self, message: OpenMessage) -> None:
        """A message is not in its hand any longer."""
        if message.seq in self.in_hand:
            del self.in_hand[message.seq]
            self.bytes -= message.size
        if self.probe == message.seq:
            self.probe = None
