"""The circuit of one shard: whether an append may still be handed to the log; knows no log, no future and no timer.

It opens when the oldest append without an answer is older than OPEN_AFTER_S. What is refused while it is open was never
handed over and will never appear. When the last answer is in, a probe a second asks whether the log is back.

    CLOSED --overdue--> DRAINING --drained--> IDLE --due--> PROBING --acked--> CLOSED
                                               ^---------------failed----|
"""

import enum
from collections import deque
from typing import Final

from headgate.core.wire.errors import IllegalTransition

OPEN_AFTER_S: Final = 2.0  # the age of the oldest unacknowledged append that opens the circuit (DESIGN section 11)
PROBE_EVERY_S: Final = 1.0
WAVE_S: Final = 0.05  # appends this close together share one age; at 6 s of waiting a shard keeps 120 waves


class CircuitState(enum.Enum):
    """Where a circuit stands."""

    CLOSED = "closed"  # appends pass
    DRAINING = "draining"  # open; appends from before have no answer yet
    IDLE = "idle"  # open; nothing is outstanding
    PROBING = "probing"  # open; a probe is outstanding


class CircuitEvent(enum.Enum):
    """What moves a circuit."""

    OVERDUE = "overdue"
    DRAINED = "drained"
    DUE = "due"
    ACKED = "acked"
    FAILED = "failed"


TRANSITIONS: Final = {
    (CircuitState.CLOSED, CircuitEvent.OVERDUE): CircuitState.DRAINING,
    (CircuitState.DRAINING, CircuitEvent.DRAINED): CircuitState.IDLE,
    (CircuitState.IDLE, CircuitEvent.DUE): CircuitState.PROBING,
    (CircuitState.PROBING, CircuitEvent.ACKED): CircuitState.CLOSED,
    (CircuitState.PROBING, CircuitEvent.FAILED): CircuitState.IDLE,
}


class Wave:
    """Appends handed over at about the same time, the first of them at `since`."""

    __slots__ = ("ended", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.ended = False


class Circuit:
    """One shard's circuit. `now` is in monotonic seconds."""

    def __init__(self) -> None:
        self.state = CircuitState.CLOSED
        self._waves: deque[Wave] = deque()
        self._probed = float("-inf")

    @property
    def passes(self) -> bool:
        """Whether an append may be handed over."""
        return self.state is CircuitState.CLOSED

    @property
    def is_resting(self) -> bool:
        """Whether nothing can happen without another append."""
        return self.state is CircuitState.CLOSED and not self._waves

    def began(self, now: float) -> Wave:
        """Notes an append that is handed over; returns the wave it belongs to."""
        if not self._waves or now - self._waves[-1].since > WAVE_S:
            self._waves.append(Wave(now))
        return self._waves[-1]

    def ended(self, wave: Wave) -> None:
        """Notes that all appends of a wave have their answer, whatever it is, and that it will get no more."""
        wave.ended = True
        while self._waves and self._waves[0].ended:
            self._waves.popleft()
        if self.state is CircuitState.DRAINING and not self._waves:
            self._move(CircuitEvent.DRAINED)

    def tick(self, now: float) -> bool:
        """Opens the circuit when it is time; says whether a probe is to be sent now."""
        if self.state is CircuitState.CLOSED and self._waves and now - self._waves[0].since > OPEN_AFTER_S:
            self._move(CircuitEvent.OVERDUE)
        if self.state is CircuitState.IDLE and now - self._probed >= PROBE_EVERY_S:
            self._move(CircuitEvent.DUE)
            self._probed = now
            return True
        return False

    def probed(self, *, acked: bool) -> None:
        """Notes the answer to the probe. Raises IllegalTransition when none was outstanding."""
        self._move(CircuitEvent.ACKED if acked else CircuitEvent.FAILED)

    def _move(self, event: CircuitEvent) -> None:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise IllegalTransition(self.state, event)
        self.state = after
