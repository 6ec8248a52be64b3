"""The gauges of the first topics and users: ranked, and gone with those who leave the lists."""

from prometheus_client.parser import text_string_to_metric_families

from headgate.core.wire.link_stats import TopEntry, TopLists
from headgate.runtime.metrics import Metrics


def shown(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [sample for family in families for sample in family.samples if sample.name.startswith("headgate_top_")]
    return {(each.name, *(f"{k}={v}" for k, v in sorted(each.labels.items()))): each.value for each in samples}


def test_each_list_is_a_gauge_with_its_rank_and_what_leaves_it_leaves_the_scrape() -> None:
    metrics, lists = Metrics({"dispatcher"}), TopLists()
    assert shown(metrics) == {}
    metrics.top.watch(lambda: lists)
    lists.members = [TopEntry("a", 9), TopEntry('b"\n', 3)]
    lists.messages, lists.failures = [TopEntry("a", 7, 2)], [TopEntry("c", 1)]
    lists.backlogs = [TopEntry("ann", 5)]
    assert shown(metrics) == {
        ("headgate_top_topic_members", "rank=1", "topic_id=a"): 9,
        ("headgate_top_topic_members", "rank=2", 'topic_id=b"\n'): 3,
        ("headgate_top_topic_messages_per_hour", "rank=1", "topic_id=a"): 7,
        ("headgate_top_topic_failures", "rank=1", "topic_id=c"): 1,
        ("headgate_top_inbox_backlog", "rank=1", "user_id=ann"): 5,
    }
    lists.members, lists.backlogs = [TopEntry("d", 4)], []
    names = [labels[2] for name, *labels in ((n[0], *n) for n in shown(metrics)) if name.endswith("members")]
    assert names == ["topic_id=d"]
    assert not any("user_id" in name for key in shown(metrics) for name in key)


def test_other_roles_have_none() -> None:
    assert b"headgate_top_" not in Metrics({"ingest", "gateway"}).render()
