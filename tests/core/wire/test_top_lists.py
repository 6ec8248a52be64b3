"""The first of all shards are among the first of each."""

from hypothesis import given
from hypothesis import strategies as st

from headgate.core.wire.link_stats import TopEntry, TopLists
from headgate.core.wire.top_lists import merged


def of(**counts: int) -> list[TopEntry]:
    return [TopEntry(name, count) for name, count in counts.items()]


def test_each_list_is_merged_for_itself_largest_first() -> None:
    one = TopLists(of(a=9, b=1), of(a=3), [], of(ann=2))
    two = TopLists(of(c=4), [], of(c=1), of(bob=7))
    assert merged([one, two], 2) == TopLists(of(a=9, c=4), of(a=3), of(c=1), of(bob=7, ann=2))
    assert merged([one, two], 0) == merged([], 5) == TopLists()


@given(st.dictionaries(st.text("ab", min_size=1), st.integers(0, 9)), st.integers(1, 4), st.integers(1, 5))
def test_nothing_is_missing_that_the_whole_table_would_have(table: dict[str, int], shards: int, size: int) -> None:
    def first(entries: list[tuple[str, int]]) -> list[tuple[str, int]]:
        return sorted(entries, key=lambda entry: (-entry[1], entry[0]))[:size]

    parts = [first([entry for at, entry in enumerate(table.items()) if at % shards == n]) for n in range(shards)]
    found = merged([TopLists([TopEntry(*entry) for entry in part]) for part in parts], size)
    assert [(entry.id, entry.count) for entry in found.members] == first(list(table.items()))
