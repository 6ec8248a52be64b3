"""Memberships by user and topic, and the index of members, which is always what the rows say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.inbox.memberships import Memberships, pair_key
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import MembershipRecord

USERS, TOPICS = ["ann", "bob"], ["t", "u", "v"]
steps = st.lists(
    st.tuples(
        st.sampled_from(USERS), st.sampled_from(TOPICS), st.integers(1, 5), st.sampled_from(["", "member", "drop"])
    ),
    max_size=30,
)


@given(steps)
def test_the_index_and_the_number_are_those_of_the_rows(found: list[tuple[str, str, int, str]]) -> None:
    rows = Memberships()
    for user, topic, source, role in found:
        if role == "drop":
            rows.drop(user, topic)
        else:
            rows.merge(user, MembershipRecord(topic, 5, source, role, 1, 1, 1))
    places = [place for some in rows.places(2) for place in some]
    assert len(places) == len(set(places)) == len(rows) == sum(rows.size(user) for user in USERS)
    assert [key for some in rows.keys(2) for key in some] == [pair_key(*place) for place in places]
    for topic in TOPICS:
        members = {user for user in USERS if (row := rows.row(user, topic)) is not None and row.role}
        assert set(rows.members.of(topic)) == members and (topic in rows.members) == bool(members)
    assert rows.users() == [user for user in rows.users() if rows.size(user)]


def test_of_the_records_about_a_user_and_topic_the_newest_by_source_wins() -> None:
    rows = Memberships()
    assert rows.merge("bob", MembershipRecord("t", 5, 4, "admin", 1, 1, 1)) == pair_key("bob", "t")
    for late in (MembershipRecord("t", 5, 4, "member"), MembershipRecord("t", 5, 3), MembershipRecord("t", 4, 9)):
        assert rows.merge("bob", late) is None
    row = rows.row("bob", "t")
    assert row is not None and row.role == "admin"


def test_topics_of_a_user_come_in_slices() -> None:
    rows = Memberships()
    for n in range(5):
        rows.merge("bob", MembershipRecord(f"t{n}", 5, 1, "member"))
    slices = []
    for some in rows.topics("bob", 2):
        slices.append(len(some))
        rows.drop("bob", "t4")
    assert slices == [2, 2, 1] and rows.size("bob") == 4 and list(rows.topics("eve", 2)) == []


def test_a_row_that_is_none_is_not_loaded() -> None:
    rows = Memberships()
    with pytest.raises(CorruptRecord):
        rows.load(pair_key("bob", "t"), b"\x01")
    rows.load(pair_key("bob", "t"), None)
    assert len(rows) == 0 and rows.encoded(pair_key("bob", "t")) is None
