"""The ids of direct topics and what in them never changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.wire.control import Actor, CreateTopic, RemoveMember, SetMember, UpdateTopic
from headgate.core.wire.direct_topics import check_creation, direct_topic_id, is_direct, is_fixed
from headgate.core.wire.errors import CorruptRecord, Refusal
from headgate.core.wire.ids import check_topic_id

ANN_BOB = "dm:767d916c87cd490e54c0fd7e627ef8f5cd5e41cd"
ANN = Actor("ann")
users = st.text(min_size=1, max_size=20)


def test_the_id_of_two_users_never_changes() -> None:
    """It is in logs: another one would be another topic."""
    assert direct_topic_id("ann", "bob") == ANN_BOB


@given(users, users)
def test_it_is_the_same_from_both_sides_and_a_topic_id_of_ours(user: str, other: str) -> None:
    topic_id = direct_topic_id(user, other)
    assert topic_id == direct_topic_id(other, user)
    assert check_topic_id(topic_id) == topic_id and is_direct(topic_id)
    with pytest.raises(Refusal):
        check_topic_id(topic_id, create=True)


@given(users, users, users, users)
def test_another_pair_has_another_id(a: str, b: str, c: str, d: str) -> None:
    same = sorted((a, b)) == sorted((c, d))
    assert (direct_topic_id(a, b) == direct_topic_id(c, d)) == same


def test_ids_that_read_the_same_when_joined_are_other_pairs() -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("", "abc"), ("a\x00b", "c"), ("a", "b\x00c"), ("abc", "abc")]
    assert len({direct_topic_id(*pair) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("change", "fixed"),
    [
        (SetMember("dm:x", "eve", "member", ANN), True),
        (RemoveMember("dm:x", "ann", ANN), True),
        (UpdateTopic("dm:x", 0, ANN, permissions="PUBLIC"), True),
        (UpdateTopic("dm:x", 0, ANN, permissions="PRIVATE"), False),
        (UpdateTopic("dm:x", 0, ANN, name="n"), False),
    ],
)
def test_members_and_permissions_are_fixed(change: SetMember | RemoveMember | UpdateTopic, fixed: bool) -> None:
    assert is_fixed(change) is fixed


def test_a_record_whose_id_users_and_permissions_do_not_agree_is_none() -> None:
    check_creation(CreateTopic(ANN_BOB, "n", "PRIVATE", "bob", peer_id="ann"))
    check_creation(CreateTopic("t", "n", "PUBLIC", "ann"))
    for topic_id, permissions, owner_id, peer_id in [
        (ANN_BOB, "PRIVATE", "ann", None),
        (ANN_BOB, "PRIVATE", "ann", "eve"),
        (ANN_BOB, "PUBLIC", "ann", "bob"),
        ("t", "PRIVATE", "ann", "bob"),
    ]:
        with pytest.raises(CorruptRecord):
            check_creation(CreateTopic(topic_id, "n", permissions, owner_id, peer_id=peer_id))
