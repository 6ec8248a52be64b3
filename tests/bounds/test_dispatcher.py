"""Each bounded structure of a shard's owner, fed with bundles of 1,000 up to its bound and past it by half, measured.

The bytes are those of `docs/bounds.md`, with a quarter on top for what a run of Python adds.
"""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

import pytest

from dispatcher.dead_letters import WAITING_BYTES, DeadLetters
from dispatcher.outputs import WAITING, Outputs
from dispatcher.pointers import ROUND, Pointers
from headgate.core.sequencer.digest import Digest
from headgate.core.sequencer.effects import Unusable
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.recent_verdicts import BLOCK_MESSAGES, KEPT_MESSAGES, WAITERS, RecentVerdicts
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import CHUNK_BYTES
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from headgate.core.sequencer.topic_changes import MemberChanged
from headgate.core.sequencer.window import BLOCK_IDS, UNSAVED_IDS, Window
from headgate.core.wire.control import Config
from headgate.core.wire.ids import keyed_id
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import Appended, LogName, Record
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.logs.embedded import MAX_RECORD_BYTES

BUNDLE = 1_000
SPARE = 1.25
IDS = 40_000  # of the small windows here; bytes an id are what the page says


@contextmanager
def at_most(size: float) -> Iterator[None]:
    """Asserts that what is made meanwhile holds at most `size` bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= size * SPARE, f"{held:,} bytes, the page says {size:,.0f}"


def _key(n: int) -> int:
    return int.from_bytes(blake2b(n.to_bytes(8), digest_size=16).digest(), "big")


def _config(**limits: int) -> Config:
    return Config(cluster_id="c", generation=1, shards=1, shard=0, **limits)


def _fill(window: Window, config: Config, ids: int, *, keyed: bool, ms: Callable[[int], int]) -> None:
    """Bundles of BUNDLE ids, one an offset; now and then a snapshot."""
    for offset in range(ids // BUNDLE):
        window.enter(ms(offset), config)
        for n in range(offset * BUNDLE, (offset + 1) * BUNDLE):
            window.add(_key(n), n + 1, keyed, offset, ms(offset))
        if offset % 20 == 19:
            window.saved(window.mark())
    for _ in range(100):
        window.enter(ms(ids // BUNDLE), config)


def test_keyed_ids_leave_by_their_number_whatever_the_bundles() -> None:
    window = Window()
    with at_most(IDS * 25 + 6 * BLOCK_IDS * 190):
        _fill(window, _config(dedup_max_ids=IDS), IDS * 3 // 2, keyed=True, ms=lambda offset: offset)
        assert IDS <= len(window) <= IDS + 2 * BLOCK_IDS + BUNDLE


def test_unkeyed_ids_leave_by_their_number_also_when_log_time_stands_still() -> None:
    window = Window()
    _fill(window, _config(dedup_unkeyed_ids=IDS), IDS * 3, keyed=False, ms=lambda offset: 0)
    assert 2 * IDS <= len(window) <= 2 * IDS + 2 * BLOCK_IDS + BUNDLE


def test_unkeyed_ids_leave_sooner_once_they_are_old() -> None:
    window = Window()
    _fill(window, _config(dedup_unkeyed_ids=IDS), IDS * 3, keyed=False, ms=lambda offset: offset * 120_001)
    assert IDS <= len(window) <= IDS + 2 * BLOCK_IDS + BUNDLE


def test_ids_that_no_snapshot_takes_are_packed_all_the_same() -> None:
    window, config = Window(), _config()
    ids = UNSAVED_IDS + UNSAVED_IDS // 2
    with at_most(UNSAVED_IDS * 190 + (ids - UNSAVED_IDS) * 25):
        for offset in range(ids // BUNDLE):
            window.enter(offset, config)
            for n in range(offset * BUNDLE, (offset + 1) * BUNDLE):
                window.add(_key(n), n + 1, True, offset, offset)


@pytest.mark.parametrize("items", [1, BUNDLE])
def test_verdicts_are_kept_by_messages_and_cost_33_bytes_a_run(items: int) -> None:
    verdicts = RecentVerdicts()
    with at_most(3_500_000):
        for offset in range(KEPT_MESSAGES * 3 // 2 // items):
            verdicts.put(offset, [Verdict(Code.ACCEPTED, offset * items + n, 1) for n in range(items)])
    last = KEPT_MESSAGES * 3 // 2 // items - 1
    kept = KEPT_MESSAGES // items
    assert verdicts.get(last - kept + 1) is not None
    assert verdicts.get(last - kept - (BLOCK_MESSAGES + items) // items - 1) is None


def test_verdict_waiters_are_refused_above_their_number_and_go_with_their_link() -> None:
    verdicts = RecentVerdicts()
    took = [verdicts.wait(10 + n, "link", lambda _: None) for n in range(WAITERS + WAITERS // 2)]
    assert took.count(True) == WAITERS and not any(took[WAITERS:])
    verdicts.forget("link")
    assert verdicts.wait(10, "other", lambda _: None)


def test_a_digest_holds_16_bytes_after_any_number_of_messages() -> None:
    digest = Digest()
    with at_most(1_000):
        for offset in range(2_000):
            digest.fold(offset, (offset + 1) * BUNDLE, b"\x01" * BUNDLE)
        assert len(digest.value) == 16


class _AwayLog:
    """A log that takes nothing now."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[Appended]] = []

    def append(
        self, log: LogName, shard: int, key: bytes | None, value: bytes | None, headers: object = ()
    ) -> "asyncio.Future[Appended]":
        """Keeps it waiting."""
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


async def test_dead_letters_stop_the_shards_reading_at_their_bytes() -> None:
    letters = DeadLetters(_AwayLog(), 0)  # type: ignore[arg-type]  # nothing else of a log is used
    offset = 0
    with at_most(WAITING_BYTES + 2 * 700_000 + 1_000_000):
        while not letters.is_full:
            letters.add(Record(offset, 1, b"k", bytes(500_000)), Unusable(BUNDLE, "no_topic", ""))
            offset += 1
            await asyncio.sleep(0)
    assert offset <= WAITING_BYTES // 500_000 + 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await letters.room()


async def test_memberships_on_their_way_stop_the_shards_reading_at_their_number() -> None:
    """The longest ids: 128 bytes each."""
    outputs, row, offset = Outputs(_AwayLog(), 0, 64), "t" * 128, 0  # type: ignore[arg-type]  # nothing else is used
    joined = Membership(Role.MEMBER, 1 << 40, 1 << 40, 1 << 42)
    with at_most(16_000_000 * SPARE):
        while not outputs.is_full:
            change = MemberChanged(row, 1 << 45, f"{offset:0128}", joined, 0)
            outputs.changed(Record(offset, 1 << 42, b"k", b""), change)
            offset += 1
            if offset % 200 == 0:
                await asyncio.sleep(0)
    assert offset == WAITING
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await outputs.room()


async def test_pointers_that_the_log_does_not_take_stop_the_shards_reading_at_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Topics wait, however many messages they get: the longest ids, each with its creator."""
    monkeypatch.setattr("dispatcher.pointers.WAITING", 25_000)
    rows: dict[bytes, Row] = {}
    for n in range(30_000):
        key = b"%0128d" % n
        rows[key] = Row(key.decode(), 1 << 45, 5, "n", "PUBLIC", f"u{n}", 0, {})
    pointers = Pointers(_AwayLog(), 0, 64, rows, {})  # type: ignore[arg-type]  # nothing else is used
    with at_most(25_000 * 200 + 64 * ROUND * 600):
        for _ in range(3):
            for key in list(rows)[:12_000]:  # under way, and once more behind that
                pointers.moved(key, 1 << 42)
            await asyncio.wait_for(pointers.room(), 5)
            await asyncio.sleep(0.1)
        assert not pointers.is_full
        for key in rows:
            pointers.moved(key, 1 << 42)
        room = asyncio.ensure_future(pointers.room())
        while not pointers.is_full:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert not room.done()
        room.cancel()
    pointers.close()


@pytest.mark.parametrize("base", [True, False])
def test_every_chunk_is_bounded_whatever_a_snapshot_holds(base: bool) -> None:
    """C1: full windows of bundles, and ten thousand deleted topics with the longest ids."""
    shard, writer = Shard(), SnapshotWriter()
    shard.config = _config()
    rows: dict[bytes, Row] = {}
    for n in range(10_000):
        key = (b"%08d" % n) * 16
        rows[key] = Row(key.decode(), n, 0, "n", "PUBLIC", "o", 0, {})
        writer.touch(key)
    _fill(shard.window, shard.config, 200_000, keyed=True, ms=lambda offset: offset)
    shard.next_offset = 200
    if not base:
        for _ in writer.base(shard, rows, 0):
            pass
        for key in list(rows):
            del rows[key]
            writer.touch(key)
        _fill(shard.window, shard.config, 200_000, keyed=False, ms=lambda offset: offset)
    steps = writer.base(shard, rows, 0) if base else writer.delta(shard, rows)
    sizes = [len(value) for value in steps if value is not None]
    assert len(sizes) > 3 and max(sizes) <= CHUNK_BYTES < MAX_RECORD_BYTES


def test_the_id_of_a_message_is_as_short_as_the_page_says() -> None:
    assert len(keyed_id(b"topic", "p", "1")) == 16
