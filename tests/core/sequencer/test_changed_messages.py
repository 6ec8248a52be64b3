"""Rows of changed messages: bounded, and a function of what was put alone."""

from random import Random

from headgate.core.sequencer.changed_messages import ChangedMessage, ChangedMessages


def row(pos: int, version: int = 2) -> ChangedMessage:
    return ChangedMessage(version, pos, False)


def test_rows_of_another_epoch_count_as_absent() -> None:
    changed = ChangedMessages()
    changed.put(b"t", 5, 1, row(10))
    assert changed.get(b"t", 5, 1) == row(10)
    assert changed.get(b"t", 6, 1) is None and changed.get(b"t", 5, 2) is None
    changed.put(b"t", 6, 1, row(20))
    assert changed.get(b"t", 5, 1) is None and changed.count == 1
    changed.put(b"t", 5, 2, row(30))
    assert changed.count == 1, "one that is older than the topic"


def test_beyond_the_bound_those_lowest_in_the_log_leave_and_stay_away() -> None:
    changed = ChangedMessages(most=3)
    for pos in (40, 10, 30, 20):
        changed.put(b"t", 5, pos, row(pos))
    assert (changed.count, changed.below) == (3, 10)
    assert sorted(changed.seqs(b"t")) == [20, 30, 40]
    changed.put(b"t", 5, 10, row(10))
    assert changed.get(b"t", 5, 10) is None
    changed.put(b"t", 5, 20, row(20, 3))
    assert (changed.count, changed.below) == (3, 10), "a row that is there takes no new room"


def test_topics_that_are_gone_neither_count_nor_raise_the_watermark() -> None:
    changed = ChangedMessages(most=3)
    for pos in (1, 2, 3):
        changed.put(b"gone", 5, pos, row(pos))
    changed.drop_topic(b"gone")
    for pos in (11, 12, 13):
        changed.put(b"t", 6, pos, row(pos))
    assert (changed.count, changed.below, changed.topic_keys()) == (3, -1, [b"t"])
    changed.put(b"t", 6, 14, row(14))
    assert (changed.count, changed.below) == (3, 11)


def test_what_is_kept_does_not_depend_on_the_topics_that_came_and_went() -> None:
    rng = Random(3)
    changed, kept = ChangedMessages(most=20), dict[tuple[bytes, int], int]()
    below = -1
    for pos in rng.sample(range(100_000), 3_000):
        key = b"t%d" % rng.randrange(4)
        if rng.random() < 0.02:
            changed.drop_topic(key)
            kept = {name: at for name, at in kept.items() if name[0] != key}
        changed.put(key, 5, pos, row(pos))
        if pos > below:
            kept[key, pos] = pos
        if len(kept) > 20:
            below = min(kept.values())
            kept = {name: at for name, at in kept.items() if at > below}
        assert changed.below == below
    assert {(key, seq) for key, _, seq, _ in changed} == set(kept)
    assert len(changed._heap) <= 60


def test_places_that_a_bad_log_repeats_or_changes_harm_nothing() -> None:
    changed = ChangedMessages(most=2)
    for seq in (1, 2, 3):
        changed.put(b"t", 5, seq, row(7))
    assert (changed.count, changed.below) == (0, 7)
    changed.put(b"t", 5, 4, row(8))
    changed.put(b"t", 5, 4, row(99, 3))
    assert changed.get(b"t", 5, 4) == row(8, 3)
    for pos in (20, 21):
        changed.put(b"t", 5, pos, row(pos))
    assert (changed.count, changed.below) == (2, 8)
