"""What the rows DASH-1 to DASH-12 of docs/project/requirements.md ask for is in the dashboards, with its limits."""

import json
from typing import Any

import pytest

from tests.deploy.places import CHART

DELIVERY = "sum by (le) (rate(headgate_delivery_seconds_bucket[$__rate_interval])))"
APPEND = "sum by (le) (rate(headgate_append_seconds_bucket[5m])))"
SENT = 'sum(rate(headgate_publishes_total{outcome="accepted"}'
DELIVERED = "sum(rate(headgate_deliveries_total"
ROWS: list[tuple[str, str, str, dict[str, str], tuple[float, ...]]] = [
    ("DASH-1", "health", "Messages sent and delivered",
     {"sent a second": f"{SENT}[$__rate_interval]))", "delivered a second": f"{DELIVERED}[$__rate_interval]))"}, ()),
    ("DASH-1", "health", "Messages a second, 24 h rolling",
     {"sent": f"{SENT}[24h]))", "delivered": f"{DELIVERED}[24h]))"}, ()),
    ("DASH-2", "health", "Sessions",
     {"now": "sum(headgate_sessions)", "1 h average": "avg_over_time(sum(headgate_sessions)[1h:1m])",
      "24 h maximum": "max_over_time(sum(headgate_sessions)[24h:5m])"}, ()),
    ("DASH-3", "health", "Delivery",
     {name: f"histogram_quantile({share}, {DELIVERY}" for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
     (0.2, 0.5)),
    ("DASH-4", "health", "Loss",
     {"gap frames": "sum(rate(headgate_missed_messages_total[5m])) / "
                    '(sum(rate(headgate_deliveries_total{profile="durable"}[5m])) + '
                    "sum(rate(headgate_missed_messages_total[5m])) > 0)",
      "canary": "clamp_min(sum(increase(headgate_canary_lost_total[5m])) - "
                "sum(increase(headgate_canary_found_total[5m])), 0) / "
                '(sum(increase(headgate_canary_publishes_total{outcome="accepted"}[5m])) > 0)'},
     (0.0005, 0.001)),
    ("DASH-5", "components", "Queue depth by shard",
     {"shard {{shard}}": "sum by (shard) (headgate_shard_depth)"}, (10_000, 50_000)),
    ("DASH-6", "components", "Log lag by dispatcher",
     {"{{instance}}": "sum by (instance) (headgate_log_lag_records)"}, (5_000, 20_000)),
    ("DASH-7", "components", "Inbox backlog, top ten users",
     {"{{user_id}}": "topk(10, max by (user_id) (headgate_top_inbox_backlog))"}, (1_000, 5_000)),
    ("DASH-8", "components", "Written to the store",
     {"appended": "sum(rate(headgate_appends_total[$__rate_interval]))",
            "{{log}}": "sum by (log) (rate(headgate_log_records_read_total[$__rate_interval])) > 0",}, ()),
    ("DASH-8", "components", "Replication lag", {"p99": f"histogram_quantile(0.99, {APPEND}"}, (1.0, 5.0)),
    ("DASH-8", "components", "Replicas that are behind",
     {"partitions": "sum(kafka_server_replicamanager_underreplicatedpartitions)"}, (1.0,)),
    ("DASH-9", "topics", "Top ten by members",
     {"{{topic_id}}": "topk(10, max by (topic_id) (headgate_top_topic_members))"}, ()),
    ("DASH-10", "topics", "Top ten by messages an hour",
     {"{{topic_id}}": "topk(10, max by (topic_id) (headgate_top_topic_messages_per_hour))"}, ()),
    ("DASH-11", "topics", "Topics by way of delivery",
     {"pushed directly": "sum(headgate_topics_direct)", "inbox": "sum(headgate_topics_inbox)",
      "paced": "sum(headgate_topics_paced)"}, ()),
    ("DASH-12", "topics", "Top ten by failed deliveries",
     {"{{topic_id}}": "topk(10, max by (topic_id) (headgate_top_topic_failures))"}, ()),
]  # fmt: skip


def panel(page: str, title: str) -> dict[str, Any]:
    shown = json.loads((CHART / "files" / "dashboards" / f"{page}.json").read_bytes())
    found: list[dict[str, Any]] = [panel for panel in shown["panels"] if panel["title"] == title]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("row", "page", "title", "wanted", "limits"), ROWS, ids=[f"{r[0]}-{r[2]}" for r in ROWS])
def test_the_panel_of_a_row_asks_for_what_the_row_says(
    row: str, page: str, title: str, wanted: dict[str, str], limits: tuple[float, ...]
) -> None:
    found = panel(page, title)
    assert {target["legendFormat"]: target["expr"] for target in found["targets"]} == wanted
    steps = found["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert tuple(step["value"] for step in steps[1:]) == limits


def test_every_row_has_a_panel() -> None:
    assert {row for row, *_ in ROWS} == {f"DASH-{number}" for number in range(1, 13)}
