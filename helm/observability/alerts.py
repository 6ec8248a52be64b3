"""The alert rules, each with a case in which it fires and one in which it stays quiet.

`job="headgate"` and `role` are set where the metrics are scraped: compose/prometheus.yml and the chart's PodMonitor.
A series is promtool's notation: `{0 0 0}x` style values at one a minute.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from helm.observability.queries import LOST, P95, SENT, UNWRITTEN

Severity = Literal["page", "urgent", "warn"]  # now, today, this week
Series = dict[str, str]

BEFORE: Final = "sum(headgate_sessions offset 10m)"
RUNBOOK: Final = "docs/operations.md"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. `hold` is how long it must be true; the series are what its two tests see, `at` when they look."""

    name: str
    expr: str
    hold: str
    severity: Severity
    summary: str
    fires: Series
    quiet: Series
    at: str = "30m"

    def rule(self) -> dict[str, Any]:
        """Returns the rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook": f"{RUNBOOK}#{self.name.lower()}"},
        }


def up(role: str, *values: str) -> Series:
    """Returns `up` of as many pods of a role."""
    return {f'up{{job="headgate",role="{role}",instance="{role}-{n}"}}': v for n, v in enumerate(values)}


def _lag(name: str, above: int, hold: str, severity: Severity) -> Alert:
    series = 'headgate_log_lag_records{job="headgate",role="dispatcher",instance="dispatcher-0"}'
    return Alert(
        name=name,
        expr=f"max by (instance) (headgate_log_lag_records) > {above}",
        hold=hold,
        severity=severity,
        summary=f"{{{{ $labels.instance }}}} is {{{{ $value }}}} records behind its log (above {above})",
        fires={series: f"{above + 1}x40"},
        quiet={series: f"{above}x40"},
    )


def _latency(fast: int, slow: int) -> Series:
    """Deliveries a minute that took below 0.2 s, and those that took up to 0.5 s."""
    name = 'headgate_delivery_seconds_bucket{job="headgate",role="gateway",profile="durable",le="%s"}'
    both = fast + slow
    return {name % "0.2": f"0+{fast}x40", name % "0.5": f"0+{both}x40", name % "+Inf": f"0+{both}x40"}


_GATEWAY: Final = 'job="headgate",role="gateway",instance="gateway-0"'
_DISPATCHER: Final = 'job="headgate",role="dispatcher",instance="dispatcher-0"'
_INGEST: Final = 'job="headgate",role="ingest",instance="ingest-0",profile="durable"'

ALERTS: Final = (
    Alert(
        name="HeadgateNothingDelivered",
        expr=(
            'sum(rate(headgate_link_messages_total{role=~"gateway|dev",direction="in"}[5m])) > 0'
            " and sum(rate(headgate_deliveries_total[5m])) == 0 and sum(headgate_sessions) > 0"
        ),
        hold="3m",
        severity="page",
        summary="Messages reach the gateways, sessions are open, and nothing is delivered",
        fires={
            f'headgate_link_messages_total{{{_GATEWAY},direction="in"}}': "0+60x40",
            f'headgate_deliveries_total{{{_GATEWAY},profile="durable"}}': "5x40",
            f"headgate_sessions{{{_GATEWAY}}}": "10x40",
        },
        quiet={
            f'headgate_link_messages_total{{{_GATEWAY},direction="in"}}': "0+60x40",
            f'headgate_deliveries_total{{{_GATEWAY},profile="durable"}}': "0+1x40",
            f"headgate_sessions{{{_GATEWAY}}}": "10x40",
        },
    ),
    Alert(
        name="HeadgateLoss",
        expr=f"{LOST} / ({SENT} + {LOST}) > 0.001",
        hold="1m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the messages were skipped by a gap frame (limit: 0.1 %)",
        fires={
            f'headgate_gap_messages_total{{{_GATEWAY},reason="slow_consumer"}}': "0+2x40",
            f'headgate_deliveries_total{{{_GATEWAY},profile="durable"}}': "0+998x40",
        },
        quiet={
            f'headgate_gap_messages_total{{{_GATEWAY},reason="slow_consumer"}}': "0+1x40",
            f'headgate_deliveries_total{{{_GATEWAY},profile="durable"}}': "0+1999x40",
        },
    ),
    Alert(
        name="HeadgatePublishErrors",
        expr=(
            f"sum(rate(headgate_publishes_total{{{UNWRITTEN}}}[2m])) / sum(rate(headgate_publishes_total[2m])) > 0.1"
        ),
        hold="1m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the publishes find no log or no owner (limit: 10 %)",
        fires={
            f'headgate_publishes_total{{{_INGEST},outcome="accepted"}}': "0+80x40",
            f'headgate_publishes_total{{{_INGEST},outcome="log_unavailable"}}': "0+20x40",
        },
        quiet={
            f'headgate_publishes_total{{{_INGEST},outcome="accepted"}}': "0+80x40",
            f'headgate_publishes_total{{{_INGEST},outcome="rate_limited"}}': "0+90x40",
            f'headgate_publishes_total{{{_INGEST},outcome="log_unavailable"}}': "0+5x40",
        },
    ),
    Alert(
        name="HeadgateDispatchersDown",
        expr=(
            '(sum(up{job="headgate",role="dispatcher"}) / count(up{job="headgate",role="dispatcher"}) < 0.2)'
            ' or absent(up{job="headgate",role="dispatcher"})'
        ),
        hold="1m",
        severity="page",
        summary="More than 80 % of the dispatchers do not answer",
        fires=up("dispatcher", "0x40", "0x40"),
        quiet=up("dispatcher", "1x40", "0x40"),
    ),
    Alert(
        name="HeadgateGatewaysLost",
        expr='sum(up{job="headgate",role="gateway"}) / count(up{job="headgate",role="gateway"}) < 0.3',
        hold="1m",
        severity="page",
        summary="Below 30 % of the gateways answer",
        fires=up("gateway", "1x40", "0x40", "0x40", "0x40"),
        quiet=up("gateway", "1x40", "0x40", "0x40"),
    ),
    Alert(
        name="HeadgateGatewaysHalfDown",
        expr='sum(up{job="headgate",role="gateway"}) / count(up{job="headgate",role="gateway"}) < 0.5',
        hold="1m",
        severity="urgent",
        summary="More than half of the gateways do not answer",
        fires=up("gateway", "1x40", "0x40", "0x40"),
        quiet=up("gateway", "1x40", "0x40"),
    ),
    Alert(
        name="HeadgateTargetDown",
        expr='up{job="headgate"} == 0',
        hold="30s",
        severity="urgent",
        summary="{{ $labels.role }} {{ $labels.instance }} does not answer on its admin port",
        fires=up("ingest", "1x10 0x30"),
        quiet=up("ingest", "1x40"),
    ),
    Alert(
        name="HeadgateDeliverySlow",
        expr=f"{P95} > 0.4",
        hold="10m",
        severity="urgent",
        summary="95 % of the deliveries take up to {{ $value | humanizeDuration }} (limit: 0.4 s)",
        fires=_latency(fast=0, slow=100),
        quiet=_latency(fast=90, slow=10),
    ),
    Alert(
        name="HeadgateSessionsFalling",
        expr=f"sum(headgate_sessions) < 0.5 * {BEFORE} and {BEFORE} > 20",
        hold="1m",
        severity="urgent",
        summary="{{ $value }} sessions: less than half of ten minutes ago",
        fires={f"headgate_sessions{{{_GATEWAY}}}": "100x25 49x15"},
        quiet={f"headgate_sessions{{{_GATEWAY}}}": "100x25 51x15"},
    ),
    _lag("HeadgateLogLagPage", 20_000, "1m", "page"),
    _lag("HeadgateLogLagUrgent", 10_000, "1m", "urgent"),
    _lag("HeadgateLogLag", 5_000, "5m", "warn"),
    Alert(
        name="HeadgateDeadLetters",
        expr="sum by (reason) (increase(headgate_dead_letters_total[15m])) > 0",
        hold="0s",
        severity="warn",
        summary="Records or deliveries were given up: {{ $labels.reason }}",
        fires={
            'headgate_dead_letters_total{job="headgate",role="dispatcher",reason="not_json"}': "0x25 3x15",
        },
        quiet={'headgate_dead_letters_total{job="headgate",role="dispatcher",reason="not_json"}': "3x40"},
    ),
    Alert(
        name="HeadgateBreakersOpen",
        expr="sum(max_over_time(headgate_breakers_open[2m])) > 0",
        hold="10m",
        severity="warn",
        summary="{{ $value }} acknowledged subscriptions keep failing and get nothing",
        fires={f"headgate_breakers_open{{{_GATEWAY}}}": "0x10 2x30"},
        quiet={f"headgate_breakers_open{{{_GATEWAY}}}": "0x22 1x3 0x15"},
    ),
    Alert(
        name="HeadgateSnapshotsOld",
        expr="max by (instance) (headgate_snapshot_age_seconds) > 600",
        hold="2m",
        severity="urgent",
        summary="{{ $labels.instance }} has written no snapshot of a shard for {{ $value | humanizeDuration }}",
        fires={f"headgate_snapshot_age_seconds{{{_DISPATCHER}}}": "0+60x40"},
        quiet={f"headgate_snapshot_age_seconds{{{_DISPATCHER}}}": "600x40"},
    ),
    Alert(
        name="HeadgateSnapshotsWrong",
        expr='sum by (instance, reason) (increase(headgate_snapshot_failures_total{reason!="log"}[15m])) > 0',
        hold="0s",
        severity="urgent",
        summary="A snapshot of {{ $labels.instance }} was too large or is not what was written: {{ $labels.reason }}",
        fires={f'headgate_snapshot_failures_total{{{_DISPATCHER},reason="too_large"}}': "0x25 1x15"},
        quiet={
            f'headgate_snapshot_failures_total{{{_DISPATCHER},reason="log"}}': "0+1x40",
            f'headgate_snapshot_failures_total{{{_DISPATCHER},reason="content"}}': "2x40",
        },
    ),
    Alert(
        name="HeadgateDisagreement",
        expr="sum by (instance) (increase(headgate_disagreements_total[1h])) > 0",
        hold="0s",
        severity="urgent",
        summary="{{ $labels.instance }} decided differently from another dispatcher that read the same log",
        fires={
            'headgate_disagreements_total{job="headgate",role="dispatcher",instance="dispatcher-0"}': "0x60 1x40",
        },
        quiet={'headgate_disagreements_total{job="headgate",role="dispatcher",instance="dispatcher-0"}': "1x90"},
        at="80m",
    ),
    Alert(
        name="HeadgateIndexAway",
        expr="max by (instance) (headgate_shards_without_index) > 0",
        hold="5m",
        severity="urgent",
        summary="{{ $labels.instance }} serves {{ $value }} shards without their index: no older history",
        fires={f"headgate_shards_without_index{{{_DISPATCHER}}}": "1x40"},
        quiet={f"headgate_shards_without_index{{{_DISPATCHER}}}": "0x20 1x2 0x20"},
    ),
    Alert(
        name="HeadgateLoopLate",
        expr="max by (role, instance) (headgate_loop_lag_seconds) > 0.25",
        hold="5m",
        severity="warn",
        summary="The event loop of {{ $labels.instance }} runs {{ $value | humanizeDuration }} late",
        fires={f"headgate_loop_lag_seconds{{{_GATEWAY}}}": "0.3x40"},
        quiet={f"headgate_loop_lag_seconds{{{_GATEWAY}}}": "0.2x40"},
    ),
    Alert(
        name="HeadgateShedding",
        expr="max by (instance) (headgate_load) > 0.8",
        hold="5m",
        severity="warn",
        summary="{{ $labels.instance }} has a load of {{ $value }}: it sheds LOW messages to ephemeral topics",
        fires={f"headgate_load{{{_DISPATCHER}}}": "0.9x40"},
        quiet={f"headgate_load{{{_DISPATCHER}}}": "0.7x40"},
    ),
)


def rules() -> dict[str, Any]:
    """Returns the rule file."""
    return {"groups": [{"name": "headgate", "rules": [alert.rule() for alert in ALERTS]}]}


def rule_tests(rule_file: str) -> dict[str, Any]:
    """Returns promtool's test file: every alert fires in one case and stays quiet in its twin."""
    return {
        "rule_files": [rule_file],
        "evaluation_interval": "30s",
        "tests": [_case(alert, fires) for alert in ALERTS for fires in (True, False)],
    }


def _case(alert: Alert, fires: bool) -> dict[str, Any]:
    series = alert.fires if fires else alert.quiet
    firing = f'count by (alertname, severity) (ALERTS{{alertname="{alert.name}",alertstate="firing"}})'
    count = 1 if fires else 0
    labels = f'{{alertname="{alert.name}",severity="{alert.severity}"}}'
    return {
        "name": f"{alert.name} {'fires' if fires else 'stays quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": alert.at, "exp_samples": [{"labels": labels, "value": count}] * count}
        ],
    }
