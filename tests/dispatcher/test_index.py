"""The history index: what it answers while entries are pending, rebuilt, deleted or trimmed."""

from pathlib import Path

import pytest

from dispatcher.index import HistoryIndex, Identity
from headgate.core.apply import Deliver

ME = Identity("cluster", 1, 0)
EPOCH = 7


def message(seq: int, *, ts: int | None = None, epoch: int = EPOCH, item: int = 0) -> Deliver:
    frame = b"frame-%d" % seq
    return Deliver("t", epoch, seq, 1000 + seq if ts is None else ts, b"%016d" % seq, item, frame, False)


def filled(path: Path | str = ":memory:", count: int = 10) -> HistoryIndex:
    index = HistoryIndex(path, ME)
    index.complete = True
    for seq in range(1, count + 1):
        index.add(100 + seq, message(seq))
        index.advance(101 + seq)
    return index


def test_pending_entries_are_answered_like_written_ones() -> None:
    index = filled()
    assert index.backlog == 10
    span = index.span(EPOCH, 4, 3, 10_000)
    assert (span.seq, span.frames, span.ts) == (4, [b"frame-4", b"frame-5", b"frame-6"], [1004, 1005, 1006])
    assert index.first_seq(EPOCH, 10) == 1
    assert index.seq_of(b"%016d" % 5, EPOCH) == 5
    assert index.seq_of(b"%016d" % 5, EPOCH + 1) is None
    assert index.at_offset(105) == [(0, EPOCH, 5)]
    assert index.first_seq(99, 0) == 1


def test_a_span_ends_at_its_bytes_and_at_a_hole_but_has_one_frame_at_least() -> None:
    index = filled()
    assert len(index.span(EPOCH, 1, 100, 20).frames) == 2
    assert len(index.span(EPOCH, 1, 100, 1).frames) == 1
    index.add(200, message(20))
    assert index.span(EPOCH, 9, 100, 10_000).frames == [b"frame-9", b"frame-10"]
    assert index.span(EPOCH, 11, 100, 10_000).seq == 20


def test_the_first_seq_not_older_also_when_the_clock_stepped_back() -> None:
    index = HistoryIndex(":memory:", ME)
    for seq, ts in enumerate((100, 200, 150, 160, 300), start=1):
        index.add(seq, message(seq, ts=ts))
    assert [index.seq_at(EPOCH, ts, 1, 5) for ts in (0, 100, 101, 155, 201, 301)] == [1, 1, 2, 2, 5, None]


def test_it_goes_on_where_it_was_and_says_up_to_where(tmp_path: Path) -> None:
    filled(tmp_path / "i.db").close()
    again = HistoryIndex(tmp_path / "i.db", ME)
    assert again.next_offset == 111
    assert again.first_seq(EPOCH, 10) == 1
    again.close()


@pytest.mark.parametrize("other", [Identity("else", 1, 0), Identity("cluster", 2, 0), Identity("cluster", 1, 1)])
def test_an_index_of_another_log_is_thrown_away(tmp_path: Path, other: Identity) -> None:
    filled(tmp_path / "i.db").close()
    index = HistoryIndex(tmp_path / "i.db", other)
    assert (index.next_offset, index.first_seq(EPOCH, 10)) == (0, 11)
    index.close()


def test_a_damaged_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "i.db").write_bytes(b"not a database at all, but long enough" * 200)
    index = HistoryIndex(tmp_path / "i.db", ME)
    assert index.next_offset == 0
    index.close()


def test_an_incomplete_index_never_claims_to_be_further(tmp_path: Path) -> None:
    """A crash in the middle of a rebuild must not leave a file that says it is whole."""
    index = HistoryIndex(tmp_path / "i.db", ME)
    index.add(500, message(5))
    index.advance(501)
    index.close()
    assert HistoryIndex(tmp_path / "i.db", ME).next_offset == 0


def test_a_rebuild_behind_live_messages_gives_the_same_answers() -> None:
    index = HistoryIndex(":memory:", ME)
    for seq in range(6, 11):
        index.add(100 + seq, message(seq))
    index.flush()
    for seq in range(1, 6):
        index.add(100 + seq, message(seq), old=True)
    assert len(index.span(EPOCH, 1, 100, 10_000).frames) == 10
    assert [index.seq_at(EPOCH, 1000 + n, 1, 10) for n in (1, 5, 6, 10)] == [1, 5, 6, 10]


def test_a_deleted_topic_leaves_nothing() -> None:
    index = filled()
    index.add(300, message(1, epoch=8))
    index.forget(EPOCH)
    for _ in range(4):
        index.flush()
    assert index.first_seq(EPOCH, 10) == 11
    assert index.seq_of(b"%016d" % 5, EPOCH) is None
    assert index.first_seq(8, 1) == 1


def test_what_the_log_no_longer_holds_is_trimmed() -> None:
    index = filled()
    index.flush()
    assert index.trim(106) is False
    assert index.first_seq(EPOCH, 10) == 6
    assert index.at_offset(105) == []
