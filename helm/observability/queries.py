"""The PromQL expressions that alerts and dashboards share."""

from typing import Final

# Durable messages a second: ephemeral ones may be skipped, and those below the retention are not lost but old.
LOST: Final = "sum(rate(headgate_skipped_messages_total[5m]))"
SENT: Final = 'sum(rate(headgate_deliveries_total{profile="durable"}[5m]))'
LOSS: Final = f"{LOST} / ({SENT} + {LOST} > 0)"  # a share; no value while nothing is sent
P95: Final = "histogram_quantile(0.95, sum by (le) (rate(headgate_delivery_seconds_bucket[5m])))"  # seconds
APPEND_P99: Final = "histogram_quantile(0.99, sum by (le) (rate(headgate_append_seconds_bucket[5m])))"  # seconds
UNWRITTEN: Final = 'profile="durable",outcome=~"log_unavailable|outcome_unknown|not_ready"'  # without log or owner
TO_WRITE: Final = 'profile="durable",outcome=~"accepted|log_unavailable|outcome_unknown|not_ready"'
_CANARY_GONE: Final = "sum(increase(headgate_canary_lost_total[5m])) - sum(increase(headgate_canary_found_total[5m]))"
_CANARY_SENT: Final = 'sum(increase(headgate_canary_publishes_total{outcome="accepted"}[5m]))'
CANARY_LOSS: Final = f"clamp_min({_CANARY_GONE}, 0) / ({_CANARY_SENT} > 0)"  # a share of what was accepted


def healthy(role: str) -> str:
    """Returns the share of a role's processes that answer and are ready: of the most there were in ten minutes.

    0 where there is none any more. No value for `headgate dev`, which is all roles in one.
    """
    there = f'up{{job="headgate",role="{role}"}}'
    return (
        f"(count(({there} == 1) unless on (instance) (headgate_ready == 0)) or vector(0))"
        f" / (max_over_time(count({there})[10m:1m]) or vector(1))"
        ' unless on () count(up{job="headgate",role="dev"})'
    )


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
