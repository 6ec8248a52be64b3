"""The index of members by topic is the set of them, whether they are few or many."""

from hypothesis import given
from hypothesis import strategies as st

from headgate.core.inbox.member_index import FEW, MemberIndex


@given(st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, FEW + 3), st.booleans()), max_size=60))
def test_it_has_who_was_added_and_not_removed(steps: list[tuple[str, int, bool]]) -> None:
    index, expected = MemberIndex(), set[tuple[str, str]]()
    for topic, n, comes in steps:
        if comes:
            index.add(topic, f"u{n}")
            expected.add((topic, f"u{n}"))
        else:
            index.remove(topic, f"u{n}")
            expected.discard((topic, f"u{n}"))
        for each in "tu":
            found = list(index.of(each))
            assert len(found) == len(set(found)) and {(each, user) for user in found} == {
                place for place in expected if place[0] == each
            }
            assert (each in index) == bool(found)
