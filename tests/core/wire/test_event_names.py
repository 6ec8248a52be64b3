"""Which events a filter takes, and what two filters take together."""

from headgate.core.wire.event_names import MAX_TOPICS, EventFilter, EventName


def test_an_empty_filter_takes_everything_and_each_list_only_what_it_names() -> None:
    assert EventFilter().takes("orders", EventName.FAILED)
    of_topic = EventFilter(topics=("orders",))
    assert of_topic.takes("orders", "failed")
    assert not of_topic.takes("bills", "failed")
    of_name = EventFilter(events=("dead_letter", "failed"))
    assert of_name.takes("orders", EventName.FAILED)
    assert not of_name.takes("orders", EventName.DELIVERED)


def test_two_filters_together_take_at_least_what_each_takes() -> None:
    first, second = EventFilter(("a",), ("failed",)), EventFilter(("b",), ("delivered",))
    assert first.merged(second) == EventFilter(("a", "b"), ("delivered", "failed"))
    assert first.merged(EventFilter()) == EventFilter()


def test_a_union_of_too_many_topics_asks_for_all() -> None:
    first = EventFilter(tuple(sorted(f"t{n}" for n in range(MAX_TOPICS))))
    assert len(first.merged(EventFilter(("t0",))).topics) == MAX_TOPICS
    assert first.merged(EventFilter(("other",))) == EventFilter()
