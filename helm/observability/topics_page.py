"""The third page: what kinds of topics there are, how they are delivered, and what was given up."""

from typing import Final

from helm.observability.panels import Page, Panel, quantiles, rates, top_ten

_WAYS: Final = (
    Panel(
        "Topics by way of delivery",
        (
            ("pushed directly", "sum(headgate_topics_direct)"),
            ("inbox", "sum(headgate_topics_inbox)"),
            ("paced", "sum(headgate_topics_paced)"),
        ),
        "Topics that are pushed directly, topics that members find in the inbox, and topics that gateways write in "
        "slices.",
    ),
    Panel(
        "Messages by way of delivery",
        (
            ("pushed to sockets", "sum(rate(headgate_deliveries_total[$__rate_interval]))"),
            ("hints of the inbox", "sum(rate(headgate_inbox_hints_total[$__rate_interval]))"),
        ),
        "Message frames a second, and hints a second that say that an inbox has news.", "ops",
    ),
    Panel(
        "Large topics on their way", (("{{instance}}", "headgate_sweeps_running"),),
        "Large topics with messages that not all of their sockets have yet.",
    ),
    Panel(
        "Writing to a large topic", quantiles("headgate_sweep_seconds"),
        "From the record's append time to the write to the last socket of a topic that a gateway writes in slices.",
        "s",
    ),
    Panel(
        "Slices of large topics", quantiles("headgate_flush_slice_seconds"),
        "How long a gateway's loop was held at once by a large topic. Aim: below 0.005 s.", "s",
        thresholds=((0.005, "yellow"), (0.05, "red")),
    ),
    Panel(
        "Large topics",
        (
            ("members of the largest", "max(headgate_members_max)"),
            ("topics above 5,000 members", "sum(headgate_topics_large)"),
        ),
        "As the owners' last round found them.",
    ),
)  # fmt: skip

_FAILURES: Final = (
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
        "Lifecycle events", rates("headgate_lifecycle_events_total", "event", only_above_0=True),
        "What happens to messages; delivering to retry_scheduled of acknowledged subscriptions.", "ops",
    ),
    Panel(
        "Dead letters",
        (
            ("{{reason}}", "sum by (reason) (increase(headgate_dead_letters_total[1h])) > 0"),
            ("inbox records passed over", "sum(increase(headgate_inbox_skipped_total[1h]))"),
            ("deliveries that wait for a person", "sum(headgate_dead_letters_open)"),
            ("made room for newer ones", "sum(increase(headgate_dead_letters_evicted_total[1h]))"),
        ),
        "Records and deliveries given up in the last hour, and the letters of deliveries that are open.",
    ),
)  # fmt: skip

_TOP: Final = (
    Panel(
        "Top ten by members", (("{{topic_id}}", top_ten("headgate_top_topic_members", "topic_id")),),
        "Topics with most members. Empty where `metrics.top` is 0.",
    ),
    Panel(
        "Top ten by messages an hour",
        (("{{topic_id}}", top_ten("headgate_top_topic_messages_per_hour", "topic_id")),),
        "Topics with most messages in the last hour, as their owners counted since they have the shard.",
    ),
    Panel(
        "Top ten by failed deliveries", (("{{topic_id}}", top_ten("headgate_top_topic_failures", "topic_id")),),
        "Topics with most attempts in the last hour that ended in a nack or a timeout.",
    ),
)  # fmt: skip

TOPICS: Final = Page(
    "topics",
    "Headgate / 3 Topics",
    (
        ("Inbox against direct push", _WAYS),
        ("Top ten", _TOP),
        ("Failures", _FAILURES),
    ),
)
