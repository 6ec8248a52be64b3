"""Where the members of a topic are: exact up to a bound, kept up to date, and bounded."""

import pytest

from headgate.core.sequencer import user_shards as module
from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.user_shards import EXACT_MEMBERS, FOUND_AT_ONCE, UserShards
from headgate.core.wire.ids import user_shard
from headgate.core.wire.member_roles import Role

SHARDS = 64
MEMBER = Membership(Role.MEMBER, 0, 0, 1)
ROW = Row("t", 7, 0, "t", "PUBLIC", "ann", 1, {})


def members_of(count: int, epoch: int = 7) -> Members:
    members = Members(epoch)
    for n in range(count):
        members.put(f"u{n}", MEMBER)
    return members


def exactly(members: Members) -> list[int]:
    return sorted({user_shard(user, SHARDS) for user, _ in members})


def test_a_lonely_creator_is_in_one_shard() -> None:
    assert UserShards(SHARDS).of_topic(b"t", ROW, None) == (user_shard("ann", SHARDS),)


@pytest.mark.parametrize("count", [1, 2, 40, EXACT_MEMBERS])
def test_up_to_the_bound_the_shards_are_those_of_the_members(count: int) -> None:
    shards, members = UserShards(SHARDS), members_of(count)
    assert shards.cost(b"t", members) == count
    assert list(shards.of_topic(b"t", ROW, members)) == exactly(members)
    assert shards.cost(b"t", members) == 1, "they are kept"


def test_above_the_bound_all_shards_are_named_without_a_look_at_the_members() -> None:
    shards, members = UserShards(SHARDS), members_of(EXACT_MEMBERS + 1)
    assert shards.cost(b"t", members) == 1 and list(shards.of_topic(b"t", ROW, members)) == list(range(SHARDS))


def test_joins_and_leaves_are_followed() -> None:
    shards, members = UserShards(SHARDS), members_of(3)
    shards.of_topic(b"t", ROW, members)
    for n in range(3, 30):
        members.put(f"u{n}", MEMBER)
        shards.joined(b"t", f"u{n}")
        assert list(shards.of_topic(b"t", ROW, members)) == exactly(members)
    for n in range(28):
        members.remove(f"u{n}")
        shards.forget(b"t")
        assert list(shards.of_topic(b"t", ROW, members)) == exactly(members)
    shards.joined(b"unknown", "u1")


def test_what_is_kept_of_an_older_epoch_is_not_used() -> None:
    shards = UserShards(SHARDS)
    shards.of_topic(b"t", ROW, members_of(30))
    later = members_of(2, epoch=8)
    assert list(shards.of_topic(b"t", ROW, later)) == exactly(later)
    assert list(shards.of_gone(b"t", "ann", members_of(3))) == exactly(members_of(3))


def test_of_a_topic_that_is_gone_at_least_the_shards_of_its_members_are_named() -> None:
    shards = UserShards(SHARDS)
    assert shards.of_gone(b"t", "ann", None) == (user_shard("ann", SHARDS),)
    few, many = members_of(20), members_of(FOUND_AT_ONCE + 1)
    assert list(shards.of_gone(b"t", "ann", few)) == exactly(few)
    assert set(exactly(many)) <= set(shards.of_gone(b"t", "ann", many))
    shards.of_topic(b"t", ROW, many)
    assert list(shards.of_gone(b"t", "ann", many)) == exactly(many), "they were kept"
    assert list(shards.of_gone(b"t", "ann", members_of(EXACT_MEMBERS + 1))) == list(range(SHARDS))


def test_only_so_many_topics_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_TOPICS", 10)
    shards, members = UserShards(SHARDS), members_of(3)
    for n in range(25):
        shards.of_topic(b"%d" % n, ROW, members)
    assert [shards.cost(b"%d" % n, members) for n in (14, 15, 24)] == [3, 1, 1]
