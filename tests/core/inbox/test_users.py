"""The users of a shard: any order and any repeat of the same outputs gives the same memberships."""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.inbox.packed_rows import SLICE_ROWS
from headgate.core.inbox.users import UserTopics
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import MembershipRecord, encode_cursor, encode_inbox, records_of_cursors
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.records import Record


def record(offset: int, user: str, found: MembershipRecord) -> Record:
    return Record(offset, 1_000, user.encode(), encode_inbox(found))


def nobody(*ids: str) -> bool:
    """Nobody holds a cursor."""
    return False


def joined(topic: str, source: int, role: str = "member", epoch: int = 5) -> MembershipRecord:
    return MembershipRecord(topic, epoch, source, role, 7, 6, 1_000)


def left(topic: str, source: int, epoch: int = 5, at: int = 2_000) -> MembershipRecord:
    return MembershipRecord(topic, epoch, source, joined_at=at)


def test_a_users_topics_come_in_order_and_in_pages() -> None:
    users = UserTopics()
    for n, topic in enumerate(["c", "a", "d", "b"]):
        users.apply(record(n, "bob", joined(topic, n)))
    users.apply(record(4, "eve", joined("e", 9)))
    users.apply(record(5, "bob", left("d", 10)))
    assert [topic for topic, _ in users.topics_of("bob", "", 2)] == ["a", "b"]
    assert [topic for topic, _ in users.topics_of("bob", "b", 9)] == ["c"]
    assert (users.count("bob"), users.count("eve"), users.count("nobody")) == (3, 1, 0)
    assert users.next_offset == 6


@pytest.mark.parametrize("seed", range(20))
def test_late_and_repeated_outputs_change_nothing(seed: int) -> None:
    rng = Random(seed)
    outputs = [
        joined(rng.choice("abc"), source, rng.choice(["member", "admin"]), epoch=rng.choice([5, 6]))
        if rng.random() < 0.6
        else left(rng.choice("abc"), source, epoch=rng.choice([5, 6]))
        for source in range(30)
    ]
    newest: dict[str, MembershipRecord] = {}
    for found in outputs:
        known = newest.get(found.topic_id)
        if known is None or (found.epoch, found.offset) > (known.epoch, known.offset):
            newest[found.topic_id] = found
    users = UserTopics()
    for n, found in enumerate(rng.sample(outputs * 2, k=60)):
        users.apply(record(n, "bob", found))
    expected = {topic: found.role for topic, found in newest.items() if found.role}
    assert {topic: entry.role for topic, entry in users.topics_of("bob", "", 99)} == expected


def test_only_what_changed_has_a_key_to_write() -> None:
    users = UserTopics()
    assert users.apply(record(0, "bob", joined("t", 3))).keys == [b"bob\0t"]
    assert users.apply(record(1, "bob", joined("t", 3))).keys == []
    assert users.apply(record(2, "bob", left("t", 2))).keys == []
    assert users.apply(record(3, "bob", left("t", 4))).keys == [b"bob\0t"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"bob", b"{"),
        (b"bob", None),
        (b"bob", b'{"op":"other"}'),
        (b"bob", b"x" * 5_000),
        (None, encode_inbox(joined("t", 1))),
        (b"\xff", encode_inbox(joined("t", 1))),
        (b"a\0b", encode_inbox(joined("t", 1))),
    ],
)
def test_a_record_that_is_none_is_passed_and_changes_nothing(key: bytes | None, value: bytes | None) -> None:
    users = UserTopics()
    with pytest.raises(CorruptRecord):
        users.apply(Record(8, 1_000, key, value))
    assert (users.next_offset, list(users.keys(10))) == (9, [])


def test_pairs_carry_everything_into_another_object() -> None:
    users, other = UserTopics(), UserTopics()
    for n in range(50):
        users.apply(record(n, f"u{n % 7}", joined(f"t{n}", n)))
    users.apply(record(50, "u1", left("t1", 99)))
    keys = [key for some in users.keys(10) for key in some]
    assert len(keys) == 50
    for key in keys:
        other.load(key, users.encoded(key))
    assert [other.topics_of(f"u{n}", "", 99) for n in range(7)] == [users.topics_of(f"u{n}", "", 99) for n in range(7)]
    for key in keys:
        other.load(key, None)
    assert list(other.keys(10)) == []
    assert other.encoded(keys[0]) is None
    with pytest.raises(CorruptRecord):
        other.load(keys[0], msgspec.msgpack.encode(1))


def test_marks_of_topics_that_were_left_long_ago_end_and_memberships_stay() -> None:
    users = UserTopics()
    for n in range(SLICE_ROWS + 1):
        users.apply(record(n, f"u{n}", left("t", 1, at=1_000 if n % 2 else 3_000)))
    users.apply(record(n + 1, "bob", joined("t", 1)))
    slices = list(users.expire(2_000, 0, nobody))
    assert len(slices) == 2
    gone = [key for some in slices for key in some]
    assert len(gone) == (SLICE_ROWS + 1) // 2
    assert users.encoded(b"u0\0t") is not None and users.encoded(b"u1\0t") is None
    assert users.count("bob") == 1


def test_a_user_of_very_many_topics_is_written_in_pieces_and_listed_a_page_at_a_time() -> None:
    users = UserTopics()
    for n in range(10_000):
        users.apply(record(n, "bob", joined(f"t{n * 7_919 % 10_007:05}", n)))
    pieces = list(users.keys(300))
    assert max(map(len, pieces)) == 300
    assert len({key for piece in pieces for key in piece}) == sum(map(len, pieces)) == 10_000
    found: list[str] = []
    while page := users.topics_of("bob", found[-1] if found else "", 999):
        assert len(page) <= 999
        found += [topic for topic, _ in page]
    assert found == sorted(found)
    assert len(found) == users.count("bob") == 10_000


def test_changes_count_what_a_snapshot_has_to_write_again() -> None:
    users = UserTopics()
    users.apply(record(0, "bob", joined("t", 5)))
    users.apply(record(1, "bob", joined("t", 5)))
    assert users.changes == 1
    users.apply(record(2, "bob", left("t", 6, at=1)))
    assert [len(gone) for gone in users.expire(2, 0, nobody)] == [1]
    assert users.changes == 3


def cursors(offset: int, *moved: Cursor) -> Record:
    ((value, _),) = records_of_cursors([encode_cursor(cursor) for cursor in moved])
    return Record(offset, 1_000, None, value)


def test_cursors_are_taken_beside_memberships_and_one_record_has_those_of_many_users() -> None:
    users = UserTopics()
    moved = Cursor("bob", "d", "t", 5, 9), Cursor("eve", "d", "t", 5, 2, [4], [(3, 1)])
    keys = users.apply(cursors(3, *moved)).keys
    assert keys == [b"\0cbob\0t", b"\0ceve\0t"] and (users.changes, users.next_offset) == (1, 4)
    users.apply(cursors(4, Cursor("bob", "d", "t", 5, 3)))
    found = users.cursors.find("bob", "d", "t")
    assert found is not None and (found.epoch, found.seq, found.heard_s) == (5, 9, 1)
    assert (users.count("bob"), users.membership("bob", "t")) == (0, None), "who has a cursor is no member"


def test_pairs_of_both_kinds_carry_everything_into_another_object() -> None:
    users, other = UserTopics(), UserTopics()
    for n in range(5):
        users.apply(record(n, f"u{n}", joined("t", n)))
        users.apply(cursors(n, Cursor(f"u{n}", "d", "t", 5, n, [n + 2], [(n + 1, 3)])))
    keys = [key for some in users.keys(2) for key in some]
    assert len(set(keys)) == len(keys) == 10
    for key in keys:
        other.load(key, users.encoded(key))
    assert [other.cursors.find(f"u{n}", "d", "t") for n in range(5)] == [
        users.cursors.find(f"u{n}", "d", "t") for n in range(5)
    ]
    assert sum(other.count(f"u{n}") for n in range(5)) == 5
    for key in keys:
        other.load(key, None)
    assert list(other.keys(9)) == []


def test_a_cursor_ends_with_its_membership_once_nothing_was_heard_of_it_for_long_enough() -> None:
    users = UserTopics()
    for topic in "abc":
        users.apply(record(1, "bob", joined(topic, 1, epoch=5)))
        users.apply(cursors(2, Cursor("bob", "d", topic, 5, 1)))
    users.apply(record(3, "bob", left("b", 2, epoch=5)))
    users.apply(record(4, "bob", joined("c", 2, epoch=6)))  # the topic was made again
    before = users.changes
    gone = [key for some in users.expire(11_000, 5_000, nobody) for key in some]
    assert gone == [b"bob\0b", b"\0cbob\0b", b"\0cbob\0c"] and users.changes == before + 3
    assert len(users.cursors) == 1


steps = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob"]), st.sampled_from("tu"), st.sampled_from("de"), st.integers(0, 9), st.booleans()
    ),
    max_size=12,
)


@given(steps, st.data())
def test_a_snapshot_and_the_records_after_it_give_what_all_records_give(
    found: list[tuple[str, str, str, int, bool]], data: st.DataObject
) -> None:
    log = [
        cursors(at, Cursor(user, device, topic, 5 + seq % 2, seq, [seq + 2]))
        if is_cursor
        else record(at, user, joined(topic, seq) if seq % 3 else left(topic, seq))
        for at, (user, topic, device, seq, is_cursor) in enumerate(found)
    ]
    cut = data.draw(st.integers(0, len(log)))
    whole, first, second = UserTopics(), UserTopics(), UserTopics()
    for each in log:
        whole.apply(each)
    for each in log[:cut]:
        first.apply(each)
    for key in all_keys(first):
        second.load(key, first.encoded(key))
    for each in log[cut:]:
        second.apply(each)
    assert {key: second.encoded(key) for key in all_keys(second)} == {
        key: whole.encoded(key) for key in all_keys(whole)
    }


def all_keys(users: UserTopics) -> list[bytes]:
    return [key for some in users.keys(3) for key in some]
