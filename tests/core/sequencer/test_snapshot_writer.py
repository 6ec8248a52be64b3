"""What a writer puts into a snapshot, and what is left when one fails."""

import random
import tracemalloc

import msgspec
import pytest

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import CHUNK_BYTES, read_chunk
from headgate.core.sequencer.window import START, UNSAVED_IDS, window_key
from headgate.core.wire.control import CreateTopic, DeleteTopic, encode_body
from headgate.core.wire.envelope import decode, encode_control, is_ours
from headgate.core.wire.ids import foreign_id, topic_key
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code
from tests.core import golden
from tests.core.snapshot_bed import CONFIG, TOPIC, Bed, bundle, configured, restore, same, snapshots_of


def test_a_base_built_while_records_go_on_is_that_of_its_last_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 1)
    records = golden.make_log(3, 900)
    bed = Bed()
    bed.feed(records[:200])
    at = 200
    for value in bed.writer.base(bed.shard, bed.rows, 0):
        bed.log.extend([value] if value else [])
        if value is None and at < 500:
            bed.feed(records[at : at + 20])
            at += 20
    shard, rows = restore(bed.chain())
    for _ in apply_many(shard, rows, [r for r in bed.fed if r.offset >= shard.next_offset]):
        pass
    assert same((shard, rows), bed)
    bed.feed(records[at:])
    bed.snapshot(base=False)
    assert same(restore(bed.chain()), bed), "what changed during the base is in the delta"


def test_a_delta_of_many_rows_is_built_while_records_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 1)
    records = golden.make_log(4, 900)
    bed = Bed()
    bed.feed(records[:100])
    bed.snapshot(base=True)
    bed.feed(records[100:400])
    at = 400
    for value in bed.writer.delta(bed.shard, bed.rows):
        bed.log.extend([value] if value else [])
        if value is None and at < 700:
            bed.feed(records[at : at + 30])
            at += 30
    bed.snapshot(base=False)
    assert same(restore(bed.chain()), bed)


@pytest.mark.parametrize("count", [4, 5, 6, 23])
def test_a_delta_has_each_changed_row_once_where_nothing_changes_meanwhile(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 5)
    topics = [f"t{n}" for n in range(30)]
    bed = Bed()
    assert bed.writer.mark == START
    bed.feed(configured(topics=topics))
    bed.snapshot(base=True)
    changed = [topic_key(topic) for topic in topics[:count]]
    for key in changed:
        bed.writer.touch(key)
    bed.snapshot(base=False)
    assert sorted(key for key, _ in bed.chunks()[-1].body().rows) == sorted(changed)


@pytest.mark.parametrize("base", [True, False])
def test_a_snapshot_that_fails_at_any_chunk_is_as_if_it_had_not_begun(
    base: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next delta goes on behind the last whole one, and a reader finds that."""
    monkeypatch.setattr("headgate.core.sequencer.chunk_builder.CHUNK_BYTES", 600)
    records = golden.make_log(2, 500)
    fail_at, failed = 0, True
    while failed:
        bed = Bed()
        bed.feed(records[:300])
        bed.snapshot(base=True)
        written, pending_at = bed.writer.offset, bed.shard.changes
        bed.feed(records[300:400])
        failed = not bed.snapshot(base=base, fail_at=fail_at)
        if failed:
            assert bed.writer.offset == written == bed.chain()[-1].offset
            assert bed.writer.pending(bed.shard) == bed.shard.changes - pending_at > 0
            assert bed.writer.has_chain
        bed.feed(records[400:])
        bed.snapshot(base=False)
        assert same(restore(bed.chain()), bed)
        fail_at += 1
    assert fail_at > 4


def test_a_chain_in_doubt_is_forgotten() -> None:
    bed = Bed()
    bed.feed(golden.make_log(2, 100))
    bed.snapshot(base=True)
    assert (bed.writer.pending(bed.shard), bed.writer.wants_base) == (0, False)
    bed.writer.forget()
    assert bed.writer.pending(bed.shard) > 0
    assert bed.writer.wants_base
    assert bed.writer.offset < bed.shard.next_offset


def test_sizes_of_a_resumed_chain_are_those_of_the_chunks() -> None:
    bed = Bed()
    bed.feed(golden.make_log(2, 300))
    bed.snapshot(base=True)
    for begin in (301, 450):
        bed.feed(golden.make_log(2, 600)[begin : begin + 149])
        bed.snapshot(base=False)
    sizes = (bed.writer.base_bytes, bed.writer.delta_bytes)
    bed.restart()
    assert (bed.writer.base_bytes, bed.writer.delta_bytes) == sizes
    assert sum(sizes) == sum(map(len, bed.log))


# C1: every part of a chunk is bounded


def biggest(bed: Bed) -> int:
    return max(map(len, bed.log))


def test_c1_bundles_of_1000_make_no_chunk_too_large() -> None:
    """1,000 bundles of 1,000 unkeyed ids: a million ids in 1,000 offsets."""
    bed = Bed()
    bed.feed(configured())
    bed.snapshot(base=True)
    for n in range(300):
        bed.feed([bundle(2 + n, n * 1_000, 1_000)])
        if n % 20 == 19:
            bed.snapshot(base=n == 199)
    assert biggest(bed) <= CHUNK_BYTES
    deltas = [sum(len(c.value) for c in chunks) for _, chunks in list(snapshots_of(bed.chain()))[1:]]
    assert max(deltas) < 20_000 * 24 * 1.01 + 2_000, "a delta has the new ids, not whole blocks again"
    assert same(restore(bed.chain()), bed)


def test_c1_rows_with_long_names_and_10000_long_gone_keys_make_no_chunk_too_large() -> None:
    bed = Bed()
    topics = [f"{n:06}" + "x" * 120 for n in range(10_000)]
    bed.feed(configured(topics=topics))
    bed.snapshot(base=True)
    gone = [
        Record(20_000 + n, 1_000, topic_key(t), encode_control(encode_body(DeleteTopic(t)), (1 << 44) | (n + 1)))
        for n, t in enumerate(topics)
    ]
    bed.feed(gone)
    assert bed.rows == {}
    bed.snapshot(base=False)
    assert biggest(bed) <= CHUNK_BYTES
    assert same(restore(bed.chain()), bed)


def test_c1_the_largest_row_there_can_be_fits_into_a_chunk() -> None:
    """A control record and a key are bounded where they are read; what is larger is a dead letter."""
    bed = Bed()
    bed.feed(configured(topics=()))

    def create(offset: int, size: int, tenant: str = "") -> int:
        body = {"a": [1.5] * size}  # a float of 4 characters takes 9 bytes in a row
        control = CreateTopic(topic_id=f"t{offset}", name="n", permissions="PUBLIC", owner_id="o", settings=body)
        value = encode_control(encode_body(control), 0)
        record = Record(offset, 1_000, topic_key(f"t{offset}", tenant), value)
        ((_, applied),) = apply_many(bed.shard, bed.rows, [record])
        bed.writer.touch(record.key or b"")
        return applied.verdicts[0].code

    assert create(1, 16_000) is Code.CREATED
    assert create(2, 17_000) is Code.DEAD
    assert create(3, 1, "x" * 1_000) is Code.CREATED
    assert create(4, 1, "x" * 1_100) is Code.DEAD
    for offset in range(10, 20):
        create(offset, 16_000)
    bed.snapshot(base=True)
    assert CHUNK_BYTES // 2 < biggest(bed) <= CHUNK_BYTES
    assert same(restore(bed.chain()), bed)


def test_many_rows_are_cut_by_their_bytes() -> None:
    bed = Bed()
    bed.feed(configured())
    for n in range(3_000):
        bed.rows[f"x{n}".encode()] = Row(f"x{n}", n + 1, 0, "n" * 400, "PUBLIC", "ann", 1, {})
    bed.snapshot(base=True)
    assert len(bed.log) > 2
    assert biggest(bed) <= CHUNK_BYTES
    assert same(restore(bed.chain()), bed)


def test_c3_memory_is_flat_under_bundles_of_1000() -> None:
    """Window, digest and writer; unkeyed ids at a standing clock, a snapshot every 20,000 messages."""
    config = msgspec.structs.replace(CONFIG, dedup_unkeyed_ids=20_000)
    bed, used = Bed(), []
    bed.feed(configured(config))
    bed.snapshot(base=True)
    for n in range(300):
        if n in (99, 299):
            tracemalloc.start()
            copy = restore(bed.chain())  # measured as a copy: tracing every step takes minutes
            used.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
            assert same(copy, bed)
        for _ in apply_many(bed.shard, bed.rows, [bundle(2 + n, n * 1_000, 1_000)._replace(ts=1_000)]):
            bed.writer.touch(topic_key(TOPIC))
        if n % 20 in (18, 19):
            bed.snapshot()
        assert len(bed.shard.window) <= 2 * config.dedup_unkeyed_ids + 4_096 + 1_000
        assert len(bed.shard.window._recent) <= 20_000 + 6 * 4_096
    unpacked = 4_096 * 150  # one block of the window more or less is not packed at the time
    assert used[1] < used[0] + unpacked < 20e6


# `since`


def first_seqs(records: list[Record]) -> dict[int, tuple[int, int]]:
    """What a node that never stops decides: window key -> (offset, seq) of every accepted message."""
    shard, rows, seqs = Shard(), dict[bytes, Row](), dict[int, tuple[int, int]]()
    for record, applied in apply_many(shard, rows, records):
        value = record.value or b""
        for index, verdict in enumerate(applied.verdicts):
            if verdict.code is Code.ACCEPTED:
                ours = is_ours(value)
                raw = decode(value).items[index].id if ours else foreign_id(record.key or b"", 0, record.offset)
                seqs[window_key(raw, verdict.epoch)] = (record.offset, verdict.seq)
    return seqs


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unsaved", [UNSAVED_IDS, 50])
def test_every_id_accepted_since_stands_in_the_snapshot_with_its_seq(
    seed: int, unsaved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keyed, unkeyed and foreign ids, bundles, deletes and recreates; bases and deltas; restarts and failures."""
    monkeypatch.setattr("headgate.core.sequencer.window.UNSAVED_IDS", unsaved)
    monkeypatch.setattr("headgate.core.sequencer.window.BLOCK_IDS", 64)
    monkeypatch.setattr("headgate.core.sequencer.chunk_builder.CHUNK_BYTES", 3_000)
    rng = random.Random(seed)
    kept = 4_000 if unsaved == UNSAVED_IDS else 300
    age_ms = 10**15 if unsaved == UNSAVED_IDS else golden.CONFIG.dedup_keyed_ms
    config = msgspec.structs.replace(golden.CONFIG, dedup_max_ids=kept, dedup_unkeyed_ids=kept, dedup_keyed_ms=age_ms)
    monkeypatch.setattr(golden, "CONFIG", config)
    records = golden.make_log(seed, 1_200)
    accepted = first_seqs(records)
    bed, at, checked, last, behind = Bed(), 0, 0, 0, 0
    while at < len(records):
        step = rng.randrange(1, 90)
        bed.feed(records[at : at + step])
        at += step
        if rng.random() < 0.4 or not bed.snapshot(base=rng.random() < 0.3 or None, fail_at=rng.choice((None, None, 1))):
            continue
        offset, chunks = list(snapshots_of(bed.chain()))[-1]
        rest = chunks[-1].body().rest
        assert rest is not None
        numbers = {k: seq for chunk in chunks for piece in chunk.body().blocks for k, seq in piece.numbers()}
        wanted = {k: seq for k, (place, seq) in accepted.items() if rest.since <= place < offset}
        assert {k: numbers.get(k) for k in wanted} == wanted
        checked += len(wanted)
        behind += rest.since > last
        last = offset
        if rng.random() < 0.3:
            bed.restart()
    assert checked > 400
    if unsaved == UNSAVED_IDS:
        assert behind == 0, "a snapshot begins where the one before it ended, unless ids were packed or left meanwhile"


def test_a_chunk_of_a_snapshot_says_where_its_chain_can_begin() -> None:
    bed = Bed()
    bed.log = [b"older"] * 7
    bed.feed(configured())
    bed.snapshot(base=True)
    bed.feed([bundle(2, 0, 10)])
    bed.snapshot(base=False)
    assert [c.floor for c in bed.chunks()] == [7] * len(bed.chunks())
    assert read_chunk(0, bed.log[-1]) is not None
    assert bed.rows[topic_key(TOPIC)].seq == 10


def test_a_log_has_the_chain_only_from_its_first_chunk_to_its_newest() -> None:
    bed = Bed()
    bed.feed(golden.make_log(2, 300))
    assert bed.writer.is_within(0, 0), "there is none"
    bed.snapshot(base=True)
    bed.writer.stands_at([10, 12, 13], base=True)
    bed.snapshot(base=False)
    bed.writer.stands_at([15], base=False)
    assert [bed.writer.is_within(*log) for log in [(10, 16), (0, 99), (11, 99), (0, 15), (0, 0)]] == [True] * 2 + [
        False
    ] * 3
    assert bed.writer.end_at == 15
    bed.writer.forget()
    assert bed.writer.is_within(0, 0)
    bed.restart()
    assert bed.writer.end_at == len(bed.log) - 1
    assert not bed.writer.is_within(1, 99)
