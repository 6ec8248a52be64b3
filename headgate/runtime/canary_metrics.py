"""What a canary measures (`headgate canary`), as plain numbers."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from headgate.core.wire.errors import CODES
from headgate.runtime.metric_families import CounterFamily, HistogramFamily

ACCEPTED: Final = "accepted"
UNREACHABLE: Final = "unreachable"  # no answer
OTHER: Final = "other"  # an answer that is not ours, such as a proxy's
OUTCOMES: Final = (ACCEPTED, UNREACHABLE, OTHER, "log_unavailable", "not_ready", "outcome_unknown", "rate_limited")
# p50 to p99 of a delivery within 0.2 s can be read from them; the last are for what is late.
BOUNDS: Final = (
    *(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    *(0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)


class CanaryMetrics:
    """The counters of one canary."""

    def __init__(self) -> None:
        self._published = CounterFamily(
            "headgate_canary_publishes_total",
            "Messages that the canary published, by outcome.",
            ("outcome",),
            [(outcome,) for outcome in OUTCOMES],
        )
        self._seconds = HistogramFamily(
            "headgate_canary_delivery_seconds",
            "From before the publish to the arrival over the WebSocket, on the canary's own clock.",
            (),
            [()],
            BOUNDS,
        )
        self._counters = {
            name: CounterFamily(f"headgate_canary_{name}_total", text)
            for name, text in (
                ("received", "Messages that came back, each counted once."),
                ("late", "Messages that came back after more than canary.late_s."),
                ("lost", "Accepted messages that had not come back after canary.lost_s."),
                ("found", "Messages that came back after they had been counted as lost."),
                ("repeated", "Messages that came again."),
                ("disordered", "Messages that came behind a later one of the same topic."),
                ("skipped", "Messages that were due and not sent: too many publishes waited for an answer."),
                ("restarts", "Times that the canary had to begin again: its subscription or its connection ended."),
            )
        }

    def published(self, outcome: str) -> None:
        """Counts a publish by its outcome: one of ours, or a code of the protocol; others are `other`."""
        self._published.add((outcome if outcome in OUTCOMES or outcome in CODES else OTHER,), 1)

    def received(self, seconds: float, *, late: bool, found: bool, disordered: bool) -> None:
        """Counts the first arrival of a message, `seconds` after its publish began."""
        self._seconds.observe((), 1, seconds)
        self._add("received", 1)
        for name, is_so in (("late", late), ("found", found), ("disordered", disordered)):
            self._add(name, int(is_so))

    def repeated(self) -> None:
        """Counts a message that came again."""
        self._add("repeated", 1)

    def lost(self, count: int) -> None:
        """Counts messages that are given up."""
        self._add("lost", count)

    def skipped(self) -> None:
        """Counts a message that was due and not sent."""
        self._add("skipped", 1)

    def restarted(self) -> None:
        """Counts a new beginning."""
        self._add("restarts", 1)

    def outcomes(self) -> dict[str, int]:
        """Returns publishes by outcome."""
        return {outcome: count for (outcome,), count in self._published.values.items()}

    def counted(self) -> dict[str, int]:
        """Returns the other counters by name: received, late, lost and so on."""
        return {name: counter.values[()] for name, counter in self._counters.items()}

    def families(self) -> Iterator[Metric]:
        """Yields every family."""
        yield self._published.family()
        yield self._seconds.family()
        for counter in self._counters.values():
            yield counter.family()

    def _add(self, name: str, count: int) -> None:
        self._counters[name].add((), count)
