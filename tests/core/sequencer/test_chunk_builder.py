"""Chunks are as full as they may be and name each other."""

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.chunk_builder import ChunkBuilder
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import BASE, CHUNK_BYTES, NO_NAME, Rest, read_chunk
from tests.core.snapshot_bed import CONFIG, configured


def test_a_chunk_is_at_most_its_bound_and_the_next_names_it() -> None:
    shard, rows = Shard(), dict[bytes, Row]()
    list(apply_many(shard, rows, configured()))
    chunks = ChunkBuilder(shard, BASE, 3, NO_NAME)
    (row,) = rows.values()
    big = Row(row.topic_id, row.epoch, 1, "n" * 100_000, "PUBLIC", "ann", 0, {})
    values = list(chunks.rows([(b"%d" % n, big) for n in range(12)]))
    values += chunks.end(9, Rest(CONFIG, 0, 0, b"", (0, 0), 0))
    read = [read_chunk(at, value) for at, value in enumerate(values)]
    assert [chunk.prev for chunk in read if chunk] == [NO_NAME, *(chunk.name for chunk in read[:-1] if chunk)]
    assert all(CHUNK_BYTES - 110_000 < len(value) <= CHUNK_BYTES for value in values[:-1])
    assert [len(chunk.body().rows) for chunk in read if chunk] == [5, 5, 2]
    assert chunks.written == sum(map(len, values))
    last = read[-1]
    assert last is not None and (last.is_end, last.offset, last.floor) == (True, 9, 3)
