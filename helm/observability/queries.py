"""The PromQL expressions that alerts and dashboards share."""

from typing import Final

# Durable messages a second: ephemeral ones may be skipped, and those below the retention are not lost but old.
LOST: Final = "sum(rate(headgate_missed_messages_total[5m]))"
SENT: Final = 'sum(rate(headgate_deliveries_total{profile="durable"}[5m]))'
LOSS: Final = f"{LOST} / ({SENT} + {LOST} > 0)"  # a share; no value while nothing is sent
# Seconds; the slower profile's, since many quick deliveries of one must not hide slow ones of the other.
P95: Final = "max(histogram_quantile(0.95, sum by (le, profile) (rate(headgate_delivery_seconds_bucket[5m]))))"
APPEND_P99: Final = "histogram_quantile(0.99, sum by (le) (rate(headgate_append_seconds_bucket[5m])))"  # seconds
# What kube-state-metrics says of the chart's workloads, whose names end like this unless `fullnameOverride` is set.
REPLICAS: Final = {
    "ingest": ("deployment", 'kube_deployment_spec_replicas{deployment=~".*headgate.*ingest"}'),
    "gateway": ("deployment", 'kube_deployment_spec_replicas{deployment=~".*headgate.*gateway"}'),
    "dispatcher": ("statefulset", 'kube_statefulset_replicas{statefulset=~".*headgate.*dispatcher"}'),
}
_ROLES: Final = 'up{job="headgate",role=~"ingest|dispatcher|gateway"}'
# What Kafka's own exporter says; Strimzi's has this name.
REPLICAS_BEHIND: Final = "sum(kafka_server_replicamanager_underreplicatedpartitions)"
UNWRITTEN: Final = 'profile="durable",outcome=~"log_unavailable|outcome_unknown|not_ready"'  # without log or owner
TO_WRITE: Final = 'profile="durable",outcome=~"accepted|log_unavailable|outcome_unknown|not_ready"'
_CANARY_GONE: Final = "sum(increase(headgate_canary_lost_total[5m])) - sum(increase(headgate_canary_found_total[5m]))"
_CANARY_SENT: Final = 'sum(increase(headgate_canary_publishes_total{outcome="accepted"}[5m]))'
CANARY_LOSS: Final = f"clamp_min({_CANARY_GONE}, 0) / ({_CANARY_SENT} > 0)"  # a share of what was accepted


def healthy(role: str) -> str:
    """Returns the share of a role's processes that answer and are ready, of each namespace; none for `headgate dev`.

    It is a share of the replicas that are asked for, where kube-state-metrics tells them, and else of the most there
    were in ten minutes. Where there is none, and other roles are: 0. Where the targets have no label `namespace`, all
    are one.
    """
    there = f'up{{job="headgate",role="{role}"}}'
    ready = f"{there} == 1 unless on (instance) (max by (instance) (headgate_ready) == 0)"
    seen = f"count by (namespace) (last_over_time({_ROLES}[1d]))"  # by this Prometheus: others scrape other releases
    most = f"max_over_time(count by (namespace) ({there})[10m:1m])"
    return (
        f"(count by (namespace) ({ready}) or 0 * {seen})"
        f" / ({_wanted(role)} and on (namespace) {seen} or {most} or 0 * count by (namespace) ({_ROLES}) + 1)"
    )


def _wanted(role: str) -> str:
    """Returns the replicas that are asked for: by namespace, and of all for targets without that label.

    There may be two kube-state-metrics. More that were asked for in the last ten minutes are still starting.
    """
    kind, series = REPLICAS[role]
    now = f"max by (namespace, {kind}) ({series})"
    before = f"max by (namespace, {kind}) ({series} offset 10m)"
    least = f"({before} < {now} or {now})"
    return f"(sum by (namespace) {least} or sum{least})"


def worst(**shares: str) -> str:
    """Returns the largest of shares, those without a value left out."""
    named = [f'label_replace({share}, "of", "{of}", "", "")' for of, share in shares.items()]
    return f"max({' or '.join(named)})"


ANY_LOSS: Final = worst(gaps=LOSS, canary=CANARY_LOSS)
_CANARY_UNWRITTEN: Final = 'outcome=~"log_unavailable|outcome_unknown|not_ready|unreachable"'
ANY_UNWRITTEN: Final = worst(
    publishers=(
        f"sum(rate(headgate_publishes_total{{{UNWRITTEN}}}[2m]))"
        f" / (sum(rate(headgate_publishes_total{{{TO_WRITE}}}[2m])) > 0)"
    ),
    canary=(
        f"sum(rate(headgate_canary_publishes_total{{{_CANARY_UNWRITTEN}}}[2m]))"
        " / (sum(rate(headgate_canary_publishes_total[2m])) > 0)"
    ),
)
ERRORS: Final = (
    f"sum(rate(headgate_publishes_total{{{UNWRITTEN}}}[5m]))"
    f" / (sum(rate(headgate_publishes_total{{{TO_WRITE}}}[5m])) > 0)"
)
