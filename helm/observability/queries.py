"""The PromQL expressions that alerts and dashboards share."""

from typing import Final

LOST: Final = "sum(rate(headgate_gap_messages_total[5m]))"  # messages a second that a gap frame skipped
SENT: Final = "sum(rate(headgate_deliveries_total[5m]))"
LOSS: Final = f"{LOST} / ({SENT} + {LOST} > 0)"  # a share; no value while nothing is sent
P95: Final = "histogram_quantile(0.95, sum by (le) (rate(headgate_delivery_seconds_bucket[5m])))"  # seconds
APPEND_P99: Final = "histogram_quantile(0.99, sum by (le) (rate(headgate_append_seconds_bucket[5m])))"  # seconds
UNWRITTEN: Final = 'outcome=~"log_unavailable|outcome_unknown|not_ready"'  # publishes without log or owner
_CANARY_GONE: Final = "sum(increase(headgate_canary_lost_total[5m])) - sum(increase(headgate_canary_found_total[5m]))"
_CANARY_SENT: Final = 'sum(increase(headgate_canary_publishes_total{outcome="accepted"}[5m]))'
CANARY_LOSS: Final = f"clamp_min({_CANARY_GONE}, 0) / ({_CANARY_SENT} > 0)"  # a share of what was accepted


def worst(**shares: str) -> str:
    """Returns the largest of shares, those without a value left out."""
    named = [f'label_replace({share}, "of", "{of}", "", "")' for of, share in shares.items()]
    return f"max({' or '.join(named)})"


ANY_LOSS: Final = worst(gaps=LOSS, canary=CANARY_LOSS)
_CANARY_UNWRITTEN: Final = 'outcome=~"log_unavailable|outcome_unknown|not_ready|unreachable"'
ANY_UNWRITTEN: Final = worst(
    publishers=(
        f"sum(rate(headgate_publishes_total{{{UNWRITTEN}}}[2m])) / (sum(rate(headgate_publishes_total[2m])) > 0)"
    ),
    canary=(
        f"sum(rate(headgate_canary_publishes_total{{{_CANARY_UNWRITTEN}}}[2m]))"
        " / (sum(rate(headgate_canary_publishes_total[2m])) > 0)"
    ),
)
ERRORS: Final = (
    f"sum(rate(headgate_publishes_total{{{UNWRITTEN}}}[5m])) / (sum(rate(headgate_publishes_total[5m])) > 0)"
)
