"""The circuit of one shard: whether an append may still be handed to the log.

It opens when the log has been silent about the oldest append for OPEN_AFTER_S. An append that is refused while it is
open was never handed over and never appears. Once every append has its answer, a probe a second asks whether the log
is back; its acknowledgement closes the circuit. `TRANSITIONS` is the whole machine.
"""

import enum
from collections import deque
from typing import Final

from headgate.core.wire.errors import IllegalTransition

OPEN_AFTER_S: Final = 2.0  # of silence about the oldest append opens it (docs/architecture.md, Bounds)
PROBE_EVERY_S: Final = 1.0
WAVE_S: Final = 0.05  # appends this close together share one age; at 6 s of waiting a shard keeps 120 waves


class CircuitState(enum.StrEnum):
    """The state of a circuit. Appends pass in CLOSED alone."""

    CLOSED = "closed"
    DRAINING = "draining"  # open; earlier appends have no answer yet
    IDLE = "idle"  # open; nothing is outstanding
    PROBING = "probing"  # open; a probe is outstanding


class CircuitEvent(enum.StrEnum):
    """An event in the life of a circuit."""

    OVERDUE = "overdue"  # the log has been silent for more than OPEN_AFTER_S
    DRAINED = "drained"  # the last append has its answer
    DUE = "due"  # the last probe is older than PROBE_EVERY_S
    ACKED = "acked"  # the log has the probe
    FAILED = "failed"  # the log does not have it, or nobody knows


TRANSITIONS: Final[dict[CircuitState, dict[CircuitEvent, CircuitState]]] = {
    CircuitState.CLOSED: {CircuitEvent.OVERDUE: CircuitState.DRAINING},
    CircuitState.DRAINING: {CircuitEvent.DRAINED: CircuitState.IDLE},
    CircuitState.IDLE: {CircuitEvent.DUE: CircuitState.PROBING},
    CircuitState.PROBING: {CircuitEvent.ACKED: CircuitState.CLOSED, CircuitEvent.FAILED: CircuitState.IDLE},
}


class Wave:
    """Appends handed over at about the same time, the first of them at `began`; `excuse` moves `silent_since`."""

    __slots__ = ("began", "ended", "silent_since")

    def __init__(self, began: float) -> None:
        self.began = self.silent_since = began
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
        """Counts an append that is handed over; returns the wave it belongs to."""
        if not self._waves or now - self._waves[-1].began > WAVE_S:
            self._waves.append(Wave(now))
        return self._waves[-1]

    def ended(self, wave: Wave) -> None:
        """Ends a wave: all its appends have an answer, whatever it is, and no append joins it any longer."""
        wave.ended = True
        while self._waves and self._waves[0].ended:
            self._waves.popleft()
        if self.state is CircuitState.DRAINING and not self._waves:
            self._move(CircuitEvent.DRAINED)

    def excuse(self, late_s: float, now: float) -> None:
        """Lets no time count as silence in which this process was late itself: answers may have waited for it."""
        for wave in self._waves:
            wave.silent_since = min(wave.silent_since + late_s, now)

    def tick(self, now: float) -> bool:
        """Opens the circuit when an append is overdue. Returns True when the caller must send a probe now."""
        if self.state is CircuitState.CLOSED and self._waves and now - self._waves[0].silent_since > OPEN_AFTER_S:
            self._move(CircuitEvent.OVERDUE)
        if self.state is CircuitState.IDLE and now - self._probed >= PROBE_EVERY_S:
            self._move(CircuitEvent.DUE)
            self._probed = now
            return True
        return False

    def probed(self, *, acked: bool) -> None:
        """Takes the answer to the probe. Raises IllegalTransition when none is outstanding."""
        self._move(CircuitEvent.ACKED if acked else CircuitEvent.FAILED)

    def _move(self, event: CircuitEvent) -> None:
        after = TRANSITIONS[self.state].get(event)
        if after is None:
            raise IllegalTransition(self.state, event)
        self.state = after
