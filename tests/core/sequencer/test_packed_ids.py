"""Packed ids are found exactly, and leave with their block."""

import random
import tracemalloc

from headgate.core.sequencer.packed_ids import BUCKETS, PackedIds, is_in_any


def ids(seed: int, count: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(16) for _ in range(count)]


def has(packed: PackedIds, raw: bytes) -> bool:
    return is_in_any((PackedIds(), packed), int.from_bytes(raw, "big"))


def test_every_id_is_found_and_no_other() -> None:
    packed = PackedIds()
    assert not has(packed, ids(9, 1)[0])
    for number in range(20):
        packed.add(number, b"".join(ids(number, 4_096)))
    assert all(has(packed, raw) for number in (0, 7, 19) for raw in ids(number, 4_096))
    assert not any(has(packed, raw) for raw in ids(99, 20_000))


def test_ids_that_differ_only_in_their_first_bytes_are_told_apart() -> None:
    """All of them share a bucket and a hint: the id itself is compared."""
    packed, tail = PackedIds(), b"\x01" * 8
    packed.add(0, b"".join(n.to_bytes(8, "big") + tail for n in range(0, 1_000, 2)))
    assert has(packed, (4).to_bytes(8, "big") + tail)
    assert not has(packed, (5).to_bytes(8, "big") + tail)


def test_a_block_that_left_is_forgotten_and_its_entries_go_with_the_next_ones() -> None:
    packed = PackedIds()
    for number in range(30):
        packed.add(number, b"".join(ids(number, 4_096)))
        if number >= 3:
            packed.drop(number - 3)
    assert not any(has(packed, raw) for raw in ids(26, 4_096))
    assert all(has(packed, raw) for raw in ids(27, 4_096))
    entries = sum(len(bucket) for bucket in packed.buckets) // 8
    assert entries < 3 * 4_096 + 2 * BUCKETS, "of 30 blocks, 3 of them kept"


def test_a_million_ids_take_about_25_bytes_each() -> None:
    rng = random.Random(1)
    packed = PackedIds()
    tracemalloc.start()
    for number in range(64):  # a quarter of a million is enough to see it
        packed.add(number, rng.randbytes(16 * 4_096))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / (64 * 4_096) < 16 + 8 + 41 * BUCKETS / (64 * 4_096) + 1
