"""The circuit breaker of one subscriber, as a table.

While it is open nothing is tried: the messages wait in the queue, and do not use up their attempts and become dead
letters one after the other. The caller keeps the timer: `record` returns when to call `probe`. (The circuit of a log is
`headgate/core/publish/circuit.py`.)
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from headgate.core.wire.errors import IllegalTransition


class BreakerState(enum.StrEnum):
    """CLOSED: tries go through. OPEN: none. HALF_OPEN: the next try decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class BreakerStep(enum.StrEnum):
    """The events of a breaker."""

    TRIP = "trip"
    PROBE = "probe"
    CLOSE = "close"


BREAKER_TRANSITIONS: Final[Mapping[tuple[BreakerState, BreakerStep], BreakerState]] = MappingProxyType(
    {
        (BreakerState.CLOSED, BreakerStep.TRIP): BreakerState.OPEN,
        (BreakerState.OPEN, BreakerStep.PROBE): BreakerState.HALF_OPEN,
        (BreakerState.HALF_OPEN, BreakerStep.CLOSE): BreakerState.CLOSED,
        (BreakerState.HALF_OPEN, BreakerStep.TRIP): BreakerState.OPEN,
    }
)


class BreakerPolicy(msgspec.Struct, frozen=True):
    """Opens after `failures` in a row, for `open_s` seconds. A try longer than `slow_s` seconds counts as a failure.

    Raises ValueError unless `failures` is at least 1 and `open_s` more than 0.
    """

    failures: int = 5
    open_s: float = 30.0
    slow_s: float | None = None

    def __post_init__(self) -> None:
        if self.failures < 1 or self.open_s <= 0:
            raise ValueError(f"failures {self.failures}, open_s {self.open_s}: expected at least 1, and more than 0")


class Breaker:
    """The breaker of one subscriber."""

    __slots__ = ("failures", "policy", "state")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = BreakerState.CLOSED
        self.failures = 0  # in a row

    @property
    def allows(self) -> bool:
        """Whether a try may begin."""
        return self.state is not BreakerState.OPEN

    def record(self, ok: bool, took_s: float, now: float) -> float | None:
        """Notes the outcome of a try that took `took_s` seconds.

        Returns the time at which to call `probe` when this opened the breaker, else None.
        """
        slow_s = self.policy.slow_s
        if ok and (slow_s is None or took_s <= slow_s):
            self.failures = 0
            if self.state is BreakerState.HALF_OPEN:
                self._step(BreakerStep.CLOSE)
            return None
        self.failures += 1
        if self.state is BreakerState.CLOSED and self.failures < self.policy.failures:
            return None
        if self.state is BreakerState.OPEN:  # a try that began before it opened
            return None
        self._step(BreakerStep.TRIP)
        return now + self.policy.open_s

    def probe(self) -> None:
        """Lets the next try decide. Raises IllegalTransition unless the breaker is open."""
        self._step(BreakerStep.PROBE)

    def _step(self, step: BreakerStep) -> None:
        target = BREAKER_TRANSITIONS.get((self.state, step))
        if target is None:
            raise IllegalTransition(self.state, step)
        self.state = target
