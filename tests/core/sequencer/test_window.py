"""What the duplicate window remembers, forgets, packs and restores."""

import random
from hashlib import blake2b
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.sequencer import window as module
from headgate.core.sequencer.window import (
    BLOCK_IDS,
    BLOCK_OFFSETS,
    PACK_RECORDS,
    RECENT_BLOCKS,
    SEQ_UNKNOWN,
    START,
    BlockState,
    Window,
    WindowMark,
    window_key,
)
from headgate.core.wire.control import Config
from headgate.core.wire.errors import BrokenChain

CONFIG = Config(
    cluster_id="c", generation=1, shards=1, shard=0, dedup_max_ids=3 * BLOCK_IDS, dedup_unkeyed_ids=2 * BLOCK_IDS
)
WIDE = msgspec.structs.replace(CONFIG, dedup_max_ids=1 << 40, dedup_unkeyed_ids=1 << 40)


def key(n: int) -> int:
    return window_key(blake2b(n.to_bytes(8, "big"), digest_size=16).digest(), 77)


def fill(
    window: Window, start: int, count: int, *, keyed: bool = True, log_ms: int = 1_000, config: Config = CONFIG
) -> None:
    """One id an offset."""
    for offset in range(start, start + count):
        window.enter(log_ms, config)
        window.add(key(offset), offset + 1, keyed, offset, log_ms)


def turn(window: Window, blocks: int, log_ms: int = 1_000, config: Config = WIDE) -> None:
    """As records without ids do that are far apart: what may be packed is, one block each."""
    for _ in range(blocks):
        window._pack_in = 0
        window.enter(log_ms, config)


def restored(pieces: list[BlockState], oldest: tuple[int, int], next_offset: int = 1 << 40) -> Window:
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(pieces), type=list[BlockState])
    steps = Window.restoring(stored, oldest, next_offset)
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


def test_a_block_closes_at_4096_ids_whatever_the_offsets() -> None:
    """Bundles: many ids at one offset."""
    window = Window()
    for n in range(3 * BLOCK_IDS):
        window.add(key(n), n + 1, True, n // 1_000, 1)
    assert [len(p.ids) // 16 for p in window.pieces(START, window.mark())] == [BLOCK_IDS] * 3


def test_a_block_closes_at_4096_offsets_whatever_the_ids() -> None:
    window = Window()
    for offset in (10, 10 + BLOCK_OFFSETS - 1, 10 + BLOCK_OFFSETS):
        window.add(key(offset), 1, True, offset, 1)
    assert [p.first for p in window.pieces(START, window.mark())] == [10, 10 + BLOCK_OFFSETS]


def test_keyed_ids_leave_by_whole_blocks_when_enough_newer_ones_exist() -> None:
    window = Window()
    fill(window, 0, 4 * BLOCK_IDS)
    assert window.find(key(0)) is not None
    fill(window, 4 * BLOCK_IDS, 2)
    assert window.find(key(BLOCK_IDS - 1)) is None
    assert window.find(key(BLOCK_IDS)) == BLOCK_IDS + 1


def test_keyed_ids_leave_after_a_day_of_log_time_and_enough_newer_ones() -> None:
    window = Window()
    fill(window, 0, 3 * BLOCK_IDS)
    turn(window, 1, 1_000 + CONFIG.dedup_keyed_ms, CONFIG)
    assert window.find(key(0)) == 1
    turn(window, 1, 1_001 + CONFIG.dedup_keyed_ms, CONFIG)
    assert window.find(key(0)) is None
    assert window.find(key(BLOCK_IDS)) == BLOCK_IDS + 1, "the newest stay: time alone empties no lane"


def test_a_broker_clock_that_is_ahead_for_a_moment_makes_no_repeat_new() -> None:
    window = Window()
    fill(window, 0, 2 * BLOCK_IDS)
    turn(window, 720, 1_000 + 30 * CONFIG.dedup_keyed_ms, CONFIG)
    assert window.find(key(0)) == 1


def test_unkeyed_ids_stay_until_both_time_and_newer_ids_have_passed() -> None:
    window = Window()
    fill(window, 0, BLOCK_IDS, keyed=False)
    late = 1_001 + CONFIG.dedup_unkeyed_ms
    fill(window, BLOCK_IDS, 2 * BLOCK_IDS - 1, keyed=False, log_ms=late)
    assert window.find(key(0)) == 1
    fill(window, 3 * BLOCK_IDS - 1, 2, keyed=False, log_ms=late)
    assert window.find(key(0)) is None


def test_h5_unkeyed_ids_leave_by_count_where_log_time_stands_still() -> None:
    """A broker clock that was ahead holds log time for weeks: twice the number is the bound."""
    window = Window()
    fill(window, 0, 5 * BLOCK_IDS, keyed=False)
    assert window.find(key(0)) == 1
    fill(window, 5 * BLOCK_IDS, 1, keyed=False)
    assert window.find(key(0)) is None
    for start in range(6, 16, 2):
        fill(window, start * BLOCK_IDS, 2 * BLOCK_IDS, keyed=False)
        assert len(window) <= 5 * BLOCK_IDS + 1


def test_what_is_saved_is_packed_one_block_in_some_records_and_the_newest_blocks_are_not() -> None:
    window = Window()
    fill(window, 0, (RECENT_BLOCKS + 3) * BLOCK_IDS, config=WIDE)
    turn(window, 10)
    assert window.find(key(0)) == 1, "not in a snapshot: its seq may still be asked for"
    window.saved(window.mark())
    for _ in range(PACK_RECORDS):
        window.enter(1_000, WIDE)
    assert (window.find(key(0)), window.find(key(BLOCK_IDS))) == (SEQ_UNKNOWN, BLOCK_IDS + 1)
    turn(window, 10)
    assert window.find(key(3 * BLOCK_IDS - 1)) == SEQ_UNKNOWN
    assert window.find(key(3 * BLOCK_IDS)) == 3 * BLOCK_IDS + 1
    assert window.find(key(1 << 40)) is None


def test_ids_that_no_snapshot_takes_are_packed_at_their_bound_and_whole_from_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "UNSAVED_IDS", 6 * BLOCK_IDS)
    window = Window()
    fill(window, 0, 7 * BLOCK_IDS, config=WIDE)
    assert (window.find(key(0)), window.whole_from) == (1, 0)
    fill(window, 7 * BLOCK_IDS, 2, config=WIDE)
    assert window.find(key(0)) == SEQ_UNKNOWN
    assert window.whole_from == BLOCK_IDS
    fill(window, 7 * BLOCK_IDS + 2, 50 * BLOCK_IDS, config=WIDE)
    assert len(window._recent) <= 8 * BLOCK_IDS


def test_in_large_bundles_of_both_kinds_blocks_are_packed_as_fast_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNSAVED_IDS", 6 * BLOCK_IDS)
    window, n = Window(), 0
    for record in range(100):
        window.enter(1_000, WIDE)
        for _ in range(BLOCK_IDS // 4):
            for keyed in (True, False):
                window.add(key(n), n + 1, keyed, record, 1_000)
                n += 1
    assert len(window) == n
    assert len(window._recent) <= (6 + 2 * (RECENT_BLOCKS + 2)) * BLOCK_IDS


def test_a_delta_has_the_ids_since_its_mark_with_their_seqs_also_when_they_are_packed_meanwhile() -> None:
    window = Window()
    fill(window, 0, 1_000, config=WIDE)
    start = window.mark()
    fill(window, 1_000, 2 * BLOCK_IDS, config=WIDE)
    end = window.mark()
    pieces = window.pieces(start, end)
    fill(window, 1_000 + 2 * BLOCK_IDS, 8 * BLOCK_IDS, config=WIDE)
    window.saved(window.mark())
    turn(window, 20)
    numbers = {k: seq for piece in pieces for k, seq in piece.numbers()}
    assert numbers == {key(n): n + 1 for n in range(1_000, 1_000 + 2 * BLOCK_IDS)}


def test_a_piece_is_at_most_98_kb() -> None:
    window = Window()
    for n in range(3 * BLOCK_IDS):
        window.add(key(n), (1 << 62) + n, bool(n % 3), n // 1_000, 1 << 50)
    assert max(len(msgspec.msgpack.encode(p)) for p in window.pieces(START, window.mark())) < 98 * 1_024


def test_pieces_that_do_not_join_are_a_broken_chain() -> None:
    window = Window()
    fill(window, 0, 3 * BLOCK_IDS, config=WIDE)
    pieces = list(window.pieces(START, window.mark()))
    with pytest.raises(BrokenChain):
        restored([pieces[0], pieces[2]], (0, 0))
    with pytest.raises(BrokenChain):
        restored([pieces[0], pieces[0], *pieces[1:]], (0, 0))


def test_a_window_agrees_with_its_own_pieces_and_with_no_others() -> None:
    window, other = Window(), Window()
    fill(window, 0, 2 * BLOCK_IDS, config=WIDE)
    fill(other, 1, 2 * BLOCK_IDS, config=WIDE)
    assert all(window.agrees(piece) for piece in window.pieces(START, window.mark()))
    assert not any(window.agrees(piece) for piece in other.pieces(START, other.mark()))
    assert [count for _, _, count in window.counts(window.mark())] == [BLOCK_IDS, BLOCK_IDS]


def test_a_window_agrees_with_blocks_that_it_has_dropped_and_with_none_that_it_never_had() -> None:
    window, longer = Window(), Window()
    for each, blocks in ((window, 4), (longer, 6)):
        fill(each, 0, blocks * BLOCK_IDS, config=WIDE)
    dropped, *kept = window.pieces(START, window.mark())
    while window.oldest == (0, 0):
        window.enter(1_000, CONFIG)
    assert window.oldest == (1, 0)
    assert window.agrees(dropped) and all(window.agrees(piece) for piece in kept)
    assert window.agrees(msgspec.structs.replace(dropped, ids=bytes(16))), "whatever it says of a block that is gone"
    *_, first_new, second_new = longer.pieces(START, longer.mark())
    assert not window.agrees(first_new) and not window.agrees(second_new)
    assert not Window().agrees(dropped)


class Node:
    """A window with the snapshots of it: pieces as a chain would hold them."""

    def __init__(self) -> None:
        self.window = Window()
        self.pieces: list[BlockState] = []
        self.mark: WindowMark = START
        self.oldest = (0, 0)

    def snapshot(self, *, base: bool) -> None:
        start = START if base else self.mark
        found = list(self.window.pieces(start, self.window.mark()))
        self.pieces = found if base else self.pieces + found
        self.mark, self.oldest = self.window.mark(), self.window.oldest
        self.window.saved(self.mark)

    def restart(self, next_offset: int) -> None:
        self.window = restored(self.pieces, self.oldest, next_offset)
        self.mark = self.window.mark()


Step: TypeAlias = tuple[int, int, int, bool, str]
STEPS = st.lists(
    st.tuples(
        st.integers(1, 40),  # ids in the record
        st.sampled_from((1, 1, 1, 3, 30)),  # offsets passed
        st.sampled_from((0, 10, 10, 4_000)),  # milliseconds passed
        st.booleans(),
        st.sampled_from(("", "", "", "delta", "base", "restart", "forced")),
    ),
    min_size=30,
    max_size=120,
)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_s6_equal_verdicts_whatever_is_snapshotted_packed_and_restored(steps: list[Step], rng: random.Random) -> None:
    """One node never stops and packs nothing; the other snapshots, packs and restarts as the steps say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_IDS", 16)
        patch.setattr(module, "BLOCK_OFFSETS", 40)
        config = Config("c", 1, 1, 0, dedup_max_ids=150, dedup_keyed_ms=60_000, dedup_unkeyed_ms=9_000)
        config = msgspec.structs.replace(config, dedup_unkeyed_ids=50)
        whole, node = Window(), Node()
        offset, log_ms, fresh = 0, 1_000, 0
        for count, passed, ms, keyed, event in steps:
            offset, log_ms = offset + passed, log_ms + ms
            patch.setattr(module, "UNSAVED_IDS", 20 if event == "forced" else 250_000)
            for window in (whole, node.window):
                window.enter(log_ms, config)
            for _ in range(count):
                fresh += 1
                known = key(rng.randrange(max(fresh - 400, 0), fresh))
                seen = whole.find(known)
                assert node.window.find(known) in ((None,) if seen is None else (seen, SEQ_UNKNOWN))
                if seen is None:
                    whole.add(known, fresh, keyed, offset, log_ms)
                    node.window.add(known, fresh, keyed, offset, log_ms)
            assert len(whole) == len(node.window)
            if event in ("delta", "base"):
                node.snapshot(base=event == "base")
            elif event == "restart":
                node.snapshot(base=False)
                node.restart(offset + 1)
        assert whole.oldest == node.window.oldest
        assert whole.mark() == node.window.mark()


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_whole_from_is_true_of_every_base(steps: list[Step]) -> None:
    """Every id of an offset at or above `whole_from` stands in a base with its seq."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_IDS", 16)
        patch.setattr(module, "BLOCK_OFFSETS", 40)
        config = Config("c", 1, 1, 0, dedup_max_ids=150, dedup_keyed_ms=60_000, dedup_unkeyed_ms=9_000)
        config = msgspec.structs.replace(config, dedup_unkeyed_ids=50)
        node, offset, log_ms = Node(), 0, 1_000
        added: list[tuple[int, int]] = []
        for count, passed, ms, keyed, event in steps:
            offset, log_ms = offset + passed, log_ms + ms
            patch.setattr(module, "UNSAVED_IDS", 20 if event == "forced" else 250_000)
            node.window.enter(log_ms, config)
            for _ in range(count):
                node.window.add(key(len(added)), len(added) + 1, keyed, offset, log_ms)
                added.append((offset, key(len(added))))
            if event:
                pieces = node.window.pieces(START, node.window.mark())
                numbers = {k: seq for piece in pieces for k, seq in piece.numbers()}
                since = node.window.whole_from
                assert all(numbers[k] == n + 1 for n, (at, k) in enumerate(added) if at >= since)
                node.snapshot(base=event == "base")
            if event == "restart":
                node.restart(offset + 1)
