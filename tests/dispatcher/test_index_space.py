"""The index files of a dispatcher within the bytes that they may use together, however the messages are spread."""

from pathlib import Path

import pytest

from dispatcher.folder import IndexFolder
from dispatcher.index import HistoryIndex
from dispatcher.index_file import IndexFull, LogIdentity
from dispatcher.index_keeper import CROWDED_STEPS
from dispatcher.index_space import IndexSpace
from dispatcher.recent import ITEM_BITS, RecentMessage

MIB = 1 << 20
BATCH = 1_000
FRAME = 1_000
UNUSED = 2 * MIB  # a file's free pages that are too few to be given back, and what one batch adds


def batch(first: int, size: int = FRAME) -> list[RecentMessage]:
    seqs = range(first, first + BATCH)
    return [RecentMessage(seq << ITEM_BITS, 1, seq, b"%016d" % seq, seq, b"x" * size) for seq in seqs]


class Files:
    """The files of shards in one folder; what they use is looked at after every step, as the keeper's steps are."""

    def __init__(self, folder: Path, total: int) -> None:
        self.folder = folder
        self.space = IndexSpace(total)
        self.most = 0
        self._files: dict[int, HistoryIndex] = {}
        self._next: dict[int, int] = {}
        self._woken: set[int] = set()

    def open(self, shard: int) -> HistoryIndex:
        if shard not in self._files:
            path = self.folder / f"shard-{shard}.db"
            self._files[shard] = HistoryIndex(path, LogIdentity("c", 1, shard), 1 << 40, self.space)
            self.space.on_excess(shard, lambda: self._woken.add(shard))
        return self._files[shard]

    def write(self, shard: int, size: int = FRAME) -> None:
        index, first = self.open(shard), self._next.get(shard, 1)
        index.write(batch(first, size), (first, first + BATCH))
        self._next[shard] = first + BATCH
        for each in {shard, *self._woken}:
            steps = CROWDED_STEPS if each == shard else 4  # one that has nothing to write goes on until it is done
            while steps and self.open(each).over > 0 and self.open(each).tidy(0):
                steps -= 1
        self._woken.clear()
        self.most = max(self.most, self.used())

    def written(self, shard: int) -> int:
        return self._next[shard]

    def used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.suffix == ".db")

    def tidy(self) -> None:
        while any([index.tidy(0) for index in self._files.values()]):
            pass

    def close(self) -> None:
        for index in self._files.values():
            index.close()


def test_a_node_that_takes_over_all_shards_stays_within_its_disk(tmp_path: Path) -> None:
    files = Files(tmp_path, 24 * MIB)
    for _ in range(30):
        files.write(0)
    files.tidy()
    alone = files.space._used[0]
    assert 20 * MIB < alone <= 24 * MIB, "one shard may have all the room"
    for _ in range(12):
        for shard in range(4):
            files.write(shard)
    files.tidy()
    assert sum(files.space._used.values()) <= 24 * MIB
    assert max(files.space._used.values()) < 8 * MIB, "the first has given the others their shares"
    assert files.most <= 24 * MIB * 9 // 8 + 4 * UNUSED
    for shard in range(4):
        newest = [found.frame for found in files.open(shard).run(1, files.written(shard) - 100, 100)]
        assert len(newest) == 100 and None not in newest, "the newest are kept"
        oldest = next(files.open(shard).run(1, 1, 1))
        assert (oldest.seq, oldest.frame) == (1, None), "the oldest are read from the log"
    files.close()


def test_where_the_rows_alone_fill_it_nothing_more_is_written_until_the_log_has_dropped_some(tmp_path: Path) -> None:
    files = Files(tmp_path, 2 * MIB)
    with pytest.raises(IndexFull, match=r"the index files use \d+ bytes and index.total_bytes is 2097152"):
        for _ in range(100):
            files.tidy()
            files.write(0, size=10)
    written = files.open(0).ranges[-1][1]
    assert files.most < 2 * MIB * 9 // 8 + UNUSED
    while files.open(0).tidy(written - 2_000):
        pass
    files.write(0, size=10)
    assert files.open(0).ranges == [(written - 2_000, written + BATCH)]
    files.close()


def test_a_rebuild_leaves_frames_out_where_there_is_no_room(tmp_path: Path) -> None:
    files = Files(tmp_path, 3 * MIB)
    full = files.open(0)
    full.write(batch(1), (1, 1 + BATCH))
    full.write(batch(1 + BATCH), (1 + BATCH, 1 + 2 * BATCH))
    other = files.open(1)
    other.write([each for each in batch(5_001) if each.seq > 5_990], (5_991, 6_001))
    other.write(batch(4_991), (4_991, 5_991))
    assert {found.frame for found in other.run(1, 4_991, 500)} == {None}
    assert len(next(other.run(1, 5_995, 1)).frame or b"") == FRAME
    files.close()


def test_files_that_are_not_open_count_and_the_open_ones_share_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "shard-7.db").write_bytes(b"x" * 300)
    (tmp_path / "shard-7.db-wal").write_bytes(b"x" * 100)
    (tmp_path / "other").write_bytes(b"x" * 100)
    folder = IndexFolder(tmp_path)
    space = IndexSpace(1_000, folder.sizes())
    space.note(1, 500)
    space.note(2, 50)
    assert (space.excess(1), space.room(60), space.room(40)) == (0, 50, 40)
    space.note(2, 200)
    assert (space.excess(1), space.excess(2), space.room(1)) == (100, 0, 0)
    assert not space.is_full
    space.note(1, 600)
    assert space.is_full, "above an eighth more"
    space.closed(1)
    assert (space.excess(1), space.excess(2)) == (200, 200), "the closed one gives nothing; its bytes count"
    space.deleted(7)
    assert (space.excess(2), space.room(1_000)) == (0, 200)
    folder.release()


def test_without_a_bound_nothing_is_given_back() -> None:
    space = IndexSpace()
    space.note(1, 1 << 50)
    assert (space.is_full, space.excess(1), space.room(5)) == (False, 0, 5)
