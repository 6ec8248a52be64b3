"""Snapshot chains: any valid one restores to what was, and a broken one is not used."""

import random

import pytest

from headgate.core.apply import apply_many
from headgate.core.rows import Row, Shard
from headgate.core.snapshot import (
    CHUNK_BYTES,
    Placed,
    SnapshotWriter,
    base_starts,
    decode_chunk,
    newest_chain,
    restore,
)
from tests.core import golden


class Bed:
    """A shard, its rows, a writer and the snapshots log."""

    def __init__(self) -> None:
        self.shard = Shard()
        self.rows: dict[bytes, Row] = {}
        self.writer = SnapshotWriter()
        self.log: list[bytes] = []

    def feed(self, records: list[golden.Record]) -> None:
        for record, applied in apply_many(self.shard, self.rows, records):
            if applied.effects:
                self.writer.touch(record.key or b"")

    def snapshot(self, *, base: bool) -> None:
        self.log.extend(self.writer.build(self.shard, self.rows, base=base))

    def chunks(self) -> list[Placed]:
        found = [decode_chunk(at, value) for at, value in enumerate(self.log)]
        return [p for p in found if p is not None]


def same(shard: Shard, rows: dict[bytes, Row], bed: Bed) -> bool:
    return (
        rows == bed.rows
        and shard.digest.now == bed.shard.digest.now
        and (shard.next_offset, shard.log_ms, shard.changes, shard.config, len(shard.window))
        == (bed.shard.next_offset, bed.shard.log_ms, bed.shard.changes, bed.shard.config, len(bed.shard.window))
    )


@pytest.mark.parametrize("seed", range(5))
def test_s6_restore_equals_uninterrupted(seed: int) -> None:
    """Snapshots at random places, restored, and fed the rest: the same verdicts to the end."""
    rng = random.Random(seed)
    records = golden.make_log(seed, 800)
    bed, at = Bed(), 0
    while at < len(records):
        step = rng.randrange(1, 120)
        bed.feed(records[at : at + step])
        at += step
        if rng.random() < 0.5:
            bed.snapshot(base=bed.writer.wants_base or rng.random() < 0.2)
            shard, rows = restore(newest_chain(bed.chunks()))
            assert same(shard, rows, bed)
            bed.shard, bed.rows = shard, rows
            bed.writer = SnapshotWriter()
            bed.writer.resume(newest_chain(bed.chunks()))
    assert {k.decode(): [r.epoch, r.seq] for k, r in bed.rows.items()} == golden.decide(records)["rows"]
    assert bed.shard.digest.now.hex() == golden.decide(records)["digests"][-1]


def test_a_base_built_while_records_go_on_is_that_of_its_last_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.snapshot.SLICE_ROWS", 1)
    records = golden.make_log(3, 600)
    bed = Bed()
    bed.feed(records[:200])
    build = bed.writer.build(bed.shard, bed.rows, base=True)
    for at in range(200, 260, 20):
        bed.log.append(next(build))
        bed.feed(records[at : at + 20])
    bed.log.extend(build)
    assert same(*restore(newest_chain(bed.chunks())), bed)


def test_a_chain_with_a_missing_or_damaged_chunk_is_not_used() -> None:
    records = golden.make_log(2, 600)
    bed = Bed()
    bed.feed(records[:300])
    bed.snapshot(base=True)
    first_end = len(bed.log)
    at_first = bed.shard.next_offset
    bed.feed(records[300:])
    bed.snapshot(base=False)
    assert newest_chain(bed.chunks())[-1].chunk.offset == bed.shard.next_offset
    damaged = bytearray(bed.log[first_end])
    damaged[40] ^= 1
    bed.log[first_end] = bytes(damaged)
    assert newest_chain(bed.chunks())[-1].chunk.offset == at_first
    bed.log[0] = b"gone"
    assert newest_chain(bed.chunks()) == []


def test_chunks_of_a_zombie_never_mix_with_the_owners() -> None:
    records = golden.make_log(2, 400)
    owner, zombie = Bed(), Bed()
    for bed in (owner, zombie):
        bed.feed(records[:200])
        bed.snapshot(base=True)
    shared = owner.log + zombie.log
    owner.feed(records[200:])
    owner.snapshot(base=False)
    zombie.feed(records[200:300])
    zombie.snapshot(base=False)
    mixed = (
        shared
        + [v for pair in zip(owner.log[-3:], zombie.log[-3:], strict=True) for v in pair]
        + owner.log
        + zombie.log
    )
    chunks = [p for at, v in enumerate(mixed) if (p := decode_chunk(at, v))]
    assert same(*restore(newest_chain(chunks)), owner)


def test_after_a_failed_append_the_next_snapshot_is_a_base() -> None:
    bed = Bed()
    bed.feed(golden.make_log(2, 100))
    bed.snapshot(base=True)
    assert not bed.writer.wants_base
    bed.writer.broken()
    assert bed.writer.wants_base


def test_bases_are_found_for_pruning() -> None:
    bed = Bed()
    bed.feed(golden.make_log(2, 100))
    starts = []
    for _ in range(3):
        starts.append(len(bed.log))
        bed.snapshot(base=True)
    assert base_starts(bed.chunks()) == starts


def test_chunks_are_bounded() -> None:
    bed = Bed()
    bed.feed(golden.make_log(2, 50))
    for n in range(3_000):
        row = Row(f"x{n}", n + 1, 0, "n" * 400, "PUBLIC", "ann", 1, {})
        bed.rows[f"x{n}".encode()] = row
    bed.snapshot(base=True)
    assert len(bed.log) > 3
    assert max(map(len, bed.log)) < CHUNK_BYTES + 4_096
    assert same(*restore(newest_chain(bed.chunks())), bed)


def test_what_a_failed_snapshot_held_counts_as_not_written() -> None:
    bed = Bed()
    bed.feed(golden.make_log(2, 100))
    bed.snapshot(base=True)
    assert bed.writer.pending(bed.shard) == 0
    assert bed.writer.offset == bed.shard.next_offset
    bed.writer.broken()
    assert bed.writer.pending(bed.shard) > 0
    assert bed.writer.offset < bed.shard.next_offset


def test_a_chain_can_be_restored_twice() -> None:
    """Recovery and the rebuild of history restore the same chunks."""
    bed = Bed()
    bed.feed(golden.make_log(2, 300))
    bed.snapshot(base=True)
    chain = newest_chain(bed.chunks())
    first, rows = restore(chain)
    next(iter(rows.values())).seq += 1_000
    assert same(*restore(chain), bed)
    assert len(first.window) == len(bed.shard.window)
