"""The first topics and users of a dispatcher as gauges: `metrics.top` series each, and those that leave are gone."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from headgate.core.wire.link_stats import TopLists

MEMBERS: Final = "Members of the topics that have most of them, of the shards served here."
MESSAGES: Final = "Messages of the last hour in the topics that have most of them, of the shards served here."
FAILURES: Final = "Deliveries of the last hour that failed, of the topics that have most of them."
BACKLOG: Final = "Unread messages of the users who have most of them, of the shards served here."


class TopMetrics:
    """Four families with the labels `rank` (from 1) and `topic_id` or `user_id`."""

    def __init__(self) -> None:
        self._read: Callable[[], TopLists] = TopLists

    def watch(self, read: Callable[[], TopLists]) -> None:
        """Sets where the lists are read when somebody asks."""
        self._read = read

    def families(self) -> Iterator[Metric]:
        """Yields every family."""
        lists = self._read()
        for name, text, label, entries in (
            ("topic_members", MEMBERS, "topic_id", lists.members),
            ("topic_messages_per_hour", MESSAGES, "topic_id", lists.messages),
            ("topic_failures", FAILURES, "topic_id", lists.failures),
            ("inbox_backlog", BACKLOG, "user_id", lists.backlogs),
        ):
            family = GaugeMetricFamily(f"headgate_top_{name}", text, labels=("rank", label))
            for rank, entry in enumerate(entries, 1):
                family.add_metric((str(rank), entry.id), entry.count)
            yield family
