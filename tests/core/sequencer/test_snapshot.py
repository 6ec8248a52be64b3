"""Snapshot chains: any valid one restores to what was, and a broken one is not used."""

import random
from hashlib import blake2b

import msgspec
import pytest

from headgate.core.sequencer.snapshot import (
    HEADER,
    NAME_BYTES,
    NO_NAME,
    ChainSearch,
    Chunk,
    Rest,
    chain_among,
    read_chunk,
    seal,
)
from headgate.core.wire.control import Config
from headgate.core.wire.errors import BrokenChain, NewerSnapshot
from headgate.core.wire.records import NO_RECORD, LastRecord
from tests.core import golden
from tests.core.snapshot_bed import Bed, restore, same, snapshots_of


@pytest.mark.parametrize("seed", range(5))
def test_s6_restore_equals_uninterrupted(seed: int) -> None:
    """Snapshots at random places, some of them failing, restored, and fed the rest: the same verdicts to the end."""
    rng = random.Random(seed)
    records = golden.make_log(seed, 800)
    bed, at = Bed(), 0
    while at < len(records):
        step = rng.randrange(1, 120)
        bed.feed(records[at : at + step])
        at += step
        base = bed.writer.wants_base or rng.random() < 0.2
        if rng.random() < 0.6 and bed.snapshot(base=base, fail_at=rng.choice((None, None, 0))):
            assert same(restore(bed.chain()), bed)
            bed.restart()
    assert {k.decode(): [r.epoch, r.seq] for k, r in bed.rows.items()} == golden.decide(records)["rows"]
    assert bed.shard.digest.value.hex() == golden.decide(records)["digests"][-1]


def test_a_chain_with_a_missing_or_damaged_chunk_is_not_used() -> None:
    records = golden.make_log(2, 600)
    bed = Bed()
    bed.feed(records[:300])
    bed.snapshot(base=True)
    first_end = len(bed.log)
    at_first = bed.shard.next_offset
    bed.feed(records[300:])
    bed.snapshot(base=False)
    assert bed.chain()[-1].offset == bed.shard.next_offset
    damaged = bytearray(bed.log[first_end])
    damaged[60] ^= 1
    bed.log[first_end] = bytes(damaged)
    assert bed.chain()[-1].offset == at_first
    bed.log[0] = b"gone"
    assert bed.chain() == []


def test_a_chain_whose_base_is_damaged_gives_way_to_the_one_before_it() -> None:
    records = golden.make_log(2, 600)
    bed = Bed()
    bed.feed(records[:300])
    bed.snapshot(base=True)
    older = bed.shard.next_offset
    for at in (400, 500):
        bed.feed(records[at - 100 : at])
        bed.snapshot(base=at == 400)
    bed.log[1] = bed.log[1][:-1] + b"x"
    assert bed.chain()[-1].offset == older


def test_a_search_stops_at_the_floor_of_a_chain_it_cannot_complete() -> None:
    """Nothing older than a chain's floor is read in vain."""
    bed = Bed()
    bed.log = [b"older"] * 10
    bed.feed(golden.make_log(2, 300))
    bed.snapshot(base=True)
    bed.feed([])
    bed.snapshot(base=False)
    end = bed.chunks()[-1]
    search = ChainSearch()
    assert not search.take(end)
    assert not search.take(end._replace(at=10, name=b"other", flags=0))
    assert search.take(end._replace(at=9, name=b"other", flags=0))
    assert search.chain == []


def test_chunks_of_a_zombie_never_mix_with_the_owners() -> None:
    records = golden.make_log(2, 400)
    owner, zombie = Bed(), Bed()
    for bed in (owner, zombie):
        bed.feed(records[:200])
        bed.snapshot(base=True)
    owner.feed(records[200:])
    owner.snapshot(base=False)
    zombie.feed(records[200:300])
    zombie.snapshot(base=False)
    pairs = [value for pair in zip(owner.log, zombie.log, strict=True) for value in pair]
    for mixed, expected in ((zombie.log + owner.log, owner), (pairs, owner), (owner.log + zombie.log, zombie)):
        found = [chunk for at, value in enumerate(mixed) if (chunk := read_chunk(at, value))]
        chunks = [chunk._replace(floor=0) for chunk in found]  # the zombie wrote into the same log
        assert same(restore(chain_among(chunks)), expected)


def test_the_newest_chain_at_or_before_an_offset_is_found() -> None:
    bed, ends = Bed(), list[int]()
    records = golden.make_log(2, 600)
    for at in range(0, 600, 100):
        bed.feed(records[at : at + 100])
        bed.snapshot(base=at % 300 == 0)
        ends.append(bed.shard.next_offset)
    for end in ends:
        assert chain_among(bed.chunks(), at_most=end)[-1].offset == end
        assert chain_among(bed.chunks(), at_most=end + 1)[-1].offset == end
    assert chain_among(bed.chunks(), at_most=ends[0] - 1) == []
    for at_least, found in ((ends[-1], ends[-1]), (ends[-1] + 1, -1)):
        search = ChainSearch(at_least=at_least)
        any(search.take(chunk) for chunk in reversed(bed.chunks()))
        assert (search.chain[-1].offset if search.chain else -1) == found
    assert [offset for offset, _ in snapshots_of(bed.chain())] == ends[3:]


def test_a_chain_of_newer_logic_is_never_passed_over() -> None:
    """M10: an older chain and older code would give other numbers."""
    bed = Bed()
    bed.feed(golden.make_log(2, 100))
    bed.snapshot(base=True)
    bed.snapshot(base=True)
    newer = bed.chunks()[-1]._replace(logic=99)
    with pytest.raises(NewerSnapshot, match=r"logic 99.*upgrade"):
        chain_among([*bed.chunks()[:-1], newer])
    with pytest.raises(NewerSnapshot, match="version 3"):
        read_chunk(5, b"\xffHS\x03 whatever comes then, it is long enough to be a chunk of ours")


def test_what_is_none_of_ours_or_damaged_is_no_chunk() -> None:
    value = seal(0, 1, 1, 0, 0, NO_NAME, b"\x93\x90\x90\xc0")
    assert isinstance(read_chunk(1, value), Chunk)
    assert read_chunk(1, None) is None
    assert read_chunk(1, b"{}") is None
    assert read_chunk(1, value[:20]) is None
    assert read_chunk(1, value[:-1] + bytes([value[-1] ^ 1])) is None
    old = value[:3] + b"\x01" + value[4:-NAME_BYTES]
    assert read_chunk(1, old + blake2b(old, digest_size=NAME_BYTES).digest()) is None


def test_a_body_that_does_not_decode_is_a_broken_chain() -> None:
    chunk = read_chunk(1, seal(0, 1, 3, 0, 0, NO_NAME, b"\x93\x90"))
    assert chunk is not None
    with pytest.raises(BrokenChain):
        restore([chunk])
    unfinished = read_chunk(1, seal(0, 1, 3, 0, 0, NO_NAME, b"\x93\x90\x90\xc0"))
    assert unfinished is not None
    for chain in ([unfinished], []):
        with pytest.raises(BrokenChain):
            restore(chain)
    assert HEADER.size == 44


def test_a_chain_can_be_restored_twice() -> None:
    """Recovery and the rebuild of history restore the same chunks."""
    bed = Bed()
    bed.feed(golden.make_log(2, 300))
    bed.snapshot(base=True)
    first, rows = restore(bed.chain())
    next(iter(rows.values())).seq += 1_000
    assert same(restore(bed.chain()), bed)
    assert len(first.window) == len(bed.shard.window)


def test_the_rest_of_an_older_version_names_no_newest_record_and_of_a_newer_one_more_is_left_alone() -> None:
    rest = Rest(Config("c", 1, 4, 0), 1, 2, bytes(32), (3, 4), 5, last=LastRecord(7, b"c" * 16))
    members = msgspec.msgpack.decode(msgspec.msgpack.encode(rest))
    decode = msgspec.msgpack.Decoder(Rest).decode
    assert decode(msgspec.msgpack.encode(members)) == rest
    assert decode(msgspec.msgpack.encode([*members, "new"])) == rest
    assert decode(msgspec.msgpack.encode(members[:-1])).last == NO_RECORD
