"""The Grafana dashboards as plain JSON values, built from a short table."""

from dataclasses import dataclass
from typing import Any, Final

from helm.observability.queries import ERRORS, LOSS, P95

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION: Final = 41
WIDTH: Final = 24
ROLE: Final = 'job="headgate"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries as (legend, PromQL), thresholds as (value, colour) from the first above 0."""

    title: str
    queries: tuple[tuple[str, str], ...]
    description: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    thresholds: tuple[tuple[float, str], ...] = ()


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    grouped = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (
            f"p{round(q * 100)}{legend}",
            f"histogram_quantile({q}, sum by ({grouped}) (rate({metric}_bucket[$__rate_interval])))",
        )
        for q in (0.5, 0.95, 0.99)
    )


SLICES: Final = "headgate_slice_seconds_bucket"
FAILED: Final = 'outcome!~"accepted|duplicate"'
GREEN_OVER: Final = ((1.0, "green"),)

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Now",
        (
            Panel(
                "Sessions", (("", "sum(headgate_sessions)"),), "Client connections, all gateways.", kind="stat",
                width=4, height=4,
            ),
            Panel(
                "Published", (("", "sum(rate(headgate_publishes_total[5m]))"),), "Messages offered a second.",
                "ops", "stat", 4, 4,
            ),
            Panel(
                "Delivered", (("", "sum(rate(headgate_deliveries_total[5m]))"),), "Message frames written a second.",
                "ops", "stat", 4, 4,
            ),
            Panel(
                "Delivery p95", (("", P95),), "Append to write. Target 0.2 s, alert 0.4 s.", "s", "stat", 4, 4,
                ((0.2, "yellow"), (0.4, "red")),
            ),
            Panel(
                "Loss", (("", LOSS),), "Share of messages a gap frame skipped. Target 0.01 %, page 0.1 %.",
                "percentunit", "stat", 4, 4, ((0.0005, "yellow"), (0.001, "red")),
            ),
            Panel(
                "Publish errors", (("", ERRORS),), "Share of publishes without log or owner. Page above 10 %.",
                "percentunit", "stat", 4, 4, ((0.01, "yellow"), (0.1, "red")),
            ),
        ),
    ),
    (
        "Traffic",
        (
            Panel(
                "Publishes by outcome",
                (("{{outcome}}", "sum by (outcome) (rate(headgate_publishes_total[$__rate_interval])) > 0"),),
                "accepted is in the log; everything else was refused or unresolved.", "ops",
            ),
            Panel(
                "Deliveries by profile",
                (("{{profile}}", "sum by (profile) (rate(headgate_deliveries_total[$__rate_interval]))"),),
                "Message frames handed to sockets.", "ops",
            ),
            Panel(
                "Sequenced by verdict",
                (("{{verdict}}", "sum by (verdict) (rate(headgate_sequenced_total[$__rate_interval])) > 0"),),
                "What the owners decided; one a message.", "ops",
            ),
            Panel(
                "Messages a day",
                (
                    ("published", "sum(increase(headgate_publishes_total[24h]))"),
                    ("delivered", "sum(increase(headgate_deliveries_total[24h]))"),
                ),
                "24 hours rolling.",
            ),
            Panel(
                "Sessions",
                (
                    ("now", "sum(headgate_sessions)"),
                    ("1 h average", "avg_over_time(sum(headgate_sessions)[1h:1m])"),
                    ("24 h maximum", "max_over_time(sum(headgate_sessions)[24h:5m])"),
                ),
                "Client connections.",
            ),
            Panel(
                "Sessions and subscriptions by gateway",
                (
                    ("{{instance}} sessions", "sum by (instance) (headgate_sessions)"),
                    ("{{instance}} subscriptions", "sum by (instance) (headgate_subscriptions)"),
                ),
                "How evenly clients are spread.",
            ),
        ),
    ),
    (
        "Latency",
        (
            Panel(
                "Delivery", _quantiles("headgate_delivery_seconds"),
                "From the record's append time to the write to the socket. p95 below 0.2 s, p99 below 0.5 s.", "s",
                thresholds=((0.2, "yellow"), (0.5, "red")),
            ),
            Panel(
                "Delivery by profile", _quantiles("headgate_delivery_seconds", "profile"),
                "ephemeral p95 below 0.05 s.", "s", thresholds=((0.05, "yellow"), (0.2, "red")),
            ),
            Panel(
                "Append to the log", _quantiles("headgate_append_seconds"),
                "From hand-over to Kafka's acknowledgement.", "s", thresholds=((2.0, "red"),),
            ),
        ),
    ),
    (
        "Trouble",
        (
            Panel(
                "Lag by dispatcher", (("{{instance}}", "sum by (instance) (headgate_log_lag_records)"),),
                "Records in the log that are not yet applied. Warn 5,000, urgent 10,000, page 20,000.",
                thresholds=((5_000, "yellow"), (20_000, "red")),
            ),
            Panel(
                "Loss", (("skipped", LOSS),), "Share of messages named by a gap frame.", "percentunit",
                thresholds=((0.0005, "yellow"), (0.001, "red")),
            ),
            Panel(
                "Gaps by reason",
                (("{{reason}}", "sum by (reason) (rate(headgate_gap_messages_total[$__rate_interval]))"),),
                "Messages that clients were told are missing.", "ops",
            ),
            Panel(
                "Acknowledged subscriptions",
                (
                    ("subscriptions", "sum(headgate_acked_subscriptions)"),
                    ("breakers open", "sum(headgate_breakers_open)"),
                    ("sent again a second", "sum(rate(headgate_redeliveries_total[$__rate_interval]))"),
                ),
                "Subscriptions with ack, those that get nothing because they kept failing, and messages sent again.",
            ),
            Panel(
                "Refused publishes",
                (
                    (
                        "{{outcome}}",
                        f"sum by (outcome) (rate(headgate_publishes_total{{{FAILED}}}[$__rate_interval])) > 0",
                    ),
                ),
                "By error code.", "ops",
            ),
            Panel(
                "Refused callers",
                (("{{code}}", "sum by (code) (rate(headgate_refusals_total[$__rate_interval])) > 0"),),
                "Requests, frames and links that were refused, by code. The logs hold examples.", "ops",
            ),
            Panel(
                "Lifecycle events",
                (("{{event}}", "sum by (event) (rate(headgate_lifecycle_events_total[$__rate_interval]))"),),
                "What happens to messages; delivering to retry_scheduled of acknowledged subscriptions.", "ops",
            ),
            Panel(
                "Dead letters",
                (
                    ("{{reason}}", "sum by (reason) (increase(headgate_dead_letters_total[1h]))"),
                    ("inbox records passed over", "sum(increase(headgate_inbox_skipped_total[1h]))"),
                    ("deliveries that wait for a person", "sum(headgate_dead_letters_open)"),
                    ("made room for newer ones", "sum(increase(headgate_dead_letters_evicted_total[1h]))"),
                ),
                "Records and deliveries given up in the last hour, and the letters of deliveries that are open.",
            ),
            Panel(
                "Snapshots", (("{{instance}}", "headgate_snapshot_age_seconds"),),
                "How long the oldest change of a shard has waited for a snapshot. Normally below 30 s.", "s",
                thresholds=((60.0, "yellow"), (600.0, "red")),
            ),
            Panel(
                "History",
                (
                    ("{{instance}} without index", "headgate_shards_without_index"),
                    ("{{instance}} incomplete", "headgate_shards_history_incomplete"),
                ),
                "Shards whose index file cannot be used, and shards that cannot answer yet for all the log holds.",
                thresholds=((1.0, "yellow"),),
            ),
            Panel(
                "Longest background slices",
                (("{{work}}", f"histogram_quantile(1, sum by (le, work) (rate({SLICES}[$__rate_interval])))"),),
                "How long building, checking and restoring snapshots held the loop at once. Aim: below 0.02 s.", "s",
                thresholds=((0.05, "yellow"), (0.2, "red")),
            ),
            Panel(
                "Duplicate window", (("{{instance}}", "headgate_window_ids"),),
                "Ids that would be recognised if they came again.",
            ),
            Panel(
                "Event loop late", (("{{role}} {{instance}}", "headgate_loop_lag_seconds"),),
                "Above 0.25 s for 5 minutes: the process has too much to do.", "s", thresholds=((0.25, "red"),),
            ),
            Panel(
                "Load of dispatchers", (("{{instance}}", "headgate_load"),),
                "From the event loop and the links. Above 0.8 LOW messages to ephemeral topics are shed.",
                thresholds=((0.6, "yellow"), (0.8, "red")),
            ),
        ),
    ),
    (
        "Processes",
        (
            Panel(
                "Answering", (("{{role}}", f"sum by (role) (up{{{ROLE}}})"),), "Processes whose metrics can be read.",
                thresholds=GREEN_OVER,
            ),
            Panel(
                "CPU",
                (
                    (
                        "{{role}} {{instance}}",
                        f"sum by (role, instance) (rate(process_cpu_seconds_total{{{ROLE}}}[$__rate_interval]))",
                    ),
                ),
                "Cores; a role is one thread, so 1 is full.", thresholds=((0.8, "yellow"), (0.95, "red")),
            ),
            Panel(
                "Memory",
                (
                    (
                        "{{role}} {{instance}}",
                        f"sum by (role, instance) (process_resident_memory_bytes{{{ROLE}}})",
                    ),
                ),
                "Resident bytes.", "bytes",
            ),
            Panel(
                "Link messages",
                (
                    (
                        "{{role}} {{direction}}",
                        "sum by (role, direction) (rate(headgate_link_messages_total[$__rate_interval]))",
                    ),
                ),
                "One copy of a message for each gateway that hosts a subscriber.", "ops",
            ),
            Panel(
                "Log", (
                    ("appended", "sum(rate(headgate_appends_total[$__rate_interval]))"),
                    ("read {{log}}", "sum by (log) (rate(headgate_log_records_read_total[$__rate_interval]))"),
                ),
                "Records written and read a second.", "ops",
            ),
            Panel(
                "Open files",
                (
                    (
                        "{{role}} {{instance}}",
                        f"max by (role, instance) (process_open_fds{{{ROLE}}} / process_max_fds{{{ROLE}}})",
                    ),
                ),
                "Share of the file descriptors; a session is one.", "percentunit", thresholds=((0.8, "red"),),
            ),
        ),
    ),
)  # fmt: skip


def overview() -> dict[str, Any]:
    """Returns the health overview."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append({**_place(0, y, WIDTH, 1), "id": len(panels) + 1, "type": "row", "title": title,
                       "collapsed": False, "panels": []})  # fmt: skip
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + panel.height
            panels.append({**_place(x, y, panel.width, panel.height), **_panel(panel, len(panels) + 1)})
            x += panel.width
        y += row[-1].height
    return {
        "uid": "headgate-overview",
        "title": "Headgate / Overview",
        "tags": ["headgate"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def queries() -> list[str]:
    """Returns every query of every dashboard."""
    return [query for _, row in ROWS for panel in row for _, query in panel.queries]


def _place(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.thresholds]
    custom = {
        "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
        "fillOpacity": 8,
        "showPoints": "never",
    }
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict[str, Any] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults | ({} if panel.kind == "stat" else {"custom": custom}), "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend or "__auto"}
            for n, (legend, expr) in enumerate(panel.queries)
        ],
    }
