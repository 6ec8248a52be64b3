"""Pairs of other wings in a shard's snapshots: carried, compared and restored as they were at the instant."""

from collections.abc import Iterator
from random import Random

import pytest

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.pairs import JoinedPairs, NoPairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import chain_among, read_chunk
from headgate.core.sequencer.snapshot_check import BadSnapshot, BaseCheck
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.errors import BrokenChain, CorruptRecord
from tests.core.snapshot_bed import configured, restore


class Values:
    """Pairs as a dict."""

    def __init__(self) -> None:
        self.next_offset = 0
        self.changes = 0
        self.values: dict[bytes, bytes] = {}

    def keys(self, size: int) -> Iterator[list[bytes]]:
        keys = list(self.values)
        yield from (keys[at : at + size] for at in range(0, len(keys), size))

    def encoded(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def load(self, key: bytes, value: bytes | None) -> None:
        if key == b"bad":
            raise CorruptRecord("no such pair")
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value


def write(rng: Random, pairs: Values, writer: SnapshotWriter) -> None:
    key = b"%d" % rng.randrange(50)
    pairs.load(key, None if rng.random() < 0.3 else b"\xa1%d" % rng.randrange(10))
    pairs.next_offset += 1
    writer.touch(PairKey(key))


@pytest.mark.parametrize("seed", range(8))
def test_restored_pairs_are_those_of_the_instant(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 5)
    rng, pairs, shard, rows = Random(seed), Values(), Shard(), dict[bytes, Row]()
    list(apply_many(shard, rows, configured()))
    writer, log = SnapshotWriter(pairs), list[bytes]()
    for _ in range(10):
        base = writer.wants_base or rng.random() < 0.3
        steps = writer.base(shard, rows, 0) if base else writer.delta(shard, rows)
        for value in steps:
            if value is not None:
                log.append(value)
            for _ in range(rng.randrange(4)):
                write(rng, pairs, writer)
        log += [value for value in writer.delta(shard, rows) if value is not None]
        restored = Values()
        restore(chain_among(c for at, v in enumerate(log) if (c := read_chunk(at, v)) is not None), restored)
        assert (restored.values, restored.next_offset) == (pairs.values, pairs.next_offset)


def test_a_base_whose_pairs_are_not_those_kept_is_bad() -> None:
    pairs, shard, rows = Values(), Shard(), dict[bytes, Row]()
    list(apply_many(shard, rows, configured()))
    pairs.values = {b"a": b"\x01", b"b": b"\x02"}
    writer = SnapshotWriter(pairs)
    values = [value for value in writer.base(shard, rows, 0) if value is not None]

    def check() -> None:
        chunks = [chunk for at, value in enumerate(values) if (chunk := read_chunk(at, value))]
        checking = BaseCheck([chunk.name for chunk in chunks], writer.mark, shard, rows, writer, pairs)
        for chunk in reversed(chunks):
            list(checking.taking(chunk))
        list(checking.finishing())

    check()
    pairs.values[b"b"] = b"\x03"
    with pytest.raises(BadSnapshot, match="b'b' is not what was written"):
        check()
    writer.touch(PairKey(b"b"))
    pairs.values[b"c"] = b"\x03"
    with pytest.raises(BadSnapshot, match="b'c' is not in the base"):
        check()
    writer.touch(PairKey(b"c"))
    check()


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_pairs_are_checked_in_slices(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_check.SLICE_ROWS", size)
    pairs, shard, rows = Values(), Shard(), dict[bytes, Row]()
    list(apply_many(shard, rows, configured()))
    pairs.values = {b"%d" % n: b"\x01" for n in range(23)}
    writer = SnapshotWriter(pairs)
    (value,) = [value for value in writer.base(shard, rows, 0) if value is not None]
    chunk = read_chunk(0, value)
    assert chunk is not None
    checking = BaseCheck([chunk.name], writer.mark, shard, rows, writer, pairs)
    assert len(list(checking.taking(chunk))) == 1 + 23 // size
    assert len(list(checking.finishing())) == 1 + 1 + 1 + -(-23 // size)  # rows, members, changed messages, pairs


def test_a_pair_that_its_wing_cannot_read_breaks_the_chain() -> None:
    pairs, shard, rows = Values(), Shard(), dict[bytes, Row]()
    list(apply_many(shard, rows, configured()))
    pairs.values = {b"bad": b"\x01"}
    log = [value for value in SnapshotWriter(pairs).base(shard, rows, 0) if value is not None]
    chain = chain_among(c for at, v in enumerate(log) if (c := read_chunk(at, v)) is not None)
    with pytest.raises(BrokenChain, match="no such pair"):
        restore(chain, Values())
    restore(chain, NoPairs())


def test_changed_pairs_wait_for_a_snapshot_and_it_says_up_to_where_it_has_their_log() -> None:
    pairs, shard, rows = Values(), Shard(), dict[bytes, Row]()
    list(apply_many(shard, rows, configured()))
    writer = SnapshotWriter(pairs)
    pairs.next_offset, pairs.changes = 7, 2
    steps = writer.base(shard, rows, 0)
    log = [value for value in steps if value is not None]
    assert (writer.pending(shard), writer.inbox_offset) == (0, 7)
    pairs.next_offset, pairs.changes = 9, 5
    assert (writer.pending(shard), writer.inbox_offset) == (3, 7)
    again = SnapshotWriter(restored := Values())
    chain = chain_among(c for at, v in enumerate(log) if (c := read_chunk(at, v)) is not None)
    shard, _ = restore(chain, restored)
    again.resume(chain, shard.window)
    assert (again.pending(shard), again.inbox_offset, restored.next_offset) == (0, 7, 7)
    again.forget()
    assert (again.pending(shard) > 0, again.inbox_offset) == (True, -1)


def test_the_pairs_of_two_wings_are_one_in_a_snapshot_and_each_gets_its_own_back() -> None:
    main, other = Values(), Values()
    joined = JoinedPairs(main, {b"o:": other})
    for key in (b"a", b"o:a", b"b", b"o:b"):
        joined.load(key, b"of " + key)
    assert (main.values, other.values) == ({b"a": b"of a", b"b": b"of b"}, {b"o:a": b"of o:a", b"o:b": b"of o:b"})
    assert [key for keys in joined.keys(1) for key in keys] == [b"a", b"b", b"o:a", b"o:b"]
    assert (joined.encoded(b"o:a"), joined.encoded(b"a"), joined.encoded(b"o:c")) == (b"of o:a", b"of a", None)
    joined.load(b"o:a", None)
    assert list(other.values) == [b"o:b"]
    main.changes, other.changes, joined.next_offset = 3, 4, 9
    assert (joined.changes, joined.next_offset, main.next_offset, other.next_offset) == (7, 9, 9, 0)
