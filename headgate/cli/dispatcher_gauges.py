"""Which gauge of a process reads what of its dispatcher."""

from dispatcher.service import DispatcherService
from headgate.core.sequencer.heat import Heat
from headgate.runtime.metrics import Metrics


def watch_dispatcher(metrics: Metrics, service: DispatcherService) -> None:
    """Sets where the gauges of a dispatcher are read."""
    metrics.watch("log_lag_records", service.lag)
    metrics.watch("load", service.load)
    metrics.watch("shard_depth_max", lambda: service.throttling.deepest_shard)
    metrics.watch_shards(lambda: service.throttling.depths)
    metrics.watch("members_max", lambda: service.sizes.most)
    metrics.watch("topics_large", lambda: service.sizes.large)
    metrics.watch("shards_without_index", service.shards_without_index)
    metrics.watch("shards_history_incomplete", service.shards_filling)
    metrics.watch("dead_letters_open", service.open_letters)
    metrics.watch("snapshot_age_seconds", service.snapshot_age)
    metrics.watch("window_ids", service.window_ids)
    metrics.watch("topics_direct", lambda: service.topics(Heat.DIRECT))
    metrics.watch("topics_paced", lambda: service.topics(Heat.PACED))
    metrics.watch("topics_inbox", lambda: service.topics(Heat.INBOX))
    metrics.watch("gateways_unreachable", service.dispatcher.unreachable.count)
    metrics.watch("inbox_memberships", service.backlogs.memberships)
    metrics.watch("inbox_heads", service.backlogs.heads)
    metrics.watch("inbox_marks", service.backlogs.marks)
    metrics.watch("inbox_backlog_max", service.backlogs.most)
    metrics.top.watch(service.tops.lists)
