"""The join: what a user sees of his topics, whatever order the records came in, and pages in steps."""

import pytest

from headgate.core.inbox.inbox_pages import SLICE_TOPICS, inbox_page, missed_page
from headgate.core.wire.inbox_record import HeadEntry
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_inbox import InboxTopic, MissedTopic, ReadMark
from headgate.core.wire.rights import Caller
from tests.core.inbox.inbox_log import cursors, heads, inbox, joined, left, marks, missed, users_of


def test_a_topic_is_the_join_of_its_head_the_cursor_and_the_read_mark() -> None:
    users = users_of(
        joined("bob", "t", seq=2, n=2),
        heads(HeadEntry("t", 5, 12, 9, 70, hot=True)),
        cursors(Cursor("bob", "d", "t", 5, 8), Cursor("bob", "other", "t", 5, 11)),
        marks(ReadMark("bob", "t", 5, 6, 5)),
    )
    assert inbox(users, "bob") == [InboxTopic("t", 5, "inbox", 12, 8, 6, 4)]
    assert inbox(users, "bob", "other") == [InboxTopic("t", 5, "inbox", 12, 11, 6, 4)]
    assert missed(users, "bob") == ([MissedTopic("t", 5, 8, 70)], False)
    assert inbox(users, "eve") == [] and missed(users, "eve") == ([], False)


def test_everything_is_at_least_where_he_joined() -> None:
    users = users_of(
        joined("bob", "a", seq=7, n=6),
        joined("bob", "b", seq=7, n=6),
        heads(HeadEntry("b", 5, 5, 5, 70)),  # late
        cursors(Cursor("bob", "d", "b", 5, 3)),
        marks(ReadMark("bob", "b", 5, 2, 2)),
    )
    assert inbox(users, "bob") == [InboxTopic(topic, 5, "direct", 7, 7, 7, 0) for topic in "ab"]
    assert missed(users, "bob") == ([], False)


def test_of_a_recreated_topic_nothing_of_before_counts_and_members_of_before_are_none() -> None:
    old = [heads(HeadEntry("t", 5, 50, 50, 70)), cursors(Cursor("bob", "d", "t", 5, 40))]
    old += [marks(ReadMark("bob", "t", 5, 45, 45)), joined("eve", "t", epoch=5)]
    users = users_of(*old, joined("bob", "t", epoch=9, source=4, seq=1, n=1))
    assert inbox(users, "bob") == [InboxTopic("t", 9, "direct", 1, 1, 1, 0)], "no head of this epoch yet"
    assert missed(users, "bob") == ([], False)
    users = users_of(*old, joined("bob", "t", epoch=9, source=4), heads(HeadEntry("t", 9, 3, 3, 90)))
    assert inbox(users, "bob") == [InboxTopic("t", 9, "direct", 3, 0, 0, 3)]
    assert missed(users, "bob") == ([MissedTopic("t", 9, 0, 90)], False)
    assert inbox(users, "eve") == [] and users.count("eve") == 0 and users.membership("eve", "t") is None


def test_a_head_that_is_gone_ends_memberships_of_its_epoch_and_older_ones() -> None:
    gone = heads(HeadEntry("t", 5, 9, 9, gone=True))
    for records in ([joined("bob", "t"), gone], [gone, joined("bob", "t")], [gone, joined("bob", "t", epoch=4)]):
        users = users_of(*records, heads(HeadEntry("t", 5, 12, 12, 70)))
        assert inbox(users, "bob") == [] and missed(users, "bob") == ([], False)
    users = users_of(gone, joined("bob", "t", epoch=6))
    assert [topic.epoch for topic in inbox(users, "bob")] == [6]


def test_a_token_with_only_is_told_of_the_topics_that_it_names() -> None:
    users = users_of(*[joined("bob", topic) for topic in ("a1", "b1", "a2", "b2", "c")])
    little = Caller("bob", subscribe=("b*",), publish=("c",), only=True)
    for caller, names in ((little, ["b1", "b2", "c"]), (Caller("bob"), ["a1", "a2", "b1", "b2", "c"])):
        assert [topic.topic_id for topic in inbox(users, "bob", caller=caller)] == names
        assert [topic.topic_id for topic in inbox(users, "bob", after="b1", limit=1, caller=caller)] == ["b2"]


def test_who_left_sees_nothing() -> None:
    users = users_of(joined("bob", "t"), heads(HeadEntry("t", 5, 9, 9, 70)), left("bob", "t"))
    assert inbox(users, "bob") == [] and missed(users, "bob") == ([], False)


def test_events_move_the_head_and_are_not_unread() -> None:
    users = users_of(joined("bob", "t"), heads(HeadEntry("t", 5, 3, 3, 70)), marks(ReadMark("bob", "t", 5, 3, 3)))
    users.apply(heads(HeadEntry("t", 5, 8, 3, 70)))
    assert [(topic.head_seq, topic.unread) for topic in inbox(users, "bob")] == [(8, 0)]


def test_a_mark_that_came_before_its_pointer_leaves_nothing_unread() -> None:
    users = users_of(joined("bob", "t"), heads(HeadEntry("t", 5, 3, 3, 70)), marks(ReadMark("bob", "t", 5, 6, 6)))
    assert [(topic.head_seq, topic.read_seq, topic.unread) for topic in inbox(users, "bob")] == [(6, 6, 0)]


def test_a_cursor_that_came_before_its_pointer_is_not_above_the_head_that_is_shown() -> None:
    users = users_of(joined("bob", "t"), heads(HeadEntry("t", 5, 3, 3, 70)), cursors(Cursor("bob", "d", "t", 5, 5)))
    assert [(topic.head_seq, topic.cursor_seq, topic.unread) for topic in inbox(users, "bob")] == [(5, 5, 3)]
    users.apply(cursors(Cursor("bob", "d", "t", 4, 9)))
    users.apply(marks(ReadMark("bob", "t", 4, 9, 9)))
    assert [topic.head_seq for topic in inbox(users, "bob")] == [5], "of another epoch they say nothing"


def test_pages_of_the_inbox_go_by_topic_id_and_pages_of_what_was_missed_by_time() -> None:
    topics = [f"t{n:02}" for n in range(20)]
    users = users_of(
        *[joined("bob", topic) for topic in reversed(topics)],
        heads(*[HeadEntry(topic, 5, 1, 1, 100 - n // 2) for n, topic in enumerate(topics)]),
    )
    found: list[str] = []
    while page := inbox(users, "bob", after=found[-1] if found else "", limit=7):
        found += [topic.topic_id for topic in page]
    assert found == topics
    first, more = missed(users, "bob", limit=15)
    assert len(first) == 15 and more
    second, more = missed(users, "bob", after=(first[-1].head_ts, first[-1].topic_id), limit=5)
    assert len(second) == 5 and not more
    places = [(topic.head_ts, topic.topic_id) for topic in [*first, *second]]
    assert places == sorted(places) and len({topic_id for _, topic_id in places}) == 20


@pytest.mark.parametrize("topics", [SLICE_TOPICS, 4 * SLICE_TOPICS + 1])
def test_a_page_of_very_many_topics_is_made_in_steps_and_a_topic_may_end_between_them(topics: int) -> None:
    users = users_of(
        *[joined("bob", f"t{n:05}") for n in range(topics)],
        *[heads(HeadEntry(f"t{n:05}", 5, 1, 1, 9)) for n in range(topics)],
    )
    steps = inbox_page(users, "bob", "d", "", topics)
    taken, slices = 0, -(-topics // SLICE_TOPICS)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            assert [topic.topic_id for topic in done.value] == [f"t{n:05}" for n in range(slices > 1, topics)]
            break
        taken += 1
        if taken == slices - 1:
            users.apply(left("bob", "t00000"))
    assert taken == (2 * slices - 1 if slices > 1 else 0)
    assert sum(1 for _ in missed_page(users, "bob", "d", (-1, ""), 1)) == slices - 1
