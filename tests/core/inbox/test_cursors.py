"""Cursors of devices: merged by maximum whatever the order, bounded, and kept for whom they still mean something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.inbox import cursors
from headgate.core.inbox.cursors import DEVICES, ROW_BYTES, DeviceCursor, DeviceCursors, Expiry, merged, row_key
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.inbox_record import CursorEntry
from headgate.core.wire.link_acks import WINDOW
from headgate.core.wire.link_groups import GROUP_DEVICE, group_user

seqs = st.integers(0, 12)
any_cursor = st.builds(
    lambda epoch, seq, heard, above, attempts: DeviceCursor("phone", epoch, seq, heard, above, attempts),
    st.sampled_from([7, 8]),
    seqs,
    st.integers(0, 3),
    st.lists(seqs, max_size=5),
    st.lists(st.tuples(seqs, st.integers(1, 9)), max_size=5),
)


@given(any_cursor, any_cursor, any_cursor)
def test_the_merge_is_commutative_associative_and_idempotent(a: DeviceCursor, b: DeviceCursor, c: DeviceCursor) -> None:
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))
    assert merged(merged(a, b), b) == merged(a, b)
    assert merged(merged(a, a), merged(a, a)) == merged(a, a)


def acknowledged(cursor: DeviceCursor, seq: int) -> bool:
    return seq <= cursor.seq or seq in cursor.above


@given(any_cursor, any_cursor)
def test_a_cursor_never_goes_back_and_forgets_neither_an_acknowledgement_nor_an_attempt(
    a: DeviceCursor, b: DeviceCursor
) -> None:
    both = merged(a, b)
    newest = [cursor for cursor in (a, b) if cursor.epoch == both.epoch]
    assert both.epoch == max(a.epoch, b.epoch) and both.heard_s == max(a.heard_s, b.heard_s)
    for seq in range(20):
        assert acknowledged(both, seq) == any(acknowledged(cursor, seq) for cursor in newest)
        tried = [count for cursor in newest for at, count in cursor.attempts if at == seq]
        if seq > both.seq:
            assert dict(both.attempts).get(seq, 0) == max(tried, default=0)
    assert both.above == sorted(set(both.above)) and (not both.above or both.above[0] > both.seq + 1)
    assert all(at > both.seq for at, _ in both.attempts)


entries = st.builds(
    lambda user, device, topic, cursor: CursorEntry(
        user, device, topic, cursor.epoch, cursor.seq, cursor.above, cursor.attempts
    ),
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["phone", "default"]),
    st.sampled_from(["t", "u"]),
    any_cursor,
)


@given(st.lists(entries, max_size=8).flatmap(lambda found: st.tuples(st.just(found), st.permutations(found * 2))))
def test_late_and_repeated_records_give_the_same_cursors(orders: tuple[list[CursorEntry], list[CursorEntry]]) -> None:
    found = [stored(order) for order in orders]
    assert found[0] == found[1]


def stored(order: list[CursorEntry]) -> list[DeviceCursor | None]:
    rows = DeviceCursors()
    for entry in order:
        rows.merge(entry, 1_000)
    return [
        rows.find(user, device, topic) for user in ("ann", "bob") for device in ("phone", "default") for topic in "tu"
    ]


def test_nothing_above_the_window_is_kept() -> None:
    found = DeviceCursor("d", 1, 5, 0, [6 + WINDOW, 5 + WINDOW], [(5 + WINDOW, 1), (6 + WINDOW, 1)])
    assert merged(found, found) == DeviceCursor("d", 1, 5, 0, [5 + WINDOW], [(5 + WINDOW, 1)])


def test_a_user_has_at_most_so_many_devices_in_a_topic_and_those_heard_of_last_stay() -> None:
    rows = DeviceCursors()
    for n in range(DEVICES):
        rows.merge(CursorEntry("ann", f"d{n}", "t", 1, n), 1_000)
    rows.merge(CursorEntry("ann", "d0", "t", 1, 5), 1_000)
    rows.merge(CursorEntry("ann", "new", "t", 1, 9), 1_000)
    rows.merge(CursorEntry("ann", "d1", "u", 1, 9), 1_000)
    kept = [n for n in range(DEVICES) if rows.find("ann", f"d{n}", "t")]
    assert kept == [0, *range(2, DEVICES)] and rows.find("ann", "new", "t") and len(rows) == 2


def test_a_row_of_devices_whose_messages_all_failed_is_bounded_in_bytes() -> None:
    rows = DeviceCursors()
    most = (1 << 53) - WINDOW - 2
    failed = [(seq, most) for seq in range(most + 1, most + WINDOW + 1)]
    for n in range(DEVICES):
        key = rows.merge(CursorEntry("ann", f"{n:0128}", "t", most, most, [s for s, _ in failed[1:]], failed), 1 << 41)
    row = rows.encoded(key)
    assert row is not None and ROW_BYTES // 2 < len(row) <= ROW_BYTES
    kept = [n for n in range(DEVICES) if rows.find("ann", f"{n:0128}", "t")]
    assert len(kept) >= 8 and kept == list(range(DEVICES - len(kept), DEVICES))


DAY = 86_400_000


def expired(rows: DeviceCursors, days: float, member: int = 0, held: str = "") -> int:
    """Expires what is older than eight days; the records came at day 0. Returns how many rows changed."""
    rule = Expiry(int(days * DAY), 8 * DAY, lambda user, topic: member, lambda user, device, topic: device == held)
    return sum(map(len, rows.expire(rule)))


def two_devices() -> DeviceCursors:
    rows = DeviceCursors()
    for device in ("phone", "default"):
        rows.merge(CursorEntry("ann", device, "t", 7, 5), 0)
    return rows


@pytest.mark.parametrize(("days", "member", "stays"), [(8, 0, True), (8.1, 0, False), (99, 7, True), (8.1, 6, False)])
def test_a_cursor_outlives_the_records_of_the_log_only_for_a_member(days: float, member: int, stays: bool) -> None:
    """Of a public topic nobody needs to be a member; a membership that ended, or of a topic before, is none."""
    rows = two_devices()
    assert expired(rows, days, member) == (0 if stays else 1)
    assert len(rows) == int(stays) and (rows.find("ann", "phone", "t") is not None) == stays


def test_a_cursor_that_a_subscription_holds_is_as_new_as_one_that_moved() -> None:
    rows = two_devices()
    assert expired(rows, 0.9, held="phone") == 0, "not written again each time"
    assert expired(rows, 1.1, held="phone") == 1
    assert expired(rows, 9, held="") == 1
    assert rows.find("ann", "phone", "t") and not rows.find("ann", "default", "t")
    assert expired(rows, 9.2) == 1 and len(rows) == 0


def test_a_share_counts_the_rows_and_the_bytes_of_one_user_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "SHARE", 3)
    rows = DeviceCursors()
    for topic in "tuv":
        assert rows.has_share("ann", "phone", topic)
        rows.merge(CursorEntry("ann", "phone", topic, 1, 5), 0)
        rows.merge(CursorEntry("ann", "phone", topic, 1, 6), 0)
    assert not rows.has_share("ann", "phone", "w") and not rows.has_share("ann", "new", "t")
    assert rows.has_share("ann", "phone", "t"), "one that is known moves on"
    assert rows.has_share("bob", "phone", "w") and rows.has_share("an", "phone", "nt")
    again = DeviceCursors()
    for keys in rows.keys(10):
        for key in keys:
            again.load(key, rows.encoded(key))
    assert not again.has_share("ann", "phone", "w")
    assert expired(again, 8.1) == 3
    assert again.has_share("ann", "phone", "w") and (again.size, again._used) == (0, {})
    for n in range(20):  # of one topic, and more than two units of bytes
        rows = again if n == 0 else rows
        rows.merge(CursorEntry("ann", f"{n:030}", "t", 1, 5), 0)
    assert len(rows) == 1 and not rows.has_share("ann", "phone", "w")


def test_the_groups_of_a_topic_have_a_share_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "SHARE", 2)
    rows = DeviceCursors()
    for group in ("g", "h"):
        rows.merge(CursorEntry(group_user(group), GROUP_DEVICE, "t", 1, 5), 0)
    assert not rows.has_share(group_user("i"), GROUP_DEVICE, "t") and rows.has_share(group_user("h"), GROUP_DEVICE, "t")
    assert rows.has_share(group_user("i"), GROUP_DEVICE, "u") and rows.has_share("t", "phone", "t")


@given(st.lists(entries, max_size=12), st.integers(0, 20))
def test_what_is_counted_of_a_user_is_what_his_rows_have(found: list[CursorEntry], days: int) -> None:
    rows = DeviceCursors()
    for entry in found:
        rows.merge(entry, 0)
    expired(rows, days)
    lengths = {key: len(rows.encoded(key) or b"") for keys in rows.keys(100) for key in keys}
    used: dict[bytes, int] = {}
    for key, length in lengths.items():
        whose = key[2:].partition(b"\0")[0]
        used[whose] = used.get(whose, 0) + -(-length // cursors.UNIT_BYTES)
    assert (rows._used, rows.size) == (used, sum(lengths.values()))


def test_rows_expire_a_slice_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "SLICE_ROWS", 2)
    rows = DeviceCursors()
    for n in range(5):
        rows.merge(CursorEntry(f"u{n}", "d", "t", 1, 1), 0)
    slices = list(rows.expire(Expiry(9 * DAY, 8 * DAY, lambda *_: 0, lambda *_: False)))
    assert [len(found) for found in slices] == [2, 2, 1] and len(rows) == 0


def test_rows_carry_everything_into_another_object() -> None:
    rows, other = two_devices(), DeviceCursors()
    rows.merge(CursorEntry("bob", "d", "t", 7, 5, [7], [(6, 3)]), 0)
    keys = [key for some in rows.keys(1) for key in some]
    assert keys == [row_key("ann", "t"), row_key("bob", "t")] and all(key in rows for key in keys)
    for key in keys:
        other.load(key, rows.encoded(key))
    assert other.find("bob", "d", "t") == DeviceCursor("d", 7, 5, 0, [7], [(6, 3)])
    assert other.find("ann", "phone", "t") == rows.find("ann", "phone", "t")
    other.load(keys[0], None)
    other.load(keys[0], None)
    assert len(other) == 1 and other.encoded(keys[0]) is None
    with pytest.raises(CorruptRecord, match="ann"):
        other.load(keys[0], b"\x93")


@given(st.lists(st.tuples(entries, st.integers(0, 9)), max_size=20))
def test_the_size_is_that_of_all_rows(found: list[tuple[CursorEntry, int]]) -> None:
    rows, copy = DeviceCursors(), DeviceCursors()
    for entry, second in found:
        key = rows.merge(entry, second * 1_000)
        copy.load(key, rows.encoded(key))
    list(rows.expire(Expiry(10_000, 5_000, lambda user, topic: 8, lambda *ids: False)))
    for some in copy.keys(2):
        for key in some:
            copy.load(key, rows.encoded(key))
    sizes = [len(rows.encoded(key) or b"") for some in rows.keys(100) for key in some]
    assert rows.size == copy.size == sum(sizes)
