"""The PromQL expressions that alerts and dashboards share."""

from typing import Final

LOST: Final = "sum(rate(headgate_gap_messages_total[5m]))"  # messages a second that a gap frame skipped
SENT: Final = "sum(rate(headgate_deliveries_total[5m]))"
LOSS: Final = f"{LOST} / ({SENT} + {LOST} > 0)"  # a share; no value while nothing is sent
P95: Final = "histogram_quantile(0.95, sum by (le) (rate(headgate_delivery_seconds_bucket[5m])))"  # seconds
UNWRITTEN: Final = 'outcome=~"log_unavailable|outcome_unknown|not_ready"'  # publishes without log or owner
ERRORS: Final = (
    f"sum(rate(headgate_publishes_total{{{UNWRITTEN}}}[5m])) / (sum(rate(headgate_publishes_total[5m])) > 0)"
)
