"""The dead-letter log at the owner: read from the newest snapshot on, never in the way of messages, bounded in time."""

import asyncio

import pytest

from dispatcher import letter_log, log_follower
from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from dispatcher.shard import ShardOwner
from dispatcher.shard_runner import ShardRunner
from dispatcher.shard_time import ShardTime
from headgate.core.delivery.dead_letter_record import (
    DeadLetter,
    DeadLetterRecord,
    LetterAdded,
    LetterEnded,
    LetterReplayed,
    RefusedRecord,
    delivery_letter_id,
    encode_letter,
    refused_letter,
)
from headgate.core.delivery.open_letters import OFFSET_KEY, OpenLetters
from headgate.core.sequencer.snapshot_writer import PairKey
from headgate.core.wire.inbox_record import CursorEntry, CursorsRecord, encode_inbox
from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import DAY_MS
from headgate.runtime.system import SystemClock
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.dispatcher.bed import CLOCK, owner_in, owning, until
from tests.dispatcher.letters_bed import LettersBed
from tests.dispatcher.test_recovery import KEY, TOPIC, a_log, caught_up, create, fill

OFTEN = ShardOptions(snapshots=SnapshotOptions(check_s=0.01, least_s=0.0, interval_s=0.02))


def letter(epoch: int, seq: int, *, at: float | None = None, error: str = "e") -> DeadLetter:
    return DeadLetter(
        id=delivery_letter_id(TOPIC, (epoch, seq), ("bob", "phone", "")),
        topic=TOPIC,
        reason="max_attempts",
        at=CLOCK.wall_ms() / 1_000 if at is None else at,
        epoch=epoch,
        seq=seq,
        user_id="bob",
        device_id="phone",
        last_error=error,
    )


async def wrote(log: FaultyLog, *records: DeadLetterRecord | bytes) -> int:
    for record in records:
        value = record if isinstance(record, bytes) else encode_letter(record)
        at = await log.append(LogName.DEAD_LETTERS, 0, KEY, value)
    return at.offset + 1


async def has_read(runner: ShardRunner, end: int) -> OpenLetters:
    owner = owner_in(runner)
    await until(lambda: owner.letters.is_complete and owner.letters.letters.next_offset >= end)
    return owner.letters.letters


def seqs(letters: OpenLetters) -> list[int]:
    return [one.seq for one in letters.store]


async def test_a_new_owner_has_what_the_snapshot_and_the_log_after_it_have() -> None:
    log = await a_log()
    epoch = await create(log)
    first = [letter(epoch, seq) for seq in (1, 2, 3)]
    async with owning(log, final=True) as runner:
        await fill(log, 0, 5, epoch)
        await caught_up(runner, 5)
        end = await wrote(log, *map(LetterAdded, first), LetterReplayed(first[2].id, TOPIC))
        await has_read(runner, end)
    await log.truncate_before(LogName.DEAD_LETTERS, 0, end)
    last = await wrote(log, LetterEnded(first[0].id, TOPIC, "purged"), LetterAdded(letter(epoch, 4)))
    async with owning(log) as runner:
        letters = await has_read(runner, last)
        assert sorted(seqs(letters)) == [2, 3, 4]
        assert letters.store.replayed(TOPIC) == [first[2]]


async def test_letters_alone_make_a_snapshot_due_and_its_base_is_whole() -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, OFTEN) as runner:
        owner = owner_in(runner)
        await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0)
        await has_read(runner, await wrote(log, LetterAdded(letter(epoch, 1))))
        await until(lambda: owner.writer.pending(owner.shard) == 0)
        assert not owner.writer.touched(PairKey(OFFSET_KEY))
        owner.writer.forget()
        await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0)
        await asyncio.sleep(0.1)
        assert owner.writer.has_chain, "the check of the base found nothing wrong"


async def test_what_is_no_letter_of_a_delivery_is_passed() -> None:
    log = await a_log()
    epoch = await create(log)
    refused = LetterAdded(refused_letter(RefusedRecord(0, 1, 1, KEY, b"x"), "corrupt", "", 1))
    async with owning(log) as runner:
        end = await wrote(log, b"{", refused, b'{"op":"buried"}', LetterAdded(letter(epoch, 1)))
        assert seqs(await has_read(runner, end)) == [1]


async def test_a_dead_letter_log_that_is_away_does_not_stop_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_log, "RETRY_S", 0.02)
    log = await a_log()
    epoch = await create(log)
    away = await a_log()
    away.reach = Reach.REFUSED
    made = ShardOwner.__init__

    def with_other_log(owner: ShardOwner, *args: object) -> None:
        made(owner, *args)  # type: ignore[arg-type]
        owner.letters._log = owner.letters.follower._log = away

    monkeypatch.setattr(ShardOwner, "__init__", with_other_log)
    async with owning(log) as runner:
        await fill(log, 0, 3, epoch)
        await caught_up(runner, 3)
        assert not owner_in(runner).letters.is_complete
        away.reach = Reach.OK
        assert seqs(await has_read(runner, await wrote(away, LetterAdded(letter(epoch, 1))))) == [1]


async def test_retention_that_overtook_the_reader_costs_nothing_but_what_it_removed() -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log, final=True) as runner:
        await fill(log, 0, 5, epoch)
        await caught_up(runner, 5)
        await has_read(runner, await wrote(log, LetterAdded(letter(epoch, 1))))
    cut = await wrote(log, LetterAdded(letter(epoch, 2)))
    end = await wrote(log, LetterAdded(letter(epoch, 3)))
    await log.truncate_before(LogName.DEAD_LETTERS, 0, cut)
    async with owning(log) as runner:
        assert seqs(await has_read(runner, end)) == [1, 3]


async def test_letters_that_are_older_than_the_log_keeps_them_go() -> None:
    log = await a_log()
    log.keep_ms = {**log.keep_ms, LogName.DEAD_LETTERS: 60_000}
    epoch, now = await create(log), CLOCK.wall_ms() / 1_000
    async with owning(log) as runner:
        end = await wrote(log, LetterAdded(letter(epoch, 1, at=now - 61)), LetterAdded(letter(epoch, 2, at=now - 50)))
        letters = await has_read(runner, end)
        await until(lambda: seqs(letters) == [2], 5)


async def test_letters_stay_for_as_long_as_the_settings_say() -> None:
    log = await a_log()
    log.keep_ms = {**log.keep_ms, LogName.DEAD_LETTERS: 90 * DAY_MS}
    log.owner_deletes = False  # as Kafka
    epoch, now = await create(log), CLOCK.wall_ms() / 1_000
    async with owning(log) as runner:
        end = await wrote(log, *(LetterAdded(letter(epoch, days, at=now - days * 86_400)) for days in (91, 60)))
        letters = await has_read(runner, end)
        await until(lambda: seqs(letters) == [60], 5)


class Ahead(SystemClock):
    """A clock that steps forward by 40 days."""

    days = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.days * DAY_MS


@pytest.mark.parametrize("own_clock", [False, True])
async def test_a_clock_that_is_ahead_takes_no_letter_and_no_cursor(own_clock: bool) -> None:
    """The dispatcher's clock may be wrong: what it forgets is gone for good, in snapshots too."""
    clock, log = Ahead(), await a_log()
    log.own_clock = own_clock
    epoch = await create(log)
    async with owning(log, OFTEN, clock) as runner:
        owner = owner_in(runner)
        end = await wrote(log, LetterAdded(letter(epoch, 1)))
        cursors = CursorsRecord([CursorEntry("bob", "phone", TOPIC, epoch, 1)])
        await log.append(LogName.INBOX, 0, b"bob", encode_inbox(cursors))
        await until(lambda: owner.inbox.users.cursors.find("bob", "phone", TOPIC))
        clock.days = 40
        letters = await has_read(runner, end)
        await has_read(runner, await wrote(log, LetterAdded(letter(epoch, 2))))
        await until(lambda: seqs(letters) == [1, 2])
        owner.writer.forget()
        await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0)
        assert owner.inbox.users.cursors.find("bob", "phone", TOPIC) is not None
        assert seqs(letters) == [1, 2]


async def test_a_letter_of_a_dispatcher_whose_clock_is_behind_is_not_old_at_once() -> None:
    clock = Ahead()
    clock.days = -40
    log_ms = SystemClock().wall_ms()
    time = ShardTime(await a_log(), log_ms, asyncio.Event(), clock)
    assert time.ms() < log_ms - 30 * DAY_MS <= time.stamp_ms()


async def test_letters_of_topics_that_are_gone_are_not_taken_from_the_log() -> None:
    log = await a_log()
    epoch = await create(log)
    await wrote(log, LetterAdded(letter(epoch - 1, 1)), LetterAdded(letter(epoch, 1)))
    async with owning(log) as runner:
        end = await wrote(log, LetterAdded(letter(epoch - 1, 2)), LetterAdded(letter(epoch, 2)))
        letters = await has_read(runner, end)
        assert [(one.epoch, one.seq) for one in letters.store] == [(epoch, 1), (epoch, 2)]


async def test_as_many_records_as_may_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_log, "WAITING", 2)
    monkeypatch.setattr(log_follower, "WAITING", 2)
    bed = LettersBed(await a_log())
    letters, done = bed.owner.letters, list[bool | None]()
    bed.log.latency = lambda log, shard: 0.02
    for seq in (1, 2):
        assert not letters.is_crowded
        letters.append(LetterAdded(letter(1, seq)), done.append)
    assert letters.is_crowded
    assert letters.hold(lambda: None), "beside the replays, which wait too"
    assert not letters.hold(lambda: None)
    await asyncio.sleep(0.1)
    assert (letters.is_crowded, done) == (True, []), "in the log, and not read back yet"
    async with bed.run():
        await until(lambda: done == [True, True])
    assert not letters.is_crowded


async def test_letters_that_made_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.delivery.open_letters.TOPIC_LETTERS", 2)
    bed = LettersBed(await a_log(), messages=5)
    async with bed.run():
        for seq in range(1, 6):
            await bed.give_up(seq)
        assert len(await bed.letters()) == 2
    assert bed.owner._shell.metrics._letters_evicted.values[()] == 3  # type: ignore[attr-defined]
