"""Embedded logs drop what is old, behind snapshots only, and give the room back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from dispatcher.retention import LookedThrough, Retention, look_through
from dispatcher.shard_runner import ShardRunner
from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import DAY_MS, KEEP_MS
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import DEAD_LETTERS_SHARE, MemoryStore
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng
from tests.contract.log_suite import read_from
from tests.dispatcher.bed import owning
from tests.dispatcher.test_recovery import KEY, caught_up, create, fill


class Calendar(SystemClock):
    """A clock whose days can pass; it may be `ahead`."""

    def __init__(self) -> None:
        self.days = 0
        self.ahead = 0

    def now(self) -> float:
        return super().now() + self.days * DAY_MS / 1_000

    def wall_ms(self) -> int:
        return super().wall_ms() + (self.days + self.ahead) * DAY_MS


@pytest.fixture
def clock() -> Calendar:
    return Calendar()


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, clock: Calendar, tmp_path: Path) -> AsyncIterator[Log]:
    rng = SystemRng()
    log: Log = (
        MemoryLog(MemoryStore(clock, rng)) if request.param == "memory" else SqliteLog(tmp_path / "log.db", clock, rng)
    )
    await log.open()
    yield log
    await log.close()


async def first_since(log: Log, clock: Calendar, ms: int) -> int:
    """The first record of an inbox log that is not older."""
    return (await look_through(log, (LogName.INBOX, 1), ms, clock.wall_ms(), LookedThrough())).old


async def apply(log: Log, runner: ShardRunner) -> None:
    assert runner.owner is not None
    await Retention(log, runner._dispatcher).apply(runner.owner)


async def snapshotted(runner: ShardRunner) -> None:
    assert runner.owner is not None
    async with asyncio.timeout(10):
        while runner.owner.snapshot_offset < runner.owner.shard.next_offset:
            await asyncio.sleep(0.02)


async def test_messages_go_after_seven_days_and_dead_letters_after_thirty(log: Log, clock: Calendar) -> None:
    options = ShardOptions(snapshots=SnapshotOptions(quiet_offsets=1, changes=1))
    epoch = await create(log)
    async with owning(log, options, clock) as runner:
        await fill(log, 0, 100, epoch)
        await log.append(LogName.MESSAGES, 0, KEY, b"\xffnot JSON")
        inbox = await log.append(LogName.INBOX, 0, b"k", b"v")
        await caught_up(runner, 100)
        await snapshotted(runner)
        assert runner.owner is not None
        await runner.owner.dead_letters.safe()
        letters = await log.bounds(LogName.DEAD_LETTERS, 0)
        clock.days = 6
        await fill(log, 100, 10, epoch)
        await caught_up(runner, 110)
        await apply(log, runner)
        assert (await log.bounds(LogName.INBOX, 0)).first == inbox.offset
        clock.days = 8
        await snapshotted(runner)
        young = runner.owner.shard.next_offset - 10
        await apply(log, runner)
        assert (await log.bounds(LogName.MESSAGES, 0)).first == young
        assert (await log.bounds(LogName.INBOX, 0)).first == inbox.offset + 1
        assert await log.bounds(LogName.DEAD_LETTERS, 0) == letters
        clock.days = 31
        await apply(log, runner)
        assert (await log.bounds(LogName.DEAD_LETTERS, 0)).first == letters.end
    async with owning(log, options, clock) as runner:
        await caught_up(runner, 110)


async def test_no_message_goes_that_the_newest_snapshot_does_not_reach(log: Log, clock: Calendar) -> None:
    options = ShardOptions(snapshots=SnapshotOptions(interval_s=3_600.0))
    epoch = await create(log)
    first = (await log.bounds(LogName.MESSAGES, 0)).first
    async with owning(log, options, clock) as runner:
        await fill(log, 0, 50, epoch)
        await caught_up(runner, 50)
        clock.days = 400
        await apply(log, runner)
        assert runner.owner is not None
        assert runner.owner.snapshot_offset == 0
        assert (await log.bounds(LogName.MESSAGES, 0)).first == first


@pytest.mark.parametrize("at_boot", [False, True])
async def test_a_clock_that_is_ahead_deletes_nothing(log: Log, clock: Calendar, at_boot: bool) -> None:
    options = ShardOptions(snapshots=SnapshotOptions(quiet_offsets=1, changes=1))
    epoch = await create(log)
    firsts = {name: (await log.bounds(name, 0)).first for name in log.keep_ms}
    await fill(log, 0, 100, epoch)
    await log.append(LogName.INBOX, 0, b"k", b"v")
    await log.append(LogName.DEAD_LETTERS, 0, KEY, b"v")
    clock.ahead = 40 if at_boot else 0
    async with owning(log, options, clock) as runner:
        await caught_up(runner, 100)
        clock.ahead = 40
        await fill(log, 100, 2_000, epoch)  # stamped by the same clock
        await caught_up(runner, 2_100)
        await snapshotted(runner)
        await apply(log, runner)
        assert {name: (await log.bounds(name, 0)).first for name in log.keep_ms} == firsts


async def test_what_came_after_a_clock_that_was_ahead_goes_when_it_is_old(log: Log, clock: Calendar) -> None:
    options = ShardOptions(snapshots=SnapshotOptions(quiet_offsets=1, changes=1))
    epoch = await create(log)
    async with owning(log, options, clock) as runner:
        await fill(log, 0, 10, epoch)
        clock.ahead = 4_000
        await fill(log, 10, 1, epoch)
        clock.ahead = 0
        await fill(log, 11, 10, epoch)
        await caught_up(runner, 21)
        clock.days = 8
        await fill(log, 21, 10, epoch)
        await caught_up(runner, 31)
        await snapshotted(runner)
        assert runner.owner is not None
        await apply(log, runner)
        assert (await log.bounds(LogName.MESSAGES, 0)).first == runner.owner.shard.next_offset - 10


async def test_claims_before_the_one_that_is_served_go(log: Log, clock: Calendar) -> None:
    claims = [await log.append(LogName.OWNERSHIP, 0, b"0", b"{}") for _ in range(20)]
    async with owning(log, clock=clock) as runner:
        assert runner.owner is not None
        runner.owner.epoch = (1 << 44) | claims[-1].offset
        await apply(log, runner)
        assert await log.bounds(LogName.OWNERSHIP, 0) == (claims[-1].offset, claims[-1].offset + 1)


async def test_records_from_while_the_clock_was_wrong_take_no_young_ones_with_them(log: Log, clock: Calendar) -> None:
    start = clock.wall_ms()
    old = (await log.append(LogName.INBOX, 1, None, b"old")).offset
    clock.days = 10
    for days in (10, -9_000, 10, 10):  # a machine without a battery begins in the past
        clock.days = days
        await log.append(LogName.INBOX, 1, None, b"v")
    assert await first_since(log, clock, start + 3 * DAY_MS) == old + 1


async def put(log: Log, clock: Calendar, *days: int) -> list[int]:
    """Appends a record at each of these days; returns their offsets."""
    offsets = []
    for clock.days in days:
        offsets.append((await log.append(LogName.INBOX, 1, None, b"v")).offset)
    return offsets


async def test_one_record_from_a_clock_that_was_years_ahead_keeps_nothing_behind_it(log: Log, clock: Calendar) -> None:
    start = clock.wall_ms()
    places = await put(log, clock, 0, 4_000, 1, 4_000, 8, 9)
    clock.days = 10
    assert await first_since(log, clock, start + DAY_MS // 2) == places[1], "it may be as young as the next one"
    assert await first_since(log, clock, start + 3 * DAY_MS) == places[3]
    assert await first_since(log, clock, start + 9 * DAY_MS - 1) == places[5]
    clock.days = 4_001
    assert await first_since(log, clock, start + 3 * DAY_MS) == places[1], "now it may be what it says"


async def test_a_week_at_a_wrong_clock_takes_no_young_record_with_it(log: Log, clock: Calendar) -> None:
    """The clock goes back ten days, so that all looks like the future, and is put right."""
    start = clock.wall_ms()
    young = await put(log, clock, 18, 19, 20)
    clock.days = 10
    looked = await look_through(log, (LogName.INBOX, 1), start + 3 * DAY_MS, clock.wall_ms(), LookedThrough())
    assert looked.old == young[0]
    await put(log, clock, 10)
    clock.days = 20
    looked = await look_through(log, (LogName.INBOX, 1), start + 13 * DAY_MS, clock.wall_ms(), looked)
    assert looked.old == young[0]


async def test_records_of_the_future_are_read_once(log: Log, clock: Calendar) -> None:
    start, place = clock.wall_ms(), (LogName.INBOX, 1)
    await put(log, clock, *[4_000] * 200, 1)
    clock.days = 2
    looked = await look_through(log, place, start, clock.wall_ms(), LookedThrough())
    before = sum(log.records_read.values())
    assert await look_through(log, place, start, clock.wall_ms(), looked) == looked
    assert sum(log.records_read.values()) == before + 1
    clock.days = 9
    assert (await look_through(log, place, start + 2 * DAY_MS, clock.wall_ms(), looked)).old == looked.end + 1


async def test_the_first_record_not_older_is_found(log: Log, clock: Calendar) -> None:
    start = clock.wall_ms()
    offsets = []
    for day in range(40):
        clock.days = day
        offsets += [(await log.append(LogName.INBOX, 1, None, b"v")).offset for _ in range(day % 3)]
    days = [day for day in range(40) for _ in range(day % 3)]
    for day in range(41):
        expected = next((o for o, d in zip(offsets, days, strict=True) if d >= day), offsets[-1] + 1)
        assert await first_since(log, clock, start + day * DAY_MS - 1_000) == expected


def test_kafka_keeps_as_long_by_the_topics_own_retention() -> None:
    from headgate.runtime.logs.kafka_init import topic_configs  # noqa: PLC0415
    from headgate.runtime.logs.kafka_log import KafkaLog  # noqa: PLC0415 - aiokafka is slow to import

    kept = {**KEEP_MS, LogName.DEAD_LETTERS: 90 * DAY_MS}
    log = KafkaLog(LogOptions("kafka://127.0.0.1:9", keep_ms=kept))
    assert (log.keep_ms, log.owner_deletes) == (kept, False), "what the owner has made of records follows the settings"
    assert {log: topic_configs(log, 3)["retention.ms"] for log in KEEP_MS} == {
        log: str(ms) for log, ms in KEEP_MS.items()
    }


async def test_dead_letters_never_fill_a_memory_log() -> None:
    store = MemoryStore(SystemClock(), SystemRng(), 4, 1 << 20)
    log = MemoryLog(store)
    await log.open()
    for number in range(1_000):
        await log.append(LogName.DEAD_LETTERS, 0, b"k", b"%d" % number * 3_000)
        assert store._usage.traffic < (1 << 20) // DEAD_LETTERS_SHARE
    assert not log.above_limit()
    end = (await log.bounds(LogName.DEAD_LETTERS, 0)).end
    newest = await read_from(log, LogName.DEAD_LETTERS, 0, end - 1, 1)
    assert newest[0].value == b"999" * 3_000


async def test_a_full_memory_log_heals_whatever_filled_it() -> None:
    """Messages, dead letters and snapshots together beyond both limits: publishes are refused, then taken again."""
    options = ShardOptions(snapshots=SnapshotOptions(check_s=0.02, least_s=0.05))
    log = MemoryLog(MemoryStore(SystemClock(), SystemRng(), 4, 400_000))
    await log.open()
    epoch = await create(log)
    for number in range(30):
        log.append(LogName.SNAPSHOTS, 1, None, b"%d" % number * 20_000)
        log.append(LogName.DEAD_LETTERS, 0, b"k", bytes(30_000))
    async with owning(log, options) as runner:
        taken, refused = 0, 0
        async with asyncio.timeout(20):
            while taken < 3_000 or not refused:
                try:
                    await fill(log, taken, 100, epoch, size=3_000)
                    taken += 100
                except Exception:
                    refused += 1
                    await asyncio.sleep(0.05)
            while log.above_limit():
                await asyncio.sleep(0.02)
        await fill(log, taken, 1, epoch)
        assert runner.owner is not None
