"""What an alert rule is, with its two tests, as plain values; and the rules and series that several alerts share.

`job="headgate"` and `role` are set where the metrics are scraped: compose/prometheus.yml and the chart's PodMonitor.
A series is promtool's notation: `{0 0 0}x` style values at one a minute.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Literal

Severity = Literal["page", "urgent", "warn", "info"]  # now, today, this week, good to know
Series = dict[str, str]

_MINUTES: Final = {"s": 1 / 60, "m": 1, "h": 60}
RUNBOOK: Final = "docs/operations.md"
DISPATCHER: Final = 'job="headgate",role="dispatcher",instance="dispatcher-0"'
GATEWAY: Final = 'job="headgate",role="gateway",instance="gateway-0"'
INGEST: Final = 'job="headgate",role="ingest",instance="ingest-0"'
CANARY: Final = 'job="headgate",role="canary",instance="canary-0"'


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. `hold` is how long it must be true; the series are what its tests see, `at` when they look."""

    name: str
    expr: str
    hold: str
    severity: Severity
    summary: str
    fires: Series
    quiet: Series
    at: str = "30m"
    also_fires: tuple[Series, ...] = ()
    also_quiet: tuple[Series, ...] = ()

    @property
    def hold_minutes(self) -> int:
        """How many evaluations, one a minute, find it true before it fires."""
        return ceil(int(self.hold[:-1]) * _MINUTES[self.hold[-1]])

    def rule(self) -> dict[str, Any]:
        """Returns the rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook": f"{RUNBOOK}#{self.name.lower()}"},
        }


def above(gauge: str, limit: int, name: str, hold: str, severity: Severity, summary: str, *, at: str = "30m") -> Alert:
    """Returns the alert about a dispatcher whose gauge, a whole number, is above a limit; `at` is in the tests."""
    series = f"{gauge}{{{DISPATCHER}}}"
    return Alert(
        name=name,
        expr=f"max by (instance) ({gauge}) > {limit}",
        hold=hold,
        severity=severity,
        summary=summary,
        fires={series: f"{limit + 1}x90"},
        quiet={series: f"{limit}x90"},
        at=at,
    )


def buckets(histogram: str, labels: str, fast: int, slow: int, bounds: tuple[str, str] = ("0.2", "0.5")) -> Series:
    """Returns a histogram of `fast` a minute up to the first bound in seconds, and `slow` between it and the second."""
    name, both = f'{histogram}_bucket{{{labels},le="%s"}}', fast + slow
    return {name % bounds[0]: f"0+{fast}x40", name % bounds[1]: f"0+{both}x40", name % "+Inf": f"0+{both}x40"}


def up(role: str, *values: str, namespace: str = "") -> Series:
    """Returns `up` of as many pods of a role; their targets have the label `namespace` in a cluster only."""
    more, prefix = (f',namespace="{namespace}"', f"{namespace}-") if namespace else ("", "")
    return {f'up{{job="headgate",role="{role}",instance="{prefix}{role}-{n}"{more}}}': v for n, v in enumerate(values)}
