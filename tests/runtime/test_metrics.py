"""docs/protocol.md, section 9: names, labels and buckets, each 0 from the start in the roles that have it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headgate.runtime.metrics import Metrics, Part

PROCESS = {"headgate_loop_lag_seconds", "headgate_ready", "headgate_memory_limit_bytes"}
LINKS = PROCESS | {"headgate_link_messages_total", "headgate_refusals_total"}
CANARY = PROCESS | {
    "headgate_canary_publishes_total",
    "headgate_canary_delivery_seconds_count",
    *(
        f"headgate_canary_{name}_total"
        for name in ("received", "late", "lost", "found", "repeated", "disordered", "skipped", "restarts")
    ),
}
APPENDS = {"headgate_appends_total", "headgate_append_seconds_count"}
OWNERS = LINKS | {"headgate_shards_without_owner"}
INGEST = OWNERS | APPENDS | {
    "headgate_publishes_total",
    "headgate_queue_depth_max",
    "headgate_circuits_open",
    "headgate_read_seconds_count",
}  # fmt: skip
DISPATCHER = LINKS | APPENDS | {
    "headgate_lifecycle_events_total",
    "headgate_sequenced_total",
    "headgate_dead_letters_total",
    "headgate_disagreements_total",
    "headgate_dead_letters_evicted_total",
    "headgate_dead_letters_open",
    "headgate_inbox_skipped_total",
    "headgate_load",
    "headgate_inbox_applied_total",
    "headgate_inbox_backlog_max",
    "headgate_inbox_heads",
    "headgate_inbox_hints_total",
    "headgate_inbox_marks",
    "headgate_inbox_memberships",
    "headgate_log_lag_records",
    "headgate_log_records_read_total",
    "headgate_shards_history_incomplete",
    "headgate_shards_without_index",
    "headgate_slice_seconds_count",
    "headgate_snapshot_age_seconds",
    "headgate_snapshot_failures_total",
    "headgate_window_ids",
    "headgate_topics_direct",
    "headgate_topics_paced",
    "headgate_topics_inbox",
    "headgate_pointer_bundles_total",
    "headgate_gateways_unreachable",
    "headgate_shard_depth_max",
    "headgate_members_max",
    "headgate_topics_large",
}  # fmt: skip
GATEWAY = OWNERS | {
    "headgate_lifecycle_events_total",
    "headgate_deliveries_total",
    "headgate_delivery_seconds_count",
    "headgate_redeliveries_total",
    "headgate_flush_slice_seconds_count",
    "headgate_sweep_seconds_count",
    "headgate_sweeps_running",
    "headgate_acked_subscriptions",
    "headgate_breakers_open",
    "headgate_gap_messages_total",
    "headgate_missed_messages_total",
    "headgate_sessions",
    "headgate_sessions_limit",
    "headgate_subscriptions",
}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("headgate_")
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"ingest"}, INGEST),
        ({"dispatcher"}, DISPATCHER),
        ({"gateway"}, GATEWAY),
        ({"canary"}, CANARY),
        ({"ingest", "dispatcher", "gateway"}, INGEST | DISPATCHER | GATEWAY),
    ],
)
def test_every_family_stands_at_zero_from_the_start(parts: set[Part], names: set[str]) -> None:
    found = samples(Metrics(parts))
    shown = {name for name, _ in found if not name.endswith(("_bucket", "_sum"))}
    assert shown == names
    assert set(found.values()) == {0.0}


def test_labels_are_those_of_the_page() -> None:
    labels: dict[str, set[str]] = {}
    for name, pairs in samples(Metrics()):
        labels.setdefault(name, set()).update(key for key, _ in pairs)
    assert labels["headgate_publishes_total"] == {"outcome", "profile"}
    assert labels["headgate_sequenced_total"] == {"verdict"}
    assert labels["headgate_link_messages_total"] == {"direction"}
    assert labels["headgate_deliveries_total"] == {"profile"}
    assert labels["headgate_delivery_seconds_bucket"] == {"profile", "le"}
    assert labels["headgate_gap_messages_total"] == {"reason"}
    assert labels["headgate_dead_letters_total"] == {"reason"}
    assert labels["headgate_lifecycle_events_total"] == {"event"}
    assert labels["headgate_appends_total"] == set()


def test_counters_add_up() -> None:
    metrics = Metrics()
    metrics.publish("accepted", "durable", 3)
    metrics.publish("accepted", "durable")
    metrics.sequenced("duplicate")
    metrics.link_messages("out", 5)
    metrics.gap("slow_consumer", 7, missed=True)
    metrics.gap("slow_consumer", 90, missed=False)
    metrics.dead_letter("corrupt")
    assert value(metrics, "headgate_publishes_total", outcome="accepted", profile="durable") == 4
    assert value(metrics, "headgate_sequenced_total", verdict="duplicate") == 1
    assert value(metrics, "headgate_link_messages_total", direction="out") == 5
    assert value(metrics, "headgate_gap_messages_total", reason="slow_consumer") == 97
    assert value(metrics, "headgate_missed_messages_total") == 7
    assert value(metrics, "headgate_dead_letters_total", reason="corrupt") == 1


def test_deliveries_are_weighted_and_their_buckets_hold_the_objectives() -> None:
    metrics = Metrics({"gateway"})
    metrics.delivered("durable", 1_000, 0.05)
    metrics.delivered("durable", 10, 0.0501)
    metrics.delivered("durable", 1, -3.0)
    metrics.delivered("durable", 2, 99.0)

    def bucket(bound: str) -> float:
        return value(metrics, "headgate_delivery_seconds_bucket", profile="durable", le=bound)

    assert bucket("0.001") == 1, "below 0 counts as 0"
    assert bucket("0.05") == 1_001, "a bound belongs to its bucket"
    assert bucket("0.2") == bucket("0.5") == 1_011
    assert bucket("+Inf") == value(metrics, "headgate_delivery_seconds_count", profile="durable") == 1_013
    assert value(metrics, "headgate_deliveries_total", profile="durable") == 1_013
    assert value(metrics, "headgate_delivery_seconds_sum", profile="durable") == pytest.approx(50 + 0.501 + 198)


def test_appends_count_records() -> None:
    metrics = Metrics({"ingest"})
    metrics.appended(4, 0.01)
    assert value(metrics, "headgate_appends_total") == value(metrics, "headgate_append_seconds_count") == 4
    assert value(metrics, "headgate_append_seconds_bucket", le="0.005") == 0
    assert value(metrics, "headgate_append_seconds_bucket", le="0.01") == 4
    metrics.unacknowledged(6.0)
    assert value(metrics, "headgate_appends_total") == 4
    assert value(metrics, "headgate_append_seconds_bucket", le="5.0") == 4, "who waits in vain is not quick"
    assert value(metrics, "headgate_append_seconds_bucket", le="10.0") == 5


def test_gauges_and_reads_are_asked_for_when_shown() -> None:
    metrics = Metrics()
    sessions = [2]
    metrics.watch("sessions", lambda: len(sessions))
    metrics.watch_reads(lambda: {"messages": 9, "inbox": 1})
    sessions.append(3)
    assert value(metrics, "headgate_sessions") == 2
    assert value(metrics, "headgate_log_records_read_total", log="messages") == 9
    assert value(metrics, "headgate_log_records_read_total", log="inbox") == 1
    assert value(metrics, "headgate_log_records_read_total", log="snapshots") == 0


def test_two_registries_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.publish("accepted", "durable")
    assert value(other, "headgate_publishes_total", outcome="accepted", profile="durable") == 0
