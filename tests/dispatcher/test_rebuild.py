"""History filled from the log, newest first: what it gives, what it costs, and what waits for it meanwhile."""

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from dispatcher import rebuild as module
from dispatcher.dispatcher_options import HistoryOptions, ShardOptions, SnapshotOptions
from dispatcher.history import History
from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from dispatcher.recent import RecentMessage
from dispatcher.shard_runner import ShardRunner
from headgate.core.sequencer.window import SEQ_UNKNOWN, Window
from headgate.core.wire.control import CreateTopic, DeleteTopic, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_bundle, encode_control, encode_message
from headgate.core.wire.ids import keyed_id
from headgate.core.wire.records import LogName
from headgate.core.wire.verdict import Code
from headgate.runtime.ports import Log, LogUnavailable
from tests.dispatcher.bed import owning
from tests.dispatcher.test_recovery import KEY, TOPIC, a_log, caught_up, create, fill

PAGE = 1 << 24


MANY_SNAPSHOTS = SnapshotOptions(check_s=0.01, least_s=0.0, changes=200)
OPTIONS = ShardOptions(snapshots=MANY_SNAPSHOTS, retry_s=0.05)


def options_in(folder: Path, frame_bytes: int = 1 << 30) -> ShardOptions:
    return OPTIONS._replace(folder=folder, frame_bytes=frame_bytes)


def tail_of(n: int) -> bytes:
    return b'"message_id":"x","publisher_id":"p","payload":%d}' % n


async def bundle(log: Log, numbers: range, epoch: int) -> None:
    items = [Item(keyed_id(KEY, "p", str(n)), KEYED, tail_of(n)) for n in numbers]
    await log.append(LogName.MESSAGES, 0, KEY, encode_bundle(items, epoch))


async def snapshotted(runner: ShardRunner) -> None:
    """Waits until nothing is left for a snapshot."""
    assert runner.owner is not None
    async with asyncio.timeout(10):
        while runner.owner.writer.pending(runner.owner.shard) >= 200:
            await asyncio.sleep(0.01)


def frames_of(history: History, epoch: int, head: int) -> list[bytes]:
    frames: list[bytes] = []
    first = history.first_seq(epoch, head)
    while first + len(frames) <= head:
        span = history.span(epoch, first + len(frames), 1_000, PAGE)
        assert span.seq == first + len(frames), "a hole"
        frames += span.frames
    return frames


async def mixed(log: Log, runner: ShardRunner, epoch: int) -> int:
    """Singles, bundles, repeats near and far, foreign records, and a topic that comes and goes; returns the head."""
    seq = 0
    for turn in range(12):
        await fill(log, turn * 1_000, 90, epoch)
        await bundle(log, range(turn * 1_000 + 100, turn * 1_000 + 300), epoch)
        await fill(log, turn * 1_000 + 10, 5, epoch)  # repeats of this turn
        if turn > 3:
            await fill(log, (turn - 3) * 1_000, 5, epoch)  # and of one long before
            await bundle(log, range((turn - 2) * 1_000 + 290, (turn - 2) * 1_000 + 310), epoch)
        await log.append(LogName.MESSAGES, 0, KEY, b'{ "foreign": %d }' % turn)
        seq += 90 + 200 + (10 if turn > 3 else 0) + 1
        await caught_up(runner, seq)
        await snapshotted(runner)
    return seq


async def test_a_rebuild_gives_what_the_live_index_gave_and_applies_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OPTIONS) as runner:
        head = await mixed(log, runner, epoch)
        assert runner.owner is not None
        expected = frames_of(runner.owner.history, epoch, head)
        assert len(expected) == head

    async def never(*_: object) -> None:
        raise AssertionError("nothing has to be applied again")

    monkeypatch.setattr(module.Rebuild, "_apply", never)
    async with owning(log, options_in(tmp_path)) as runner:
        await caught_up(runner, head)
        assert runner.owner is not None
        assert frames_of(runner.owner.history, epoch, head) == expected
        assert runner.owner.history.seq_of(keyed_id(KEY, "p", "5"), epoch) == 6


async def test_the_newest_segment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OPTIONS, final=True) as runner:
        head = await mixed(log, runner, epoch)
    order: list[tuple[int, int]] = []
    fill_one = History.fill

    def noting(self: History, entries: list[object], low: int, high: int, gone: object = ()) -> bool:
        order.append((low, high))
        return fill_one(self, entries, low, high, gone)  # type: ignore[arg-type]

    monkeypatch.setattr(History, "fill", noting)
    bounds = await log.bounds(LogName.MESSAGES, 0)
    middle = (bounds.first + bounds.end) // 2
    file = HistoryIndex(tmp_path / "shard-0.db", LogIdentity(log.cluster_id, 1, 0))
    file.write([], (middle, middle + 1))  # so there are two holes
    file.close()
    async with owning(log, options_in(tmp_path)) as runner:
        await caught_up(runner, head)
        lows = [low for low, _ in order]
        assert len(order) > 5
        assert lows[0] > middle
        assert lows == sorted(lows, reverse=True)


async def test_first_seq_is_exact_to_the_record_after_retention_on_a_cold_node() -> None:
    """12,000 messages, the log has lost the first 100 records and with them the config record."""
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OPTIONS) as runner:
        for start in range(0, 12_000, 1_000):
            await fill(log, start, 1_000, epoch)
            await caught_up(runner, start + 1_000)
            await snapshotted(runner)
    made_at = epoch & ((1 << 44) - 1)
    await log.truncate_before(LogName.MESSAGES, 0, made_at + 101)
    async with owning(log, OPTIONS) as runner:
        await caught_up(runner, 12_000)
        assert runner.owner is not None
        assert runner.owner.history.first_seq(epoch, 12_000) == 101
        assert len(frames_of(runner.owner.history, epoch, 12_000)) == 11_900


async def test_a_repeat_whose_message_retention_took_is_not_taken_for_the_message() -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OPTIONS) as runner:
        await fill(log, 0, 100, epoch)
        await fill(log, 10, 1, epoch)  # repeats the eleventh
        await fill(log, 100, 400, epoch)
        await caught_up(runner, 500)
        await snapshotted(runner)
    made_at = epoch & ((1 << 44) - 1)
    await log.truncate_before(LogName.MESSAGES, 0, made_at + 60)
    async with owning(log, OPTIONS) as runner:
        await caught_up(runner, 500)
        assert runner.owner is not None
        history = runner.owner.history
        assert history.first_seq(epoch, 500) == 60
        assert len(frames_of(history, epoch, 500)) == 441
        assert not history.has(epoch, 11)


async def test_a_repeat_behind_the_last_message_of_its_topic_in_the_log_is_none_either() -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OPTIONS, final=True) as runner:
        assert runner.owner is not None
        async with asyncio.timeout(5):
            while not runner.owner.writer.has_chain:  # so that one delta has all that follows
                await asyncio.sleep(0.01)
        await fill(log, 0, 100, epoch)
        await fill(log, 10, 1, epoch)  # repeats the eleventh
        await caught_up(runner, 100)
    made_at = epoch & ((1 << 44) - 1)
    await log.truncate_before(LogName.MESSAGES, 0, made_at + 101)
    async with owning(log, OPTIONS) as runner:
        await caught_up(runner, 100)
        assert runner.owner is not None
        assert runner.owner.history.first_seq(epoch, 100) == 101, "nothing of the topic is left"


async def test_a_repeat_behind_what_a_base_has_the_numbers_of_is_not_taken_for_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base has every seq from some offset on, and a few before it: those of the block of keyed ids it lies in."""
    monkeypatch.setattr("headgate.core.sequencer.window.BLOCK_IDS", 50)
    log = await a_log()
    epoch = await create(log)

    async def unkeyed(numbers: range) -> None:
        items = [Item(b"%016d" % n, 0, tail_of(n)) for n in numbers]
        await asyncio.gather(*(log.append(LogName.MESSAGES, 0, KEY, encode_message(i, epoch)) for i in items))

    async with owning(log, OPTIONS) as runner:
        await fill(log, 0, 1, epoch)
        await unkeyed(range(300))
        await caught_up(runner, 301)
        await snapshotted(runner)
        await unkeyed(range(300, 650))
        await fill(log, 1, 1, epoch)
        await fill(log, 0, 1, epoch)  # repeats the first
        await unkeyed(range(650, 700))
        await caught_up(runner, 702)
        assert runner.owner is not None
        assert (epoch & ((1 << 44) - 1)) + 100 < runner.owner.shard.window.whole_from < runner.owner.shard.next_offset
        writer, end = runner.owner.writer, runner.owner.shard.next_offset
        writer.forget()
        async with asyncio.timeout(10):
            while writer.offset < end or writer.delta_bytes:  # until a base
                writer.forget()
                await asyncio.sleep(0.05)
    found: list[int] = []
    fill_one = History.fill

    def noting(self: History, entries: list[RecentMessage], low: int, high: int, gone: Iterable[int] = ()) -> bool:
        found.extend(entry.seq for entry in entries)
        return fill_one(self, entries, low, high, gone)

    monkeypatch.setattr(History, "fill", noting)
    async with owning(log, options_in(tmp_path)) as runner:
        await caught_up(runner, 702)
        assert runner.owner is not None
        assert len(frames_of(runner.owner.history, epoch, 702)) == 702
    assert sorted(found) == list(range(1, 703)), "each message once, where it was accepted"


async def test_a_rebuild_that_is_cut_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the middle, again and again: each start needs less, and live messages meanwhile lose nothing."""
    small = HistoryOptions(batch=50)
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OPTIONS) as runner:
        for start in range(0, 3_000, 300):
            await fill(log, start, 300, epoch)
            await caught_up(runner, start + 300)
            await snapshotted(runner)
    head, held = 3_000, [0]
    write = module.Rebuild._write
    for cut in (3, 5, 7):
        writes = 0

        def cutting(self: module.Rebuild, stretch: module.Stretch, end: int, cut: int = cut) -> None:
            nonlocal writes
            writes += 1
            if writes > cut:
                raise LogUnavailable("killed")
            write(self, stretch, end)

        monkeypatch.setattr(module.Rebuild, "_write", cutting)
        async with owning(log, options_in(tmp_path)._replace(history=small)) as runner:
            await fill(log, head, 10, epoch)
            head += 10
            async with asyncio.timeout(10):
                while writes <= cut or runner.owner is None or runner.owner.rows[KEY].seq < head:
                    await asyncio.sleep(0.01)
            assert runner.owner is not None
            file = runner.owner.history.file
        with closing(sqlite3.connect(tmp_path / "shard-0.db")) as db:
            held.append(db.execute("SELECT count(*) FROM seqs").fetchone()[0])
        assert file is None or file.ranges
    assert held == sorted(held)
    assert held[-1] > held[1] > 0
    monkeypatch.setattr(module.Rebuild, "_write", write)
    async with owning(log, options_in(tmp_path)._replace(history=small)) as runner:
        await caught_up(runner, head)
        assert runner.owner is not None
        assert len(frames_of(runner.owner.history, epoch, head)) == head


async def test_a_topic_deleted_where_the_index_had_a_hole_leaves_the_file(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path), final=True) as runner:
        await fill(log, 0, 500, epoch)
        await caught_up(runner, 500)
    async with owning(log, OPTIONS, final=True) as runner:  # another node has the shard meanwhile
        value = encode_control(encode_body(DeleteTopic(TOPIC)), epoch, keyed_id(KEY, "ann", "d"))
        await log.append(LogName.MESSAGES, 0, KEY, value)
        control = CreateTopic(topic_id=TOPIC, name=TOPIC, permissions="PUBLIC", owner_id="ann")
        at = await log.append(
            LogName.MESSAGES, 0, KEY, encode_control(encode_body(control), 0, keyed_id(KEY, "ann", "c"))
        )
        await fill(log, 0, 20, (1 << 44) | at.offset)
        await caught_up(runner, 20)
    async with owning(log, options_in(tmp_path)) as runner:
        await caught_up(runner, 20)
        assert runner.owner is not None
        history = runner.owner.history
        async with asyncio.timeout(5):
            while history.file is None or history.file.gone or history.file.first_seq(epoch, 0) is not None:
                await asyncio.sleep(0.01)
        assert len(frames_of(history, (1 << 44) | at.offset, 20)) == 20


async def test_pages_over_dropped_frames_are_read_from_the_log_and_are_the_same(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OPTIONS) as runner:
        head = await mixed(log, runner, epoch)
        assert runner.owner is not None
        expected = frames_of(runner.owner.history, epoch, head)

    class Asker:
        open = True

    async with owning(log, options_in(tmp_path, 30_000)) as runner:
        await caught_up(runner, head)
        owner = runner.owner
        assert owner is not None
        assert owner.history.file is not None
        async with asyncio.timeout(5):
            while owner.history.file.frame_bytes > 30_000:
                await asyncio.sleep(0.01)
        frames: list[bytes] = []
        loads = 0
        while len(frames) < head:
            span = owner.history.span(epoch, len(frames) + 1, 1_000, PAGE)
            if span.absent:
                loaded = asyncio.Event()
                owner.pages.want(owner.rows[KEY], span.absent, Asker(), loaded.set)
                await asyncio.wait_for(loaded.wait(), 5)
                loads += 1
            frames += span.frames
        assert frames == expected
        assert 3 < loads < 60


async def test_a_page_of_large_dropped_frames_comes_however_little_of_it_fits(tmp_path: Path) -> None:
    """A hundred frames of which the memory for loaded ones takes twenty: each read gives the beginning of a page."""
    options = options_in(tmp_path, 1)._replace(history=HistoryOptions(loaded_bytes=20_000, read_bytes=10_000))
    log = await a_log()
    epoch = await create(log)

    class Asker:
        open = True

    async with owning(log, options) as runner:
        await fill(log, 0, 100, epoch, size=1_000)
        await caught_up(runner, 100)
        owner = runner.owner
        assert owner is not None
        assert owner.history.file is not None
        async with asyncio.timeout(5):
            while owner.history.file.frame_bytes > 1 or len(owner.history.recent):
                await asyncio.sleep(0.01)
        found = loads = 0
        while found < 100:
            span = owner.history.span(epoch, found + 1, 1_000, PAGE)
            found += len(span.frames)
            if span.absent:
                loads += 1
                assert loads <= 20, "what was read first must still be there"
                loaded = asyncio.Event()
                owner.pages.want(owner.rows[KEY], span.absent, Asker(), loaded.set)
                await asyncio.wait_for(loaded.wait(), 5)


async def test_the_seq_of_a_duplicate_whose_first_is_packed_is_looked_up(tmp_path: Path) -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path)) as runner:
        await fill(log, 0, 300, epoch)
        await caught_up(runner, 300)
        owner = runner.owner
        assert owner is not None
        key = keyed_id(KEY, "p", "7")
        with mock.patch.object(Window, "find", lambda self, key: SEQ_UNKNOWN):  # what packing leaves of an id
            at = await log.append(LogName.MESSAGES, 0, KEY, encode_message(Item(key, KEYED, tail_of(7)), epoch))
            async with asyncio.timeout(5):
                while owner.verdicts.get(at.offset) is None:
                    await asyncio.sleep(0.01)
        verdicts = owner.verdicts.get(at.offset)
        assert verdicts is not None
        assert (verdicts[0].code, verdicts[0].seq) == (Code.DUPLICATE, 8)
