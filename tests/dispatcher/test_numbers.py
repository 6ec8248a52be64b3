"""The parts of a snapshot's numbers: newest first, small, and exact whatever is repeated over their edges."""

import random
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from dispatcher.numbers import Numbers, numbers_back
from headgate.core.sequencer.snapshot import HEADER, MAX_OFFSET, NAME_BYTES, seal
from headgate.core.sequencer.window import START, Window
from headgate.core.wire.records import LogName
from tests.core.snapshot_bed import Bed, bundle, configured
from tests.dispatcher.test_recovery import a_log as log_of_one_shard

RECORDS = 3_000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.sequencer.window.BLOCK_IDS", 64)
    monkeypatch.setattr("headgate.core.sequencer.window.BLOCK_OFFSETS", 64)


def a_log(seed: int) -> tuple[list[list[int]], list[dict[int, int]], Numbers]:
    """Returns the ids each record carries, the seqs given to them at each offset, and what a snapshot remembers."""
    rng = random.Random(seed)
    window = Window()
    records: list[list[int]] = []
    given: list[dict[int, int]] = []
    seq = 0
    for offset in range(RECORDS):
        items: list[int] = []
        taken: dict[int, int] = {}
        for _ in range(rng.choice((1, 1, 1, 40))):
            repeated = rng.random() < 0.2 and records
            back = records[max(offset - rng.choice((1, 3, 50, 500)), 0)] if repeated and offset else []
            key = rng.choice(back) if back else rng.getrandbits(100)
            items.append(key)
            if window.find(key) is None and key not in taken:
                seq += 1
                taken[key] = seq
                window.add(key, seq, rng.random() < 0.5, offset, 1)
        records.append(items)
        given.append(taken)
    return records, given, Numbers(0, 0, RECORDS, list(window.pieces(START, window.mark())))


@pytest.mark.parametrize("seed", range(5))
def test_each_part_gives_every_message_of_its_offsets_its_seq_and_takes_no_repeat_for_one(seed: int) -> None:
    records, given, numbers = a_log(seed)
    high = RECORDS
    while high > 0:
        part = numbers.newest(0, high, 200)
        assert part.start <= part.low < part.high == high
        found: list[dict[int, int]] = [{} for _ in records]
        for offset in range(part.start, high):
            for key in records[offset]:
                seq = part.seqs.pop(key, None)
                if seq is not None and offset >= part.low:
                    found[offset][key] = seq
        assert found[part.low : high] == given[part.low : high]
        high = part.low


def test_a_part_is_as_large_as_was_asked_for_and_a_block_or_two() -> None:
    _, given, numbers = a_log(1)
    part = numbers.newest(0, RECORDS, 200)
    assert 200 <= sum(map(len, given[part.low :])) <= 200 + 2 * 64 + 40
    assert len(part.seqs) <= 200 + 4 * 64 + 40


def test_a_part_does_not_go_below_what_is_wanted() -> None:
    _, _, numbers = a_log(1)
    assert numbers.newest(RECORDS - 5, RECORDS, 10_000).low == RECORDS - 5
    assert Numbers(7, 7, 100, []).newest(7, 100, 200) == (7, 7, 100, {})


async def test_of_two_owners_that_went_on_behind_one_snapshot_both_give_their_numbers() -> None:
    bed, other = Bed(), Bed()
    bed.feed([*configured(), bundle(2, 0, 10)])
    bed.snapshot(base=True)
    other.log = bed.log
    other.restart()
    start = bed.shard.next_offset
    bed.feed([bundle(start, 10, 20), bundle(start + 1, 30, 10)])
    other.feed([bundle(start, 10, 20)])
    bed.snapshot(base=False)
    other.snapshot(base=False)
    log = await log_of_one_shard()
    for value in bed.log:
        await log.append(LogName.SNAPSHOTS, 0, None, value)
    async with aclosing(numbers_back(log, 0)) as walk:
        found = [(n.begin, n.since, n.offset, len(n.newest(0, MAX_OFFSET, 1 << 24).seqs)) async for n in walk]
    assert found == [(start, start, start + 2, 30), (start, start, start + 1, 20), (0, 0, start, 10)]


async def numbers_of(values: list[bytes]) -> list[tuple[int, int, int]]:
    log = await log_of_one_shard()
    for value in values:
        await log.append(LogName.SNAPSHOTS, 0, None, value)
    async with aclosing(numbers_back(log, 0)) as walk:
        return [(n.since, n.offset, len(n.newest(0, MAX_OFFSET, 1 << 24).seqs)) async for n in walk]


@pytest.fixture
def large() -> Iterator[Bed]:
    """A bed with a base of at least three chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headgate.core.sequencer.chunk_builder.CHUNK_BYTES", 3_000)
        bed = Bed()
        bed.feed([*configured(), *(bundle(2 + n, 40 * n, 40) for n in range(6))])
        bed.snapshot(base=True)
        assert len(bed.log) >= 3
        yield bed


async def test_chunks_that_stand_twice_in_the_log_count_once(large: Bed) -> None:
    """A producer that lost its connection may send a record again."""
    base = list(large.log)
    large.feed([bundle(large.shard.next_offset, 300, 30)])
    large.snapshot(base=False)
    delta = large.log[len(base) :]
    expected = await numbers_of([*base, *delta])
    assert [seqs for _, _, seqs in expected] == [30, 240]
    assert await numbers_of([*base, base[-1], *delta, delta[-1]]) == expected
    assert await numbers_of([value for value in [*base, *delta] for _ in range(2)]) == expected


async def test_two_ends_behind_one_chunk_both_give_their_numbers(large: Bed) -> None:
    end = large.chunks()[-1]
    body = end.value[HEADER.size : -NAME_BYTES]
    other = seal(end.shard, end.logic, end.flags, end.floor, end.offset + 1, end.prev, body)
    (one,) = await numbers_of(large.log)
    assert await numbers_of([*large.log, other]) == [(*one[:1], end.offset + 1, *one[2:]), one]
