"""The index file: what it answers, what it knows to hold, what it drops and what it gives back."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from dispatcher.index import HistoryIndex
from dispatcher.index_file import FREE_PAGES, LogIdentity
from dispatcher.recent import ITEM_BITS, RecentMessage
from headgate.core.wire.records import LastRecord

ME = LogIdentity("cluster", 1, 0)
EPOCH = 7


def entry(
    seq: int, *, offset: int | None = None, ts: int | None = None, epoch: int = EPOCH, item: int = 0
) -> RecentMessage:
    at = 100 + seq if offset is None else offset
    when = 1000 + seq if ts is None else ts
    return RecentMessage(at << ITEM_BITS | item, epoch, seq, b"%08d%08d" % (epoch, seq), when, b"frame-%d" % seq)


def filled(path: Path | str = ":memory:", count: int = 10, frame_bytes: int = 1 << 30) -> HistoryIndex:
    index = HistoryIndex(path, ME, frame_bytes)
    index.write([entry(seq) for seq in range(1, count + 1)], (101, 101 + count))
    return index


def frames(index: HistoryIndex, seq: int, count: int = 100, epoch: int = EPOCH) -> list[bytes | None]:
    return [found.frame for found in index.run(epoch, seq, count)]


def tidy(index: HistoryIndex, first_offset: int = 0) -> int:
    for slices in range(10_000):
        if not index.tidy(first_offset):
            return slices
    raise AssertionError("it never ends")


def test_it_answers_by_seq_offset_and_id() -> None:
    index = filled()
    assert frames(index, 4, 3) == [b"frame-4", b"frame-5", b"frame-6"]
    assert index.first_seq(EPOCH, 0) == 1
    assert index.seq_of(entry(5).id, EPOCH) == 5
    assert index.seq_of(entry(5).id, EPOCH + 1) is None
    assert index.at_offset(105) == [(0, EPOCH, 5)]
    assert index.first_seq(99, 0) is None
    assert index.has(EPOCH, 10)
    assert not index.has(EPOCH, 11)


def test_ids_with_one_number_are_told_apart() -> None:
    index = filled()
    twin = entry(11)._replace(id=b"another " + entry(5).id[8:])
    index.write([twin], (111, 112))
    assert index.places_of(entry(5).id) == [(EPOCH, 5)]
    assert index.places_of(twin.id) == [(EPOCH, 11)]
    assert index.places_of(b"a third " + entry(5).id[8:]) == []


def test_of_an_id_that_came_again_the_newest_is_found_whatever_order_they_came_in_and_each_goes_alone() -> None:
    first, second = entry(5), entry(9)._replace(id=entry(5).id)
    for order in ([first, second], [second, first]):
        index = HistoryIndex(":memory:", ME)
        for e in order:
            index.write([e], (e.pos >> ITEM_BITS, (e.pos >> ITEM_BITS) + 1))
        assert index.places_of(first.id) == [(EPOCH, 9), (EPOCH, 5)]
        index.unlist(EPOCH, 9, 9)
        assert index.seq_of(first.id, EPOCH) == 5


def test_a_run_ends_at_a_hole() -> None:
    index = filled()
    index.write([entry(20)], (115, 121))
    assert frames(index, 9) == [b"frame-9", b"frame-10"]
    assert frames(index, 11) == [b"frame-20"]


@pytest.mark.parametrize("offset", [0, 101, 104, 105, 110, 111])
def test_the_first_seq_from_an_offset_on(offset: int) -> None:
    index = filled()
    expected = max(1, offset - 100)
    assert index.first_seq(EPOCH, offset) == (expected if expected <= 10 else None)


def test_the_first_seq_not_older_also_when_the_clock_stepped_back_and_newest_first() -> None:
    """`since_ts` finds the first message in seq order whose time is not smaller, whatever order segments came in."""
    times = [100, 200, 150, 160, 300]
    entries = [entry(seq, ts=ts, offset=1_000 * seq) for seq, ts in enumerate(times, start=1)]
    for order in (entries, entries[::-1]):
        index = HistoryIndex(":memory:", ME)
        for e in order:
            index.write([e], (e.pos >> ITEM_BITS, (e.pos >> ITEM_BITS) + 1))
        assert [index.seq_at(EPOCH, ts, 1) for ts in (0, 100, 101, 155, 201, 301)] == [1, 1, 2, 2, 5, None]
        assert index.seq_at(EPOCH, 155, 3) == 4


def test_many_messages_of_one_record_are_found_by_time() -> None:
    index = HistoryIndex(":memory:", ME)
    bundles = [entry(b * 1000 + i + 1, offset=b, item=i, ts=b * 10) for b in range(5) for i in range(1000)]
    index.write(bundles, (0, 5))
    assert [index.seq_at(EPOCH, ts, 1) for ts in (0, 1, 10, 39, 40, 41)] == [1, 1001, 1001, 4001, 4001, None]
    assert index.first_seq(EPOCH, 3) == 3001


def test_it_goes_on_where_it_was_and_knows_what_it_holds(tmp_path: Path) -> None:
    index = filled(tmp_path / "i.db")
    index.write([entry(40)], (140, 150), last=LastRecord(149, b"m" * 16))
    index.close()
    again = HistoryIndex(tmp_path / "i.db", ME)
    assert again.ranges == [(101, 111), (140, 150)]
    assert again.last == LastRecord(149, b"m" * 16)
    assert again.first_seq(EPOCH, 0) == 1
    again.close()


@pytest.mark.parametrize(
    "other", [LogIdentity("else", 1, 0), LogIdentity("cluster", 2, 0), LogIdentity("cluster", 1, 1)]
)
def test_an_index_of_another_log_is_thrown_away(tmp_path: Path, other: LogIdentity) -> None:
    filled(tmp_path / "i.db").close()
    index = HistoryIndex(tmp_path / "i.db", other)
    assert (index.ranges, index.first_seq(EPOCH, 0)) == ([], None)
    index.close()


def test_a_file_of_older_tables_is_thrown_away(tmp_path: Path) -> None:
    filled(tmp_path / "i.db").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "i.db")) as old, old:
        old.execute("DROP TABLE ids")
        old.execute("CREATE TABLE ids (id BLOB, epoch INTEGER, seq INTEGER, PRIMARY KEY (id, epoch)) WITHOUT ROWID")
        old.execute("UPDATE meta SET value = 3 WHERE name = 'schema'")
    index = HistoryIndex(tmp_path / "i.db", ME)
    assert (index.ranges, index.first_seq(EPOCH, 0)) == ([], None)
    index.write([entry(1)], (101, 102))
    assert index.seq_of(entry(1).id, EPOCH) == 1
    index.close()


def test_a_damaged_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "i.db").write_bytes(b"not a database at all, but long enough" * 200)
    index = HistoryIndex(tmp_path / "i.db", ME)
    assert index.ranges == []
    index.close()


def test_a_deleted_topic_leaves_nothing_also_after_a_restart_and_the_disk_gets_its_space_back(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    index = HistoryIndex(path, ME)
    index.write([entry(s)._replace(frame=b"x" * 2_000) for s in range(1, 3_001)], (101, 3_101))
    index.write([entry(1, epoch=8, offset=3_101)], (3_101, 3_103), gone=[EPOCH])
    assert index.tidy(0)
    index.close()
    before = os.path.getsize(path)
    index = HistoryIndex(path, ME)
    tidy(index)
    assert index.first_seq(EPOCH, 0) is None
    assert index.seq_of(entry(5).id, EPOCH) is None
    assert index.frame_bytes == len(b"frame-1")
    assert index.first_seq(8, 0) == 1
    index.close()
    assert os.path.getsize(path) < before / 2
    assert HistoryIndex(path, ME).gone == set()


def test_what_the_log_no_longer_holds_is_trimmed_with_its_ranges() -> None:
    index = filled(count=1_200)
    tidy(index, 106)
    assert index.first_seq(EPOCH, 0) == 6
    assert index.at_offset(105) == []
    assert index.ranges == [(106, 1_301)]
    tidy(index, 1_250)
    assert (index.first_seq(EPOCH, 0), index.ranges) == (1_150, [(1_250, 1_301)])


@pytest.mark.parametrize("size", [250, 1_000, 6_000])
def test_dropped_frames_give_their_room_back_to_the_file_system(tmp_path: Path, size: int) -> None:
    count = 8_000_000 // size
    messages = [entry(seq)._replace(frame=b"x" * size) for seq in range(1, count + 1)]
    sizes = []
    for bound in (count * size, count * size // 10):
        index = HistoryIndex(tmp_path / f"{bound}.db", ME, bound)
        index.write(messages, (101, 101 + count))
        tidy(index)
        assert index.frame_bytes <= bound and len(frames(index, 1, count)) == count
        index.close()
        sizes.append((tmp_path / f"{bound}.db").stat().st_size)
    rows = 160 * count + (2 << 20)  # of what is not dropped, and free pages that are too few to be given back
    assert sizes[1] < sizes[0] // 10 + rows


def test_frames_stay_within_their_bound_newest_first_and_their_messages_stay() -> None:
    index = filled(count=1_000, frame_bytes=900)
    tidy(index)
    kept = [found.frame for found in index.run(EPOCH, 1, 1_000)]
    assert index.frame_bytes == sum(len(f) for f in kept if f is not None) <= 900
    assert kept[-90:] == [b"frame-%d" % n for n in range(911, 1_001)]
    assert kept[:800] == [None] * 800
    assert index.seq_of(entry(5).id, EPOCH) == 5


def test_a_rebuild_behind_full_frames_keeps_the_newer_ones() -> None:
    index = HistoryIndex(":memory:", ME, 90)
    index.write([entry(seq) for seq in range(11, 21)], (111, 121))
    index.write([entry(seq) for seq in range(1, 11)], (101, 111))
    tidy(index)
    assert [f is None for f in frames(index, 1)] == [True] * 10 + [False] * 10
    assert index.frame_bytes == 80


def test_free_pages_below_a_slice_are_left_alone() -> None:
    assert FREE_PAGES > 1
    assert tidy(filled()) == 0


def test_what_is_written_again_after_a_restart_is_counted_once() -> None:
    """Behind its newest snapshot a shard applies again what the file already has."""
    index = filled()
    before = index.frame_bytes
    index.write([entry(seq) for seq in range(6, 15)], (106, 115))
    assert index.ranges == [(101, 115)]
    assert index.frame_bytes == before + sum(len(entry(seq).frame) for seq in range(11, 15))
    assert frames(index, 1) == [entry(seq).frame for seq in range(1, 15)]
