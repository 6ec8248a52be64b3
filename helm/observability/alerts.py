"""The alert rules, each with cases in which it fires and in which it stays quiet."""

from collections.abc import Iterator
from typing import Any, Final

from helm.observability.alert import CANARY, DISPATCHER, GATEWAY, INGEST, Alert, Series, Severity, above, buckets, up
from helm.observability.capacity_alerts import CAPACITY
from helm.observability.queries import ANY_LOSS, ANY_UNWRITTEN, APPEND_P99, P95, REPLICAS_BEHIND
from helm.observability.role_alerts import ROLES

EPHEMERAL_SENT: Final = f'headgate_deliveries_total{{{GATEWAY},profile="ephemeral"}}'
BEFORE: Final = "sum(headgate_sessions offset 10m)"


def _loss(name: str, above: float, severity: Severity, *, lost: int, of: int) -> Alert:
    """`lost` of `of` messages a minute is above the limit; half of it, by gaps and of the canary's, is not."""
    gaps = f"headgate_missed_messages_total{{{GATEWAY}}}"
    sent = f'headgate_deliveries_total{{{GATEWAY},profile="durable"}}'
    accepted = f'headgate_canary_publishes_total{{{CANARY},outcome="accepted"}}'
    missing, found = f"headgate_canary_lost_total{{{CANARY}}}", f"headgate_canary_found_total{{{CANARY}}}"
    rare = f"0+{lost}x40"
    return Alert(
        name=name,
        expr=f"{ANY_LOSS} > {above:.5g}",
        hold="1m",
        severity=severity,
        summary="{{ $value | humanizePercentage }} of the messages were skipped by a gap frame, or lost by the canary",
        fires={gaps: "0x40", sent: "0+1000x40", accepted: f"0+{of}x40", missing: rare, found: "0x40"},
        also_fires=({gaps: rare, sent: f"0+{of - lost}x40", EPHEMERAL_SENT: "0+1000000x40"},),
        quiet={
            gaps: rare, sent: f"0+{4 * lost / above:.0f}x40", accepted: "0+60x40", missing: "0+5x40", found: "0+5x40",
        },
    )  # fmt: skip


_DURABLE: Final = 'profile="durable"'
_LAG: Final = "{{ $labels.instance }} is {{ $value }} records behind its log"
_BACKLOG: Final = "A user of {{ $labels.instance }} has {{ $value }} unread messages"

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
            f'headgate_link_messages_total{{{GATEWAY},direction="in"}}': "0+60x40",
            f'headgate_deliveries_total{{{GATEWAY},profile="durable"}}': "5x40",
            f"headgate_sessions{{{GATEWAY}}}": "10x40",
        },
        quiet={
            f'headgate_link_messages_total{{{GATEWAY},direction="in"}}': "0+60x40",
            f'headgate_deliveries_total{{{GATEWAY},profile="durable"}}': "0+1x40",
            f"headgate_sessions{{{GATEWAY}}}": "10x40",
        },
    ),
    _loss("HeadgateLoss", 0.001, "page", lost=2, of=1000),
    _loss("HeadgateLossUrgent", 0.0005, "urgent", lost=1, of=1600),
    _loss("HeadgateLossWarn", 0.0001, "warn", lost=1, of=8000),
    Alert(
        name="HeadgatePublishErrors",
        expr=f"{ANY_UNWRITTEN} > 0.1",
        hold="1m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the publishes find no log or no owner (limit: 10 %)",
        fires={
            f'headgate_publishes_total{{{INGEST},{_DURABLE},outcome="accepted"}}': "0+80x40",
            f'headgate_publishes_total{{{INGEST},{_DURABLE},outcome="log_unavailable"}}': "0+20x40",
            f'headgate_publishes_total{{{INGEST},profile="ephemeral",outcome="accepted"}}': "0+9000x40",
        },
        quiet={
            f'headgate_publishes_total{{{INGEST},{_DURABLE},outcome="accepted"}}': "0+80x40",
            f'headgate_publishes_total{{{INGEST},{_DURABLE},outcome="rate_limited"}}': "0+90x40",
            f'headgate_publishes_total{{{INGEST},{_DURABLE},outcome="log_unavailable"}}': "0+5x40",
        },
    ),
    *ROLES,
    Alert(
        name="HeadgateGatewayUnreachable",
        expr="max by (instance) (headgate_gateways_unreachable) > 0",
        hold="2m",
        severity="warn",
        summary="{{ $labels.instance }} cannot reach {{ $value }} gateways; their clients find messages in the inbox",
        fires={f"headgate_gateways_unreachable{{{DISPATCHER}}}": "0x10 1x30"},
        quiet={f"headgate_gateways_unreachable{{{DISPATCHER}}}": "0x28 1x1 0x12"},
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
        fires=buckets("headgate_delivery_seconds", f"{GATEWAY},{_DURABLE}", fast=94, slow=6, bounds=("0.4", "0.5")),
        quiet=buckets("headgate_delivery_seconds", f"{GATEWAY},{_DURABLE}", fast=96, slow=4, bounds=("0.4", "0.5")),
    ),
    Alert(
        name="HeadgateReplicationLag",
        expr=f"{APPEND_P99} > 5",
        hold="2m",
        severity="urgent",
        summary="1 % of the appends wait {{ $value | humanizeDuration }} or more for all in-sync replicas (limit: 5 s)",
        fires=buckets("headgate_append_seconds", INGEST, fast=98, slow=2, bounds=("5.0", "10.0")),
        quiet=buckets("headgate_append_seconds", INGEST, fast=995, slow=5, bounds=("5.0", "10.0")),
    ),
    Alert(
        name="HeadgateReplicasBehind",
        expr=f"{REPLICAS_BEHIND} > 0",
        hold="10m",
        severity="warn",
        summary="{{ $value }} partitions of Kafka have a replica that is not in sync",
        fires={"kafka_server_replicamanager_underreplicatedpartitions{pod=\"kafka-0\"}": "0x10 3x30"},
        quiet={"kafka_server_replicamanager_underreplicatedpartitions{pod=\"kafka-0\"}": "0x22 3x3 0x15"},
    ),
    Alert(
        name="HeadgateSessionsFalling",
        expr=f"(sum(headgate_sessions) or vector(0)) < 0.5 * {BEFORE} and {BEFORE} > 20",
        hold="1m",
        severity="urgent",
        summary="{{ $value }} sessions: less than half of ten minutes ago",
        fires={f"headgate_sessions{{{GATEWAY}}}": "100x25 49x15"},
        also_fires=({f"headgate_sessions{{{GATEWAY}}}": "100x25 stale _x14"},),
        quiet={f"headgate_sessions{{{GATEWAY}}}": "100x25 51x15"},
    ),
    above("headgate_log_lag_records", 20_000, "HeadgateLogLagPage", "1m", "page", _LAG),
    above("headgate_log_lag_records", 10_000, "HeadgateLogLagUrgent", "1m", "urgent", _LAG),
    above("headgate_log_lag_records", 5_000, "HeadgateLogLag", "5m", "warn", _LAG),
    above("headgate_inbox_backlog_max", 5_000, "HeadgateInboxBacklogUrgent", "5m", "urgent", _BACKLOG),
    above("headgate_inbox_backlog_max", 1_000, "HeadgateInboxBacklog", "5m", "warn", _BACKLOG),
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
        fires={f"headgate_breakers_open{{{GATEWAY}}}": "0x10 2x30"},
        quiet={f"headgate_breakers_open{{{GATEWAY}}}": "0x22 1x3 0x15"},
    ),
    above(
        "headgate_snapshot_age_seconds", 600, "HeadgateSnapshotsOld", "2m", "urgent",
        "{{ $labels.instance }} has written no snapshot of a shard for {{ $value | humanizeDuration }}",
    ),
    Alert(
        name="HeadgateSnapshotsWrong",
        expr='sum by (instance, reason) (increase(headgate_snapshot_failures_total{reason!="log"}[15m])) > 0',
        hold="0s",
        severity="urgent",
        summary="A snapshot of {{ $labels.instance }} was too large or is not what was written: {{ $labels.reason }}",
        fires={f'headgate_snapshot_failures_total{{{DISPATCHER},reason="too_large"}}': "0x25 1x15"},
        quiet={
            f'headgate_snapshot_failures_total{{{DISPATCHER},reason="log"}}': "0+1x40",
            f'headgate_snapshot_failures_total{{{DISPATCHER},reason="content"}}': "2x40",
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
        fires={f"headgate_shards_without_index{{{DISPATCHER}}}": "1x40"},
        quiet={f"headgate_shards_without_index{{{DISPATCHER}}}": "0x20 1x2 0x20"},
    ),
    Alert(
        name="HeadgateLoopLate",
        expr="max by (role, instance) (headgate_loop_lag_seconds) > 0.25",
        hold="5m",
        severity="warn",
        summary="The event loop of {{ $labels.instance }} runs {{ $value | humanizeDuration }} late",
        fires={f"headgate_loop_lag_seconds{{{GATEWAY}}}": "0.3x40"},
        quiet={f"headgate_loop_lag_seconds{{{GATEWAY}}}": "0.2x40"},
    ),
    Alert(
        name="HeadgateShedding",
        expr="max by (instance) (headgate_load) > 0.8",
        hold="5m",
        severity="warn",
        summary="{{ $labels.instance }} has a load of {{ $value }}: it sheds LOW messages to ephemeral topics",
        fires={f"headgate_load{{{DISPATCHER}}}": "0.9x40"},
        quiet={f"headgate_load{{{DISPATCHER}}}": "0.7x40"},
    ),
    *CAPACITY,
)  # fmt: skip


def rules() -> dict[str, Any]:
    """Returns the rule file."""
    return {"groups": [{"name": "headgate", "rules": [alert.rule() for alert in ALERTS]}]}


def rule_tests(rule_file: str) -> dict[str, Any]:
    """Returns promtool's test file: cases in which each alert fires, and in which it stays quiet."""
    return {
        "rule_files": [rule_file],
        "evaluation_interval": "1m",
        "tests": [case for alert in ALERTS for case in _cases(alert)],
    }


def _cases(alert: Alert) -> Iterator[dict[str, Any]]:
    for series in (alert.fires, *alert.also_fires):
        yield _case(alert, series, fires=True)
    for series in (alert.quiet, *alert.also_quiet):
        yield _case(alert, series, fires=False)


def _case(alert: Alert, series: Series, *, fires: bool) -> dict[str, Any]:
    """One case of promtool. Where the alert fires, it has to have been pending for as long as it holds."""
    firing = f'count by (alertname, severity) (ALERTS{{alertname="{alert.name}",alertstate="firing"}})'
    labels = f'{{alertname="{alert.name}",severity="{alert.severity}"}}'
    expected = [(firing, labels, 1)] if fires else [(firing, "", 0)]
    if fires and alert.hold_minutes:
        pending = f'max(count_over_time(ALERTS{{alertname="{alert.name}",alertstate="pending"}}[5h]))'
        expected.append((pending, "{}", alert.hold_minutes))
    return {
        "name": f"{alert.name} {'fires' if fires else 'stays quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": query, "eval_time": alert.at, "exp_samples": [{"labels": labels, "value": value}] * bool(value)}
            for query, labels, value in expected
        ],
    }
