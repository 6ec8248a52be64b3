"""The first page: does it work now, how much, how late, how much is lost."""

from typing import Final

from helm.observability.panels import ROLE, Page, Panel, quantiles, rates, stat
from helm.observability.queries import ANY_LOSS, CANARY_LOSS, ERRORS, LOSS, P95

_FAILED: Final = 'outcome!~"accepted|duplicate"'
_FAULTS: Final = ("lost", "found", "repeated", "disordered", "restarts")
_OF_LOSS: Final = ((0.0005, "yellow"), (0.001, "red"))
_OF_DELIVERY: Final = ((0.2, "yellow"), (0.5, "red"))

_NOW: Final = (
    stat("Sessions now", "sum(headgate_sessions)", "Client connections, all gateways."),
    stat("Published", "sum(rate(headgate_publishes_total[5m]))", "Messages offered a second.", "ops"),
    stat("Delivered", "sum(rate(headgate_deliveries_total[5m]))", "Message frames written a second.", "ops"),
    stat("Delivery p95", P95, "Append to write. Target 0.2 s, alert 0.4 s.", "s", ((0.2, "yellow"), (0.4, "red"))),
    stat(
        "Loss now", ANY_LOSS, "Gap frames or the canary, the larger. Target below 0.01 %, alert 0.05 %, page 0.1 %.",
        "percentunit", _OF_LOSS,
    ),
    stat(
        "Publish errors", ERRORS, "Share of publishes without log or owner. Page above 10 %.", "percentunit",
        ((0.01, "yellow"), (0.1, "red")),
    ),
)  # fmt: skip

_TRAFFIC: Final = (
    Panel(
        "Messages sent and delivered",
        (
            ("sent a second", 'sum(rate(headgate_publishes_total{outcome="accepted"}[$__rate_interval]))'),
            ("delivered a second", "sum(rate(headgate_deliveries_total[$__rate_interval]))"),
        ),
        "Accepted over HTTP (what Kafka producers write is in Sequenced by verdict), and frames handed to sockets.",
        "ops",
    ),
    Panel(
        "Messages a second, 24 h rolling",
        (
            ("sent", 'sum(rate(headgate_publishes_total{outcome="accepted"}[24h]))'),
            ("delivered", "sum(rate(headgate_deliveries_total[24h]))"),
        ),
        "The mean of the last 24 hours.", "ops",
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
        "Publishes by outcome", rates("headgate_publishes_total", "outcome", only_above_0=True),
        "accepted is in the log; everything else was refused or unresolved.", "ops",
    ),
    Panel("Deliveries by profile", rates("headgate_deliveries_total", "profile"), "Frames handed to sockets.", "ops"),
    Panel(
        "Sessions and subscriptions by gateway",
        (
            ("{{instance}} sessions", "sum by (instance) (headgate_sessions)"),
            ("{{instance}} subscriptions", "sum by (instance) (headgate_subscriptions)"),
        ),
        "How evenly clients are spread.",
    ),
)  # fmt: skip

_LATENCY: Final = (
    Panel(
        "Delivery", quantiles("headgate_delivery_seconds"),
        "From the record's append time to the write to the socket. p95 below 0.2 s, p99 below 0.5 s.", "s",
        thresholds=_OF_DELIVERY,
    ),
    Panel(
        "Delivery by profile", quantiles("headgate_delivery_seconds", "profile"), "ephemeral p95 below 0.05 s.", "s",
        thresholds=((0.05, "yellow"), (0.2, "red")),
    ),
    Panel(
        "Canary: publish to arrival", quantiles("headgate_canary_delivery_seconds"),
        "Over the ways that clients take, on one clock. Nothing to see: headgate canary does not run.", "s",
        thresholds=_OF_DELIVERY,
    ),
)  # fmt: skip

_LOSS: Final = (
    Panel(
        "Loss", (("gap frames", LOSS), ("canary", CANARY_LOSS)),
        "Share of durable messages that connected subscribers were not sent, and of the canary's that did "
        "not come back. Target below 0.01 %, alert 0.05 %, page 0.1 %.",
        "percentunit", thresholds=_OF_LOSS,
    ),
    Panel(
        "Gaps by reason", rates("headgate_gap_messages_total", "reason"),
        "Messages that clients were told are missing.", "ops",
    ),
    Panel(
        "Canary: messages",
        (
            ("received a minute", "sum(increase(headgate_canary_received_total[1m]))"),
            ("late in 5 m", "sum(increase(headgate_canary_late_total[5m]))"),
            ("not sent in 5 m", "sum(increase(headgate_canary_skipped_total[5m]))"),
        ),
        "What came back, what came late, and what was not sent because too many publishes waited.",
    ),
    Panel(
        "Canary: faults",
        tuple((f"{name} in 5 m", f"sum(increase(headgate_canary_{name}_total[5m]))") for name in _FAULTS),
        "found: came after it was counted as lost. repeated and disordered stay 0.",
    ),
    Panel(
        "Canary: publishes by outcome",
        rates("headgate_canary_publishes_total", "outcome", only_above_0=True), "accepted is in the log.", "ops",
    ),
    Panel(
        "Refused publishes",
        (("{{outcome}}", f"sum by (outcome) (rate(headgate_publishes_total{{{_FAILED}}}[$__rate_interval])) > 0"),),
        "By error code.", "ops",
    ),
    Panel(
        "Refused callers", rates("headgate_refusals_total", "code", only_above_0=True),
        "Requests, frames and links that were refused, by code. The logs hold examples.", "ops",
    ),
)  # fmt: skip

_PROCESSES: Final = (
    Panel(
        "Answering", (("{{role}}", f"sum by (role) (up{{{ROLE}}})"),), "Processes whose metrics can be read.",
        thresholds=((1.0, "green"),),
    ),
    Panel("Ready", (("{{role}}", "sum by (role) (headgate_ready)"),), "Processes that serve, if only some shards."),
    Panel(
        "Shards away",
        (
            ("{{instance}} without owner", "headgate_shards_without_owner"),
            ("{{instance}} log away", "headgate_circuits_open"),
        ),
        "Shards whose owner a gateway or an ingest does not reach, and those for which Kafka takes nothing.",
        thresholds=((1.0, "red"),),
    ),
    Panel(
        "Share of the limits",
        (
            ("sessions", "sum(headgate_sessions) / sum(headgate_sessions_limit)"),
            (
                "memory {{role}}",
                f"max by (role) (process_resident_memory_bytes{{{ROLE}}} / (headgate_memory_limit_bytes > 0))",
            ),
        ),
        "Of limits.connections, and of the containers' memory. Forecasts warn when 7 days lead above 80 %.",
        "percentunit", thresholds=((0.8, "red"),),
    ),
)  # fmt: skip

HEALTH: Final = Page(
    "health",
    "Headgate / 1 Health",
    (
        ("Now", _NOW),
        ("Traffic", _TRAFFIC),
        ("Latency", _LATENCY),
        ("Loss and refusals", _LOSS),
        ("Processes", _PROCESSES),
    ),
)
