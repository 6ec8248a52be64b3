"""The statistics as the answer shows them."""

from headgate.core.wire.link_stats import TopicStats
from ingest.topic_stats import stats_shown


def test_the_queue_has_what_this_ingest_waits_for_and_the_time_is_an_average() -> None:
    shown = stats_shown(TopicStats(9, 3, 1, 2, 4, 5, 7, 8, 100), 10)
    assert shown == {
        "published": 9,
        "delivered": 3,
        "failed": 1,
        "rejected": 2,
        "dead_lettered": 4,
        "retried": 5,
        "queue_length": 17,
        "subscriber_count": 8,
        "latency_ms_avg": 33.333,
    }


def test_without_a_delivery_the_average_is_0() -> None:
    assert stats_shown(TopicStats(0, 0, 0, 0, 0, 0, 0, 0, 0), 0)["latency_ms_avg"] == 0
