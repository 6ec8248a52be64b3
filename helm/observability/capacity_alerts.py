"""Alerts about depth, slow reads, disks, growth and order: what is not yet an outage."""

from typing import Final

from helm.observability.alert import CANARY, DISPATCHER, GATEWAY, INGEST, Alert, Series, above, buckets
from helm.observability.queries import P95

WEEK_S: Final = 604_800
DAYS: Final = "[3d:1h]"
ENOUGH: Final = 3  # hours of measurements before a forecast is made
# Volumes of Kafka and of dispatchers, as the kubelet reports them; without it the file systems that node-exporter sees.
VOLUMES: Final = 'persistentvolumeclaim=~".*kafka.*|.*dispatcher.*"'
MOUNTS: Final = 'mountpoint=~".*(kafka|headgate).*"'
_USED: Final = f"kubelet_volume_stats_used_bytes{{{VOLUMES}}}"
_CAPACITY: Final = f"kubelet_volume_stats_capacity_bytes{{{VOLUMES}}}"
_VOLUME: Final = 'namespace="kafka",persistentvolumeclaim="data-0-events-kafka-0"'
_DEPTH: Final = "{{ $value }} messages wait in the queues of one shard of {{ $labels.instance }}"
_ACCEPTED: Final = 'headgate_publishes_total{outcome="accepted"}'


def _forecast(series: str) -> str:
    """Returns what a series leads to in a week; no value before ENOUGH hours were measured."""
    return f"(predict_linear({series}{DAYS}, {WEEK_S}) and count_over_time({series}{DAYS}) >= {ENOUGH})"


def _volume(later: int) -> Series:
    """The messages of ingest: 60 a minute for 75 minutes, then `later` a minute; quick deliveries."""
    bucket = f'headgate_delivery_seconds_bucket{{{GATEWAY},profile="durable",le="%s"}}'
    publishes = f'headgate_publishes_total{{{INGEST},profile="durable",outcome="accepted"}}'
    return {
        publishes: f"0+60x75 {4_500 + later}+{later}x60",
        bucket % "0.2": "0+100x140",
        bucket % "+Inf": "0+100x140",
    }


CAPACITY: Final = (
    above("headgate_shard_depth_max", 50_000, "HeadgateShardDepthUrgent", "1m", "urgent", _DEPTH),
    above("headgate_shard_depth_max", 10_000, "HeadgateShardDepth", "1h", "warn", _DEPTH, at="80m"),
    Alert(
        name="HeadgateReadsSlow",
        expr="histogram_quantile(0.95, sum by (le) (rate(headgate_read_seconds_bucket[5m]))) > 0.2",
        hold="10m",
        severity="warn",
        summary="95 % of the requests for history take up to {{ $value | humanizeDuration }}",
        fires=buckets("headgate_read_seconds", INGEST, fast=90, slow=10),
        quiet=buckets("headgate_read_seconds", INGEST, fast=96, slow=4),
    ),
    Alert(
        name="HeadgateOrderBroken",
        expr=(
            "sum by (instance) (increase(headgate_canary_repeated_total[1h])"
            " + increase(headgate_canary_disordered_total[1h])) > 0"
        ),
        hold="0s",
        severity="urgent",
        summary="{{ $labels.instance }} got messages twice, or in the wrong order",
        fires={f"headgate_canary_repeated_total{{{CANARY}}}": "0x25 1x15",
               f"headgate_canary_disordered_total{{{CANARY}}}": "0x40"},
        quiet={f"headgate_canary_repeated_total{{{CANARY}}}": "1x40",
               f"headgate_canary_disordered_total{{{CANARY}}}": "2x40"},
    ),
    Alert(
        name="HeadgateStoreDisk",
        expr=(
            f"max by (namespace, persistentvolumeclaim, instance, mountpoint) ({_USED} / {_CAPACITY}"
            f" or 1 - node_filesystem_avail_bytes{{{MOUNTS}}} / node_filesystem_size_bytes{{{MOUNTS}}}) > 0.7"
        ),
        hold="5m",
        severity="warn",
        summary="{{ $labels.persistentvolumeclaim }}{{ $labels.mountpoint }} is {{ $value | humanizePercentage }} full",
        fires={f"kubelet_volume_stats_used_bytes{{{_VOLUME}}}": "71x40",
               f"kubelet_volume_stats_capacity_bytes{{{_VOLUME}}}": "100x40"},
        quiet={f"kubelet_volume_stats_used_bytes{{{_VOLUME}}}": "70x40",
               f"kubelet_volume_stats_capacity_bytes{{{_VOLUME}}}": "100x40"},
    ),
    Alert(
        name="HeadgateSessionsForecast",
        expr=f"{_forecast('sum(headgate_sessions)')} / sum(headgate_sessions_limit) > 0.8",
        hold="30m",
        severity="info",
        summary="At this pace the sessions are {{ $value | humanizePercentage }} of what the gateways take in 7 days",
        fires={f"headgate_sessions{{{GATEWAY}}}": "1000+1x260", f"headgate_sessions_limit{{{GATEWAY}}}": "10000x260"},
        quiet={f"headgate_sessions{{{GATEWAY}}}": "1000x260", f"headgate_sessions_limit{{{GATEWAY}}}": "10000x260"},
        at="4h",
    ),
    Alert(
        name="HeadgateMemoryForecast",
        expr=(
            f"max by (role) ({_forecast('process_resident_memory_bytes')}"
            " / (headgate_memory_limit_bytes > 0)) > 0.8"
        ),
        hold="30m",
        severity="info",
        summary="At this pace a {{ $labels.role }} uses {{ $value | humanizePercentage }} of its memory in 7 days",
        fires={f"process_resident_memory_bytes{{{DISPATCHER}}}": "1000+1x260",
               f"headgate_memory_limit_bytes{{{DISPATCHER}}}": "10000x260"},
        quiet={f"process_resident_memory_bytes{{{DISPATCHER}}}": "1000+1x260",
               f"headgate_memory_limit_bytes{{{DISPATCHER}}}": "0x260"},
        at="4h",
    ),
    Alert(
        name="HeadgateDiskForecast",
        expr=f"max by (namespace, persistentvolumeclaim) ({_forecast(_USED)} / {_CAPACITY}) > 0.8",
        hold="30m",
        severity="info",
        summary="At this pace {{ $labels.persistentvolumeclaim }} is {{ $value | humanizePercentage }} full in 7 days",
        fires={f"kubelet_volume_stats_used_bytes{{{_VOLUME}}}": "1000+1x260",
               f"kubelet_volume_stats_capacity_bytes{{{_VOLUME}}}": "10000x260"},
        quiet={f"kubelet_volume_stats_used_bytes{{{_VOLUME}}}": "1000x100 1000+1x20 1020x140",
               f"kubelet_volume_stats_capacity_bytes{{{_VOLUME}}}": "10000x260"},
        at="4h",
    ),
    Alert(
        name="HeadgateLargeTopic",
        expr="sum(headgate_topics_large) - max_over_time(sum(headgate_topics_large)[1h:1m] offset 10m) > 0",
        hold="1m",
        severity="info",
        summary="{{ $value }} more topics than in the last hour have above 5,000 members",
        fires={f"headgate_topics_large{{{DISPATCHER}}}": "2x25 3x15"},
        quiet={f"headgate_topics_large{{{DISPATCHER}}}": "3x10 0x10 3x20"},
    ),
    Alert(
        name="HeadgateVolumeTripled",
        expr=(
            f"(sum(rate({_ACCEPTED}[30m])) / (avg_over_time(sum(rate({_ACCEPTED}[5m]))[1d:10m] offset 1h) > 0.1)"
            f" unless {P95} > 0.2) > 3"
        ),
        hold="10m",
        severity="info",
        summary="{{ $value | humanize }} times the messages of the day before, and deliveries are as quick as ever",
        fires=_volume(later=240),
        quiet=_volume(later=150),
        at="120m",
    ),
)  # fmt: skip
