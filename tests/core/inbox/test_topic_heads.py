"""Heads: merged by maximum whatever the order, and kept while a membership or a late record may need them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.inbox.topic_heads import WITHOUT_MEMBERS_MS, TopicHead, TopicHeads, head_key, higher
from headgate.core.wire.inbox_record import HeadEntry
from headgate.core.wire.records import Record

DAY = 86_400_000
any_head = st.builds(
    lambda epoch, seq, ts, offset, heard, hot, gone: TopicHead(
        *(epoch, seq, seq // 2, ts, offset, heard, hot, gone, gone)
    ),
    *(st.sampled_from([7, 8]), st.integers(0, 4), st.integers(0, 2), st.integers(0, 4), st.integers(0, 3)),
    *(st.booleans(), st.booleans()),
)


@given(any_head, any_head, any_head)
def test_the_merge_is_commutative_associative_and_idempotent(a: TopicHead, b: TopicHead, c: TopicHead) -> None:
    assert higher(a, b) == higher(b, a)
    assert higher(higher(a, b), c) == higher(a, higher(b, c))
    assert higher(higher(a, b), b) == higher(a, b)
    assert higher(a, a) == a


@given(any_head, any_head)
def test_a_head_never_goes_back_and_what_ended_stays_ended(a: TopicHead, b: TopicHead) -> None:
    both = higher(a, b)
    for one in (a, b):
        assert (both.epoch, both.gone) >= (one.epoch, one.gone) and both.heard_s >= one.heard_s
        assert both.seq >= one.seq or (both.epoch, both.gone) > (one.epoch, one.gone)
        assert all(both.ends(epoch) for epoch in (6, 7, 8) if one.ends(epoch))


@given(any_head, any_head)
def test_the_higher_head_is_the_maximum_by_all_that_says_where_it_is_and_when_it_was_written(
    a: TopicHead, b: TopicHead
) -> None:
    def order(head: TopicHead) -> tuple[int, ...]:
        return head.epoch, head.gone, head.seq, head.offset, head.n, head.ts, head.hot

    best, both = max(a, b, key=order), higher(a, b)
    assert order(both)[:5] == order(best)[:5] and both.hot == best.hot
    assert both.ts == max(head.ts for head in (a, b) if order(head)[:3] == order(best)[:3])
    assert both.has_ended == (a.has_ended or b.has_ended or a.epoch != b.epoch)


def merged(*entries: HeadEntry) -> tuple[TopicHeads, list[tuple[bytes | None, bool]]]:
    heads = TopicHeads()
    return heads, [heads.merge(entry, Record(at, 5_000, None, None)) for at, entry in enumerate(entries)]


def test_only_new_messages_count_as_news() -> None:
    key = head_key("t")
    _, found = merged(
        HeadEntry("t", 5, 3, 3),
        HeadEntry("t", 5, 3, 3),  # a repeat: nothing but where it was written
        HeadEntry("t", 5, 2, 2),  # late
        HeadEntry("t", 5, 5, 3),  # events
        HeadEntry("t", 5, 6, 4),
        HeadEntry("t", 6, 1, 1),  # made again
        HeadEntry("t", 6, 1, 1, gone=True),
        HeadEntry("t", 6, 2, 2),
    )
    assert [rose for _, rose in found] == [True, False, False, False, True, True, False, False]
    assert [place for place, _ in found] == [key, key, None, key, key, key, key, None]


def test_of_two_of_the_same_seq_the_one_that_was_written_later_says_how_it_is_delivered() -> None:
    heads, _ = merged(HeadEntry("t", 5, 3, 3, hot=True), HeadEntry("t", 5, 3, 3))
    found = heads.find("t")
    assert found is not None and not found.hot
    heads.merge(HeadEntry("t", 5, 3, 3, hot=True), Record(0, 5_000, None, None))  # the first is read again
    assert heads.find("t") == found


def test_a_new_owner_that_does_not_know_the_time_of_the_newest_message_changes_nothing_of_it() -> None:
    for entries in (
        [HeadEntry("t", 5, 3, 3, 70), HeadEntry("t", 5, 3, 3, 0, hot=True)],
        [HeadEntry("t", 5, 3, 3, 0, hot=True), HeadEntry("t", 5, 3, 3, 70)],
    ):
        heads, _ = merged(*entries)
        found = heads.find("t")
        assert found is not None and (found.ts, found.hot) == (70, entries[1].hot)
    heads, _ = merged(HeadEntry("t", 5, 3, 3, 70), HeadEntry("t", 5, 4, 4, 60), HeadEntry("t", 6, 4, 4, 50))
    found = heads.find("t")
    assert found is not None and found.ts == 50, "of another seq, or epoch, the time is its own"


@pytest.mark.parametrize(
    ("entries", "members", "kept_ms"),
    [
        ([HeadEntry("t", 5, 3, 3)], [], WITHOUT_MEMBERS_MS),
        ([HeadEntry("t", 5, 3, 3)], ["t"], None),
        ([HeadEntry("t", 5, 3, 3, gone=True)], [], 8 * DAY),
        ([HeadEntry("t", 6, 3, 3), HeadEntry("t", 5, 3, 3)], [], 8 * DAY),
    ],
)
def test_a_head_stays_while_it_has_members_or_a_record_of_what_it_ended_may_come(
    entries: list[HeadEntry], members: list[str], kept_ms: int | None
) -> None:
    heads, _ = merged(*entries)
    for now in (0, (kept_ms or DAY) + 5_000):
        assert [key for some in heads.expire(now, 8 * DAY, members.__contains__) for key in some] == []
    gone = [key for some in heads.expire((kept_ms or 99 * DAY) + 6_001, 8 * DAY, members.__contains__) for key in some]
    assert gone == ([] if kept_ms is None else [head_key("t")])
    assert (heads.find("t") is None) == (kept_ms is not None)


def test_a_head_that_ended_a_membership_is_kept_as_one_that_is_gone() -> None:
    heads, _ = merged(HeadEntry("t", 5, 3, 3))
    assert heads.ended_one("t") == head_key("t")
    assert heads.ended_one("t") is None and heads.ended_one("u") is None
    assert not any(heads.expire(7 * DAY, 8 * DAY, lambda topic: False))
