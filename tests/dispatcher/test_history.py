"""What a shard answers of its past: from memory and file alike, with a file that is full or damaged, and with holes."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispatcher.dispatcher_options import DEFAULT_HISTORY, HistoryOptions
from dispatcher.history import ANY_TOPIC, History
from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from dispatcher.recent import ITEM_BITS, RecentMessage
from headgate.core.sequencer.effects import Deliver
from headgate.core.wire.records import LastRecord

ME = LogIdentity("cluster", 1, 0)
EPOCH = 7


def message(seq: int, *, epoch: int = EPOCH, item: int = 0) -> Deliver:
    return Deliver("t", epoch, seq, 1000 + seq, b"%08d%08d" % (epoch, seq), item, b"frame-%d" % seq, False)


def taken(history: History, *seqs: int) -> None:
    """Messages with these seqs come in, each at the offset 100 + seq."""
    for seq in seqs:
        history.add(100 + seq, message(seq))
        history.advance(101 + seq, LastRecord(100 + seq, b"%016d" % seq))


def a_history(
    path: Path | str = ":memory:", frame_bytes: int = 1 << 30, options: HistoryOptions = DEFAULT_HISTORY
) -> History:
    history = History(101, 101, options)
    history.opened(HistoryIndex(path, ME, frame_bytes))
    return history


def frames(history: History, seq: int, count: int = 1_000, size: int = 1 << 20) -> list[bytes]:
    return history.span(EPOCH, seq, count, size).frames


class Asker:
    open = True


def full(history: History) -> None:
    """From now on every write of the file fails as on a full disk."""
    assert history.file is not None
    pages = history.file._db.execute("PRAGMA page_count").fetchone()[0]
    history.file._db.execute(f"PRAGMA max_page_count={pages}").fetchall()


@pytest.mark.parametrize("written", [0, 4, 10])
def test_pending_messages_are_answered_like_written_ones(written: int) -> None:
    history = a_history(options=HistoryOptions(batch=max(written, 1)))
    taken(history, *range(1, 11))
    assert not written or history.write()
    assert len(history.recent) == 10 - written
    span = history.span(EPOCH, 3, 4, 10_000)
    assert (span.seq, span.frames, span.ts) == (
        3,
        [b"frame-%d" % n for n in range(3, 7)],
        [1003, 1004, 1005, 1006],
    )
    assert len(frames(history, 1)) == 10
    assert len(frames(history, 1, size=20)) == 2
    assert len(frames(history, 1, size=1)) == 1
    assert frames(history, 1, count=0) == []
    assert history.first_seq(EPOCH, 10) == 1
    assert history.first_seq(99, 0) == 1
    assert [history.seq_at(EPOCH, ts, 1, 10) for ts in (0, 1005, 1010, 1011)] == [1, 5, 10, None]
    assert [history.seq_of(message(n).id, EPOCH) for n in (1, 5, 10, 11)] == [1, 5, 10, None]
    assert [history.at_offset(100 + n) for n in (1, 10)] == [[(0, EPOCH, 1)], [(0, EPOCH, 10)]]
    assert [history.has(EPOCH, n) for n in (1, 10, 11)] == [True, True, False]


def test_the_file_says_it_holds_only_what_was_written(tmp_path: Path) -> None:
    """A crash while messages are pending must leave no hole that the file does not know of."""
    history = a_history(tmp_path / "i.db")
    taken(history, 1, 2, 3)
    assert history.write()
    taken(history, 4, 5)
    again = HistoryIndex(tmp_path / "copy.db", ME)
    again.close()
    assert history.file is not None
    assert history.file.ranges == [(101, 104)]
    assert history.file.last.offset == 103
    history.close()
    reopened = HistoryIndex(tmp_path / "i.db", ME)
    assert reopened.ranges == [(101, 104)]
    reopened.close()


def test_a_bundle_is_written_whole() -> None:
    history = a_history(options=HistoryOptions(batch=10))
    for item in range(1_000):
        history.add(101, message(item + 1, item=item))
    history.add(102, message(1_001))
    history.advance(103, None)
    assert history.write()
    assert history.file is not None
    assert history.file.ranges == [(101, 102)]
    assert history.file.has(EPOCH, 1_000)
    assert not history.file.has(EPOCH, 1_001)


def test_a_full_disk_costs_history_and_heals_and_nothing_is_called_gone(tmp_path: Path) -> None:
    history = a_history(tmp_path / "i.db")
    taken(history, 1)
    assert history.write()
    assert history.complete
    full(history)
    big = message(2)._replace(frame=b"x" * 1_000_000)
    history.add(102, big)
    history.advance(103, None)
    assert not history.write()
    assert "full" in history.why
    assert not history.complete
    assert history.file is None
    assert history.span(EPOCH, 2, 1, 1 << 20).frames == [big.frame], "live messages are answered without the file"
    history.opened(HistoryIndex(tmp_path / "i.db", ME))
    assert (history.why, history.complete) == ("", True)
    assert history.write()
    assert history.span(EPOCH, 1, 9, 1 << 21).frames == [b"frame-1", big.frame]


def test_memory_without_a_file_is_bounded_and_what_left_it_is_a_gap() -> None:
    history = History(101, 101, HistoryOptions(batch=10, recent_messages=100))
    taken(history, *range(1, 501))
    assert len(history.recent) <= 110
    assert history.recent.bytes == sum(len(b"frame-%d" % n) for n in range(history.first_seq(EPOCH, 500), 501))
    gaps = history.gaps()
    assert gaps == [(101, 100 + history.first_seq(EPOCH, 500))]
    assert not history.complete
    history.opened(HistoryIndex(":memory:", ME))
    assert not history.complete
    assert history.has_gaps.is_set()
    low, high = gaps[0]
    entries = [
        RecentMessage((100 + n) << ITEM_BITS, EPOCH, n, message(n).id, 1, b"frame-%d" % n) for n in range(1, high - 100)
    ]
    assert history.fill(entries, low, high)
    assert history.complete
    assert len(frames(history, 1)) == 500


def test_an_id_that_came_again_after_the_window_forgot_it_does_no_harm() -> None:
    """Without the file messages stay in memory for longer than their ids in the window of a quiet shard."""
    history = History(101, 101, HistoryOptions(batch=1, recent_messages=10))
    for seq in range(1, 31):
        history.add(100 + seq, message(2 if seq == 8 else seq)._replace(seq=seq))
        history.advance(101 + seq, None)
        assert history.seq_of(message(2).id, EPOCH) == (None if seq < 2 or seq > 17 else 2 if seq < 8 else 8)
    assert len(history.recent) <= 11


def test_topics_deleted_while_the_file_is_away_are_remembered_no_longer_than_messages() -> None:
    history = History(101, 101, HistoryOptions(recent_messages=10))
    for seq in range(1, 101):
        taken(history, seq)
        history.forget(100 + seq, 1_000 + seq)
    assert len(history._gone) <= 12


def test_memory_without_a_file_is_bounded_in_bytes() -> None:
    history = History(1, 1, HistoryOptions(batch=1, recent_bytes=1_000_000))
    for n in range(1, 101):
        history.add(n, message(n)._replace(frame=b"x" * 64_000))
        history.advance(n + 1, None)
    assert history.recent.bytes <= 1_000_000


def test_a_damaged_file_is_deleted_and_another_fault_leaves_it(tmp_path: Path) -> None:
    history = a_history(tmp_path / "i.db")
    taken(history, 1)
    history.write()
    error: Any = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    history.fault(error)
    assert not (tmp_path / "i.db").exists()
    history.opened(HistoryIndex(tmp_path / "i.db", ME))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    history.fault(error)
    assert (tmp_path / "i.db").exists()


def test_no_question_raises_a_fault_of_the_file() -> None:
    questions: list[Callable[[History], object]] = [
        lambda h: h.span(EPOCH, 1, 10, 100),
        lambda h: h.first_seq(EPOCH, 1),
        lambda h: h.seq_at(EPOCH, 1, 1, 1),
        lambda h: h.has(EPOCH, 1),
        lambda h: h.seq_of(b"0" * 16, EPOCH),
        lambda h: h.at_offset(101),
        lambda h: h.tidy(),
        lambda h: h.take_back(EPOCH, 1, 1),
        lambda h: h.fill([], 1, 2),
    ]
    for question in questions:
        history = a_history()
        taken(history, 1)
        history.write()
        assert history.file is not None
        history.file._db.close()
        question(history)
        assert history.why
        assert history.file is None


def test_while_older_history_is_missing_the_first_seq_begins_the_run_to_the_head() -> None:
    history = a_history()
    taken(history, *range(1, 11))
    history.write()
    later = History(101, 151)
    later.opened(history.file)  # type: ignore[arg-type]
    for seq in range(51, 61):
        later.add(100 + seq, message(seq))
        later.advance(101 + seq, None)
    assert later.gaps() == [(111, 151)]
    assert later.first_seq(EPOCH, 60) == 51
    assert later.has(EPOCH, 5)
    later.log_begins(151)
    assert later.complete
    assert later.first_seq(EPOCH, 60) == 51


def test_waiters_are_called_when_their_topic_grows_or_history_is_whole_and_forgotten_with_their_session() -> None:
    history, called, asker, other = History(1, 50), list[str](), Asker(), Asker()
    history.wait(1, asker, lambda: called.append("one"))
    history.wait(2, asker, lambda: called.append("two"))
    history.wait(3, other, lambda: called.append("left"))
    history.wait(ANY_TOPIC, asker, lambda: called.append("any"))
    history.left(other)
    history.release([1])
    assert called == ["one"]
    history.log_begins(50)
    assert sorted(called) == ["any", "one", "two"]
    assert history._waiters == 0


def test_an_index_that_was_ahead_takes_no_message_twice(tmp_path: Path) -> None:
    """After a kill the log is applied again from the newest snapshot, which is behind the index."""
    history = a_history(tmp_path / "i.db")
    taken(history, *range(1, 11))
    history.write()
    history.close()
    file = HistoryIndex(tmp_path / "i.db", ME)
    size = file.frame_bytes
    again = History(101, 103)
    again.opened(file)
    taken(again, *range(3, 11))
    assert again.write()
    assert len(again.recent) == 0
    assert file.frame_bytes == size
    assert again.complete
    assert len(frames(again, 1)) == 10


def test_frames_that_were_dropped_are_asked_of_the_log() -> None:
    history = a_history(frame_bytes=45, options=HistoryOptions(loaded_bytes=20))
    taken(history, *range(1, 11))
    history.write()
    while history.tidy():
        pass
    span = history.span(EPOCH, 1, 4, 1 << 20)
    assert (span.frames, span.absent) == ([], [((100 + n) << ITEM_BITS, n) for n in range(1, 5)])
    for pos, seq in span.absent[:2]:
        history.loaded(pos, b"frame-%d" % seq)
    assert frames(history, 1) == [b"frame-1", b"frame-2"], "a page ends before what has to be loaded"
    assert len(frames(history, 7)) == 4
    history.loaded(1, b"x" * 18)
    assert history._loaded_bytes <= 20
