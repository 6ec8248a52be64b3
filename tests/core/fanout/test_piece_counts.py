"""Counts by piece: exactly the messages of a piece, and each subscriber once."""

from headgate.core.fanout.piece_counts import PieceCounts, WriteCount


def counted(*numbers: int) -> tuple[PieceCounts, list[WriteCount]]:
    counts, found = PieceCounts(), [WriteCount(number, number, 10.0) for number in numbers]
    for count in found:
        counts.add(count)
    return counts, found


def values(found: list[WriteCount]) -> list[int]:
    return [count.count for count in found]


def test_a_flush_counts_the_messages_of_its_piece() -> None:
    counts, found = counted(5, 7, 9, 11)
    counts.flushed(6, 9, 3)
    assert values(found) == [0, 3, 3, 0]
    assert [count.is_flushed for count in found] == [count.is_new for count in found] == [False, True, True, False]


def test_a_piece_for_one_subscriber_counts_one() -> None:
    counts, found = counted(5, 7, 9)
    counts.wrote(5, 7)
    counts.wrote(7, 7)
    counts.wrote(1, 4)
    assert values(found) == [1, 2, 0] and not any(count.is_flushed for count in found)


def test_who_is_set_back_is_taken_from_what_was_flushed_above_his_cursor() -> None:
    counts, found = counted(5, 7, 9)
    counts.flushed(5, 7, 4)
    counts.set_back(5)
    assert values(found) == [4, 3, 0], "9 was not written to anybody yet"


def test_they_are_kept_by_number_whatever_the_order_they_came_in() -> None:
    counts, found = counted(9, 5, 7)
    assert [count.number for count in counts] == [5, 7, 9]
    counts.remove(found[2])
    assert ([count.number for count in counts], len(counts)) == ([5, 9], 2)
    counts.flushed(1, 100, 1)
    assert values(found) == [1, 1, 0]
