"""M3: a base is compared with the live state by content; every kind of difference is found."""

from collections.abc import Callable

import msgspec
import pytest

from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.snapshot import Chunk, name_of, read_chunk, seal
from headgate.core.sequencer.snapshot_check import BadSnapshot, BaseCheck
from headgate.core.sequencer.window import window_key
from tests.core.snapshot_bed import Bed, bundle, configured

TOPICS = [f"t{n}" for n in range(40)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.sequencer.chunk_builder.CHUNK_BYTES", 1_000)
    monkeypatch.setattr("headgate.core.sequencer.window.BLOCK_IDS", 16)


def based() -> Bed:
    bed = Bed()
    bed.feed(configured(topics=["t", *TOPICS]))
    bed.feed([bundle(100 + n, n * 10, 10, epoch=(1 << 44) | 1, keyed=n % 2 == 0) for n in range(10)])
    bed.snapshot(base=True)
    return bed


def check(bed: Bed, chunks: list[Chunk] | None = None, during: Callable[[], None] = lambda: None) -> None:
    names = [name_of(value) for value in bed.log]
    base = BaseCheck(names, bed.writer.mark, bed.shard, bed.rows, bed.writer)
    for chunk in reversed(bed.chunks() if chunks is None else chunks):
        for _ in base.taking(chunk):
            during()
    assert base.is_read or chunks is not None
    for _ in base.finishing():
        pass


def test_a_base_that_is_right_passes_also_with_a_zombies_chunks_between() -> None:
    bed = based()
    assert len(bed.log) > 3
    check(bed)
    zombie = read_chunk(3, seal(0, 1, 1, 0, 0, bytes(16), b"\x93\x90\x90\xc0"))
    assert zombie is not None
    check(bed, [c for chunk in bed.chunks() for c in (zombie, chunk)])


def test_records_that_are_applied_meanwhile_are_no_difference() -> None:
    bed = based()
    offsets = iter(range(1_000, 2_000))

    def apply_more() -> None:
        offset = next(offsets)
        bed.feed([bundle(offset, offset * 10, 5)])

    check(bed, during=apply_more)
    assert bed.shard.next_offset > 1_005


def test_a_row_that_differs_is_found_unless_it_was_touched_since() -> None:
    bed = based()
    bed.rows[b"t7"].seq += 1
    with pytest.raises(BadSnapshot, match=r"t7.* at \d+$"):
        check(bed)
    bed.writer.touch(b"t7")
    check(bed)


def test_a_row_that_is_not_in_the_base_is_found() -> None:
    bed = based()
    bed.rows[b"new"] = Row("new", 1, 0, "n", "PUBLIC", "ann", 1, {})
    with pytest.raises(BadSnapshot, match="new"):
        check(bed)
    bed.writer.touch(b"new")
    check(bed)


def test_a_row_that_should_be_gone_is_found() -> None:
    bed = based()
    del bed.rows[b"t9"]
    with pytest.raises(BadSnapshot, match="t9"):
        check(bed)
    bed.writer.touch(b"t9")
    check(bed)


def test_a_later_entry_of_a_row_counts_and_not_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows written slice by slice change before the instant; the instant's entry is the right one."""
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 5)
    bed = Bed()
    bed.feed(configured(topics=["t", *TOPICS]))
    n = 0
    for value in bed.writer.base(bed.shard, bed.rows, 0):
        bed.log.extend([value] if value else [])
        if value is None and n < 8:
            bed.feed([bundle(100 + n, n * 10, 10, epoch=(1 << 44) | 1)])
            n += 1
    check(bed)


def test_a_chunk_that_is_missing_is_found() -> None:
    bed = based()
    for gone in range(len(bed.log)):
        with pytest.raises(BadSnapshot, match=r"^\d+ chunks of the base cannot be read back$"):
            check(bed, [c for c in bed.chunks() if c.at != gone])


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_a_base_is_checked_in_slices(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_check.SLICE_ROWS", size)
    bed = based()
    base = BaseCheck([name_of(value) for value in bed.log], bed.writer.mark, bed.shard, bed.rows, bed.writer)
    for chunk in reversed(bed.chunks()):
        body = chunk.body()
        assert len(list(base.taking(chunk))) == 1 + len(body.rows) // size + len(body.blocks)
    assert len(list(base.finishing())) == -(-len(bed.rows) // size) + 3  # members, messages and pairs too


def test_an_id_or_seq_of_the_window_that_differs_is_found() -> None:
    bed = based()
    block = bed.shard.window._unkeyed.blocks[1]
    key = block.keys[3]
    block.keys[3] = window_key(b"other" + bytes(11), 1)
    with pytest.raises(BadSnapshot, match="block"):
        check(bed)
    block.keys[3] = key
    check(bed)
    block.seqs[3] += 1
    with pytest.raises(BadSnapshot, match="block"):
        check(bed)


def test_a_block_of_the_window_that_is_not_in_the_base_is_found() -> None:
    bed = based()
    bodies = [chunk.body() for chunk in bed.chunks()]
    at = next(n for n, body in enumerate(bodies) if body.blocks)
    thinner = msgspec.structs.replace(bodies[at], blocks=bodies[at].blocks[1:])
    old = bed.chunks()[at]
    value = seal(0, 1, old.flags, old.floor, old.offset, old.prev, msgspec.msgpack.encode(thinner))
    bed.log[at] = value  # as if it had been written so
    with pytest.raises(BadSnapshot, match="block"):
        check(bed)


def test_a_block_of_one_id_that_is_not_in_the_base_is_found() -> None:
    bed = Bed()
    bed.feed([*configured(topics=["t"]), bundle(100, 0, 17)])  # 16 ids in a block
    bed.snapshot(base=True)
    (whole,) = bed.chunks()
    body = whole.body()
    assert [len(piece.ids) for piece in body.blocks] == [16 * 16, 16]
    thinner = msgspec.structs.replace(body, blocks=body.blocks[:1])
    bed.log = [seal(0, 1, whole.flags, whole.floor, whole.offset, whole.prev, msgspec.msgpack.encode(thinner))]
    with pytest.raises(BadSnapshot, match="has 1 ids"):
        check(bed)
