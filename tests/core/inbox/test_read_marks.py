"""Read marks: merged by maximum whatever the order, and kept for whom they still mean something."""

from hypothesis import given
from hypothesis import strategies as st

from headgate.core.inbox.read_marks import ReadMarks, StoredMark, mark_key
from headgate.core.wire.inbox_record import MarkEntry

DAY = 86_400_000
entries = st.tuples(
    st.builds(
        lambda user, topic, epoch, seq: MarkEntry(user, topic, epoch, seq, seq // 2),
        *(st.sampled_from(["ann", "bob"]), st.sampled_from(["t", "u"]), st.sampled_from([7, 8]), st.integers(0, 9)),
    ),
    st.integers(0, 5_000),
)


@given(st.lists(entries, max_size=8).flatmap(lambda found: st.tuples(st.just(found), st.permutations(found * 2))))
def test_late_and_repeated_records_give_the_same_marks(
    orders: tuple[list[tuple[MarkEntry, int]], list[tuple[MarkEntry, int]]],
) -> None:
    stored = []
    for order in orders:
        marks = ReadMarks()
        for entry, ts in order:
            marks.merge(entry, ts)
        stored.append({(user, topic): marks.find(user, topic) for user in ("ann", "bob") for topic in ("t", "u")})
    assert stored[0] == stored[1]
    for (user, topic), mark in stored[0].items():
        own = [(entry, ts) for entry, ts in orders[0] if (entry.user_id, entry.topic_id) == (user, topic)]
        assert (mark is None) == (not own)
        if mark is not None:
            assert (mark.epoch, mark.seq, mark.n) == max((entry.epoch, entry.seq, entry.n) for entry, _ in own)
            assert mark.heard_s == max(ts for _, ts in own) // 1_000


def test_only_what_changed_has_a_key_and_only_a_higher_mark_is_news() -> None:
    marks, key = ReadMarks(), mark_key("ann", "t")
    assert marks.merge(MarkEntry("ann", "t", 7, 5, 4), 1_000) == (key, True)
    assert marks.merge(MarkEntry("ann", "t", 7, 5, 4), 1_000) == (None, False)
    assert marks.merge(MarkEntry("ann", "t", 7, 4, 3), 2_000) == (key, False), "it was heard of"
    assert marks.merge(MarkEntry("ann", "t", 8, 1, 1), 1_000) == (key, True)
    assert marks.find("ann", "t") == StoredMark(8, 1, 1, 2)
    assert (len(marks), key in marks, marks.find("bob", "t")) == (1, True, None)


def test_a_mark_ends_with_its_membership_once_nothing_was_heard_of_it_for_long_enough() -> None:
    marks = ReadMarks()
    for topic in "abc":
        marks.merge(MarkEntry("ann", topic, 7, 1, 1), 1_000)
    epochs = {"a": 7, "b": 8, "c": 0}
    for now, gone in ((8 * DAY + 1_000, []), (8 * DAY + 2_000, ["b", "c"]), (99 * DAY, [])):
        slices = marks.expire(now, 8 * DAY, lambda user, topic: epochs[topic])
        assert [key for some in slices for key in some] == [mark_key("ann", topic) for topic in gone]
    assert marks.find("ann", "a") is not None
