"""What the duplicate window remembers, forgets, packs and restores."""

import random

import msgspec

from headgate.core.control import Config
from headgate.core.window import BLOCK_BITS, RECENT_BLOCKS, SEQ_UNKNOWN, BlockState, Window, window_key

BLOCK = 1 << BLOCK_BITS
CONFIG = Config(
    cluster_id="c", generation=1, shards=1, shard=0, dedup_max_ids=3 * BLOCK, dedup_unkeyed_records=2 * BLOCK
)


def fill(
    window: Window, start: int, count: int, *, keyed: bool = True, step_ms: int = 0, log_ms: int = 1_000_000
) -> int:
    for offset in range(start, start + count):
        log_ms += step_ms
        window.enter(offset, log_ms, CONFIG)
        window.add(key(offset), offset + 1, keyed, offset, log_ms)
    return log_ms


def key(offset: int) -> int:
    return window_key(random.Random(offset).randbytes(16), 77)


def restore(states: list[BlockState], next_offset: int) -> Window:
    steps = Window.restoring(states, next_offset)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            window: Window = done.value
            return window


def test_finds_the_seq_and_tells_epochs_apart() -> None:
    window = Window()
    window.add(window_key(b"x" * 16, 5), 9, True, 0, 1)
    assert window.find(window_key(b"x" * 16, 5)) == 9
    assert window.find(window_key(b"x" * 16, 6)) is None


def test_keyed_ids_leave_by_whole_blocks_when_enough_newer_ones_exist() -> None:
    window = Window()
    fill(window, 0, 4 * BLOCK)
    assert window.find(key(0)) is not None
    fill(window, 4 * BLOCK, 1)
    assert window.find(key(BLOCK - 1)) is None
    assert window.find(key(BLOCK)) == BLOCK + 1
    assert len(window) == 3 * BLOCK + 1


def test_keyed_ids_leave_after_a_day_of_log_time() -> None:
    window = Window()
    fill(window, 0, 1, log_ms=1_000)
    fill(window, BLOCK, 1, log_ms=1_000 + CONFIG.dedup_keyed_ms)
    assert window.find(key(0)) == 1
    fill(window, 2 * BLOCK, 1, log_ms=1_001 + CONFIG.dedup_keyed_ms)
    assert window.find(key(0)) is None


def test_unkeyed_ids_stay_until_both_time_and_records_have_passed() -> None:
    window = Window()
    fill(window, 0, 1, keyed=False, log_ms=1_000)
    fill(window, BLOCK, 1, keyed=False, log_ms=1_001 + CONFIG.dedup_unkeyed_ms)
    assert window.find(key(0)) == 1
    fill(window, 4 * BLOCK, 1, keyed=False, log_ms=1_001 + CONFIG.dedup_unkeyed_ms)
    assert window.find(key(0)) is None


def test_packed_blocks_still_know_what_they_have_seen() -> None:
    window = Window()
    config = msgspec.structs.replace(CONFIG, dedup_max_ids=1 << 30)
    for block in range(RECENT_BLOCKS + 3):
        for offset in range(block * BLOCK, block * BLOCK + 3):
            window.enter(offset, 1_000, config)
            window.add(key(offset), 5, True, offset, 1_000)
    assert window.find(key(0)) == SEQ_UNKNOWN
    assert window.find(key(2 * BLOCK)) == SEQ_UNKNOWN
    assert window.find(key(3 * BLOCK)) == 5
    assert window.find(key(1 << 40)) is None


def test_a_restored_window_decides_like_the_original() -> None:
    """S6: whatever comes next is judged the same, also past packing and leaving."""
    whole, config = Window(), msgspec.structs.replace(CONFIG, dedup_max_ids=40, dedup_unkeyed_records=8 * BLOCK)
    rng = random.Random(4)

    def step(windows: list[Window], n: int) -> None:
        offset, log_ms = n * 700, 1_000 + n * 1_000
        known = key(rng.randrange(max(n - 60, 0), n + 1))
        for w in windows:
            w.enter(offset, log_ms, config)
        found = [w.find(known) for w in windows]
        assert len(set(found)) == 1
        for w in windows:
            if found[0] is None:
                w.add(known, n + 1, n % 3 > 0, offset, log_ms)

    for n in range(400):
        step([whole], n)
    states = msgspec.msgpack.decode(msgspec.msgpack.encode(whole.blocks_from(0)), type=list[BlockState])
    restored = restore(states, 399 * 700 + 1)
    assert len(restored) == len(whole)
    for n in range(400, 800):
        step([whole, restored], n)
    assert restored.oldest_blocks() == whole.oldest_blocks()
