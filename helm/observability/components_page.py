"""The second page: which part is behind, full or cut off."""

from typing import Final

from helm.observability.panels import ROLE, Page, Panel, quantiles, rates, top_ten
from helm.observability.queries import APPEND_P99, REPLICAS_BEHIND

_SLICES: Final = "headgate_slice_seconds_bucket"

_DISPATCHERS: Final = (
    Panel(
        "Queue depth by shard", (("shard {{shard}}", "sum by (shard) (headgate_shard_depth)"),),
        "Messages that the log has and that wait to be numbered, or to be taken by the slowest gateway. "
        "Warn 10,000 for an hour, urgent 50,000.",
        thresholds=((10_000, "yellow"), (50_000, "red")),
    ),
    Panel(
        "Log lag by dispatcher", (("{{instance}}", "sum by (instance) (headgate_log_lag_records)"),),
        "Records in Kafka that are not yet applied. Warn 5,000, urgent 10,000, page 20,000.",
        thresholds=((5_000, "yellow"), (20_000, "red")),
    ),
    Panel(
        "Sequenced by verdict", rates("headgate_sequenced_total", "verdict", only_above_0=True),
        "What the owners decided; one a message.", "ops",
    ),
    Panel(
        "Load of dispatchers", (("{{instance}}", "headgate_load"),),
        "From the event loop and the links. Above 0.8 LOW messages to ephemeral topics are shed.",
        thresholds=((0.6, "yellow"), (0.8, "red")),
    ),
    Panel(
        "Deepest queue of a topic", (("{{instance}}", "headgate_queue_depth_max"),),
        "As an ingest knows it: accepted and not yet handed to the slowest gateway. At queue_limit: 429.",
    ),
    Panel(
        "Duplicate window", (("{{instance}}", "headgate_window_ids"),),
        "Ids that would be recognised if they came again.",
    ),
)  # fmt: skip

_STORE: Final = (
    Panel(
        "Written to the store",
        (("appended", "sum(rate(headgate_appends_total[$__rate_interval]))"),
         *rates("headgate_log_records_read_total", "log", only_above_0=True)),
        "Records that Kafka acknowledged a second, and records read by log.", "ops",
    ),
    Panel(
        "Append to the log", quantiles("headgate_append_seconds"), "From hand-over to Kafka's acknowledgement.", "s",
        thresholds=((2.0, "red"),),
    ),
    Panel(
        "Replication lag", (("p99", APPEND_P99),),
        "An append waits for all replicas in sync: the slowest of them takes this long. Urgent above 5 s.", "s",
        thresholds=((1.0, "yellow"), (5.0, "red")),
    ),
    Panel(
        "Replicas that are behind", (("partitions", REPLICAS_BEHIND),),
        "Partitions with a replica that fell out of sync, of Kafka's own exporter; appends no longer wait for it.",
        thresholds=((1.0, "red"),),
    ),
    Panel(
        "Age of snapshots", (("{{instance}}", "headgate_snapshot_age_seconds"),),
        "How long the oldest change of a shard has waited for a snapshot. Normally below 30 s.", "s",
        thresholds=((60.0, "yellow"), (600.0, "red")),
    ),
    Panel(
        "Snapshots that failed", rates("headgate_snapshot_failures_total", "reason"),
        "log: Kafka does not take it. too_large and content are faults of Headgate.", "ops",
    ),
    Panel(
        "Index and rebuilds",
        (
            ("{{instance}} without index", "headgate_shards_without_index"),
            ("{{instance}} incomplete", "headgate_shards_history_incomplete"),
        ),
        "Shards whose index file cannot be used, and shards whose history is still being rebuilt from the log.",
        thresholds=((1.0, "yellow"),),
    ),
    Panel(
        "Longest background slices",
        (("{{work}}", f"histogram_quantile(1, sum by (le, work) (rate({_SLICES}[$__rate_interval])))"),),
        "How long building, checking, restoring and rebuilding held the loop at once. Aim: below 0.02 s.", "s",
        thresholds=((0.05, "yellow"), (0.2, "red")),
    ),
    Panel(
        "History reads", quantiles("headgate_read_seconds"), "Requests for a page. Warn: p95 above 0.2 s.", "s",
        thresholds=((0.2, "yellow"),),
    ),
)  # fmt: skip

_INBOX: Final = (
    Panel(
        "Inbox backlog, top ten users", (("{{user_id}}", top_ten("headgate_top_inbox_backlog", "user_id")),),
        "Users with most unread messages. Empty where `metrics.top` is 0.",
        thresholds=((1_000, "yellow"), (5_000, "red")),
    ),
    Panel(
        "Largest inbox backlog", (("{{instance}}", "headgate_inbox_backlog_max"),),
        "Unread messages of the user who has most, by dispatcher. Warn 1,000, urgent 5,000.",
        thresholds=((1_000, "yellow"), (5_000, "red")),
    ),
    Panel(
        "What inboxes hold",
        (
            ("memberships", "sum(headgate_inbox_memberships)"),
            ("topics that have told how far they are", "sum(headgate_inbox_heads)"),
            ("read marks", "sum(headgate_inbox_marks)"),
        ),
        "Memberships, heads and read marks of all users. They cost memory of the dispatchers.",
    ),
    Panel(
        "Inbox traffic",
        (
            ("records applied", "sum(rate(headgate_inbox_applied_total[$__rate_interval]))"),
            ("pointer bundles", "sum(rate(headgate_pointer_bundles_total[$__rate_interval]))"),
            ("hints to connected users", "sum(rate(headgate_inbox_hints_total[$__rate_interval]))"),
        ),
        "Records of the inbox log that owners apply, those that say how far topics are, and hints of new messages.",
        "ops",
    ),
)  # fmt: skip

_LINKS: Final = (
    Panel(
        "Gateways that cannot be reached", (("by {{instance}}", "headgate_gateways_unreachable"),),
        "Gateways whose link to a dispatcher was lost for more than 10 s, or that take nothing.",
        thresholds=((1.0, "red"),),
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
        "Disagreements", (("{{instance}}", "sum by (instance) (increase(headgate_disagreements_total[1h]))"),),
        "Digests of a shard in which two dispatchers differ. Stays 0.", thresholds=((1.0, "red"),),
    ),
)  # fmt: skip

_PROCESSES: Final = (
    Panel(
        "Event loop late", (("{{role}} {{instance}}", "headgate_loop_lag_seconds"),),
        "Above 0.25 s for 5 minutes: the process has too much to do.", "s", thresholds=((0.25, "red"),),
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
        (("{{role}} {{instance}}", f"sum by (role, instance) (process_resident_memory_bytes{{{ROLE}}})"),),
        "Resident bytes.", "bytes",
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
)  # fmt: skip

COMPONENTS: Final = Page(
    "components",
    "Headgate / 2 Components",
    (
        ("Dispatchers and their log", _DISPATCHERS),
        ("Store", _STORE),
        ("Inbox", _INBOX),
        ("Links", _LINKS),
        ("Processes", _PROCESSES),
    ),
)
