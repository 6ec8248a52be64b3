"""Ranges of offsets: joined, cut, and what is missing of them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.ranges import cut, joined, missing

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


@given(RANGES, st.integers(0, 30), st.integers(0, 30))
def test_ranges_say_of_each_offset_whether_it_is_held(adds: list[tuple[int, int]], low: int, high: int) -> None:
    held: list[tuple[int, int]] = []
    offsets: set[int] = set()
    for begin, end in adds:
        held = joined(held, begin, end)
        offsets |= set(range(begin, end))
    assert {o for begin, end in held for o in range(begin, end)} == offsets
    assert all(a[1] < b[0] for a, b in pairwise(held)), "neighbours are one"
    holes = missing(held, low, high)
    assert [o for begin, end in holes for o in range(begin, end)] == sorted(set(range(low, high)) - offsets)
    assert {o for begin, end in cut(held, low) for o in range(begin, end)} == {o for o in offsets if o >= low}
