"""Chunks are as full as they may be and name each other."""

import msgspec
import pytest

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.chunk_builder import ENTRIES, ChunkBuilder
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import (
    BASE,
    CHUNK_BYTES,
    HEADER,
    NAME_BYTES,
    NO_NAME,
    MemberEntry,
    Rest,
    read_chunk,
)
from headgate.core.sequencer.window import START
from headgate.core.wire.member_roles import Role
from tests.core.snapshot_bed import CONFIG, bundle, configured

REST = Rest(CONFIG, 0, 0, b"", (0, 0), 0)


def shard_of_one_message() -> Shard:
    shard, rows = Shard(), dict[bytes, Row]()
    list(apply_many(shard, rows, [*configured(), bundle(2, 0, 1)]))
    return shard


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


def test_each_part_of_a_chunk_holds_what_was_added_to_it() -> None:
    shard = shard_of_one_message()
    chunks = ChunkBuilder(shard, BASE, 0, NO_NAME)
    row = Row("t", 1, 0, "n", "PUBLIC", "ann", 0, {})
    member = MemberEntry(b"t", 1, "bob", Membership(Role.MEMBER, 1, 1, 1))
    pieces = list(shard.window.pieces(START, shard.window.mark()))
    assert list(chunks.rows([(b"t", row), (b"u", None)])) == []
    assert list(chunks.members([member])) == list(chunks.pairs([(b"k", b"v"), (b"l", None)])) == []
    assert list(chunks.blocks(pieces)) == [None] and len(pieces) == 1
    (value,) = chunks.end(9, REST)
    chunk = read_chunk(0, value)
    assert chunk is not None
    body = chunk.body()
    assert (body.rows, body.members) == ([(b"t", row), (b"u", None)], [member])
    assert (body.pairs, body.blocks, body.rest) == ([(b"k", b"v"), (b"l", None)], pieces, REST)


@pytest.mark.parametrize(("pairs", "members", "parts"), [(0, 0, 3), (0, 1, 4), (1, 0, 5), (1, 1, 5)])
def test_empty_parts_at_the_end_are_left_out(pairs: int, members: int, parts: int) -> None:
    chunks = ChunkBuilder(shard_of_one_message(), BASE, 0, NO_NAME)
    list(chunks.pairs([(b"k", b"v")] * pairs))
    list(chunks.members([MemberEntry(b"t", 1, "bob", None)] * members))
    (value,) = chunks.end(9, REST)
    assert len(msgspec.msgpack.decode(value[HEADER.size : -NAME_BYTES])) == parts


@pytest.mark.parametrize(("above", "sealed"), [(0, 0), (1, 1)])
def test_an_entry_that_just_fits_begins_no_chunk(above: int, sealed: int) -> None:
    chunks = ChunkBuilder(shard_of_one_message(), BASE, 0, NO_NAME)
    room = CHUNK_BYTES - HEADER.size - NAME_BYTES - ENTRIES
    value = b"x" * (room + above - len(msgspec.msgpack.encode((b"k", b"x" * 100_000))) + 100_000)
    assert len(msgspec.msgpack.encode((b"k", value))) == room + above
    assert len(list(chunks.pairs([(b"k", value)]))) == sealed
