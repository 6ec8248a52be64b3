"""The sorted list of topics: pages by prefix and place, whatever came and went."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import topic_list
from dispatcher.topic_list import TopicList

IDS = st.text("abc", min_size=1, max_size=4)


@given(st.lists(st.tuples(st.booleans(), IDS), max_size=60), IDS, st.text("abc", max_size=2))
def test_a_page_is_what_sorting_all_would_give(changes: list[tuple[bool, str]], after: str, prefix: str) -> None:
    topics, there = TopicList(), set[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topic_list, "CHUNK", 4)
        for add, topic_id in changes:
            if add and topic_id not in there:
                topics.add(topic_id, hash(topic_id))
                there.add(topic_id)
            elif not add and topic_id in there:
                topics.remove(topic_id, hash(topic_id))
                there.remove(topic_id)
    assert list(topics.above("", "")) == sorted(there)
    assert list(topics.above(after, prefix)) == sorted(t for t in there if t > after and t.startswith(prefix))
    assert all(topics.has_epoch(hash(t)) for t in there)


def test_a_page_costs_what_it_holds() -> None:
    """A list request must not look at every topic of the shard."""
    topics = TopicList()
    ids = [f"t{n:06d}" for n in range(100_000)]
    random.Random(1).shuffle(ids)
    for n, topic_id in enumerate(ids):
        topics.add(topic_id, n)
    started = time.process_time()
    for n in range(100):
        page = topics.above(f"t{n * 990:06d}", "t")
        assert next(page) == f"t{n * 990 + 1:06d}"
        assert next(page) == f"t{n * 990 + 2:06d}"
    assert time.process_time() - started < 0.5  # 100 scans of all take seconds
