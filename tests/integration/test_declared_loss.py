"""A shard that lost data is served again once the loss is declared: what is left, with epochs that rise."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dispatcher.backup import lines_of, shard_at_end, tail
from dispatcher.backup_lines import CursorLine, MarkLine, TopicLine
from dispatcher.declared_loss import REASON, LossReport, recover_with_loss, report_loss
from dispatcher.dispatcher_options import ShardOptions
from dispatcher.recovery import RecoveredShard, ShardLost, pairs_of, recover
from dispatcher.restore_target import write_base
from dispatcher.shard_remains import CannotRecover, NothingLost
from headgate.core.delivery.dead_letter_record import DeadLetter, LetterAdded, decode_letter
from headgate.core.sequencer.apply import NotConfigured
from headgate.core.sequencer.rows import Shard
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.control import LOGIC
from headgate.core.wire.ids import shard_of, topic_key, user_shard
from headgate.core.wire.inbox_record import MembershipRecord, encode_inbox
from headgate.core.wire.records import Appended, LogName
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import Log, LogUnavailable
from tests.dispatcher.bed import owner_in, owning, until
from tests.dispatcher.restore_bed import CLOCK, RNG, TAIL, Filling, backup_of, fill_log, lines_in

MINE = next(name for name in "abcde" if shard_of(topic_key(name), 4) == 0)
OTHER = next(name for name in "abcde" if shard_of(topic_key(name), 4) != 0)
BOB = next(f"bob{n}" for n in range(99) if user_shard(f"bob{n}", 4) == 0)
EVA = next(f"eva{n}" for n in range(99) if user_shard(f"eva{n}", 4) == 1)
KEY = topic_key(MINE)


def a_topic(name: str) -> str:
    """The id of a topic of shard 0."""
    return next(f"{name}{n}" for n in range(99) if shard_of(topic_key(f"{name}{n}"), 4) == 0)


@pytest.fixture(params=["memory", "sqlite", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    if request.param == "memory":
        made: Log = MemoryLog(MemoryStore(CLOCK, RNG, 4))
    elif request.param == "sqlite":
        made = SqliteLog(tmp_path / "log.db", CLOCK, RNG)
    else:
        address, prefix = request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("log_prefix")
        options = LogOptions(f"kafka://{address}", prefix, shards=4)
        await init_kafka(options)
        made = KafkaLog(options)
    await made.open()
    yield made
    await made.close()


async def nobody() -> None:
    """Nobody serves a shard."""


async def found_in(log: Log, number: int = 0) -> RecoveredShard:
    return await recover(log, number, lambda work, seconds: None)


async def recovered(log: Log, number: int = 0) -> LossReport:
    return await recover_with_loss(log, number, CLOCK, nobody)


async def snapshots(log: Log) -> None:
    """Shard 0 is served for a while, and leaves a snapshot of all that it has."""
    async with owning(log, ShardOptions(), final=True) as runner:
        end, inbox = (await log.bounds(LogName.MESSAGES, 0)).end, (await log.bounds(LogName.INBOX, 0)).end
        owner = owner_in(runner)
        await until(lambda: owner.shard.next_offset >= end and owner.inbox.users.next_offset >= inbox)


async def filled(log: Log) -> Filling:
    fill = await fill_log(log)
    for user in (BOB, EVA):
        await fill.join(MINE, user)
        await fill.join(OTHER, user)
        await fill.cursor(user, MINE, 3)
        await fill.mark(user, MINE, 2, 2)
    return fill


async def raised(log: Log, number: int) -> None:
    """A shard has a snapshot, its config record is gone, and its logic was raised by a record that is gone too."""
    found = await shard_at_end(log, number)
    assert found.shard.config is not None
    found.shard.config, found.shard.logic = msgspec.structs.replace(found.shard.config, logic=1), LOGIC
    await write_base(log, number, found.shard, found.rows, pairs_of(found.users, found.letters))
    await log.truncate_before(LogName.MESSAGES, number, (await log.bounds(LogName.MESSAGES, number)).first + 1)


async def cut(log: Log, fill: Filling) -> int:
    """Retention takes a message and a topic of shard 0 that no snapshot has, and leaves what came later."""
    await fill.topic(a_topic("lost"))
    await fill.message(MINE, "lost")
    left_from = (await log.bounds(LogName.MESSAGES, 0)).end
    await fill.message(MINE, "left")
    await fill.message(MINE, "secret")
    await fill.redact(MINE, max(seq for topic, seq in fill.places if topic == MINE))
    await fill.topic(a_topic("new"), messages=2)
    await fill.join(MINE, "late")
    await log.append(LogName.MESSAGES, 0, KEY, b'{"from":"a job"}')
    await log.truncate_before(LogName.MESSAGES, 0, left_from)
    return left_from


async def overtaken(log: Log) -> Filling:
    fill = await filled(log)
    await snapshots(log)
    await cut(log, fill)
    return fill


async def all_letters(log: Log) -> AsyncIterator[DeadLetter]:
    first = (await log.bounds(LogName.DEAD_LETTERS, 0)).first
    async for records in tail(log, LogName.DEAD_LETTERS, 0, first):
        for record in records:
            found = decode_letter(record.value)
            assert isinstance(found, LetterAdded)
            yield found.letter


async def letters_in(log: Log) -> list[tuple[int, bytes]]:
    """The records that were given up, by the id of their letter."""
    found = {}
    async for letter in all_letters(log):
        if letter.reason == REASON and letter.record is not None:
            found[letter.id] = letter.record.items, letter.record.value or b""
    return list(found.values())


async def test_a_shard_that_retention_overtook_is_served_with_what_is_left(log: Log) -> None:
    fill = await overtaken(log)
    with pytest.raises(ShardLost, match="removed before anybody applied it"):
        await found_in(log)
    ends = [(await log.bounds(name, 0)).end for name in LogName]
    told = await report_loss(log, 0)
    assert [(await log.bounds(name, 0)).end for name in LogName] == ends, "a dry run writes nothing"
    report = await recovered(log)
    assert (told.lost_from, told.lost_to) == (report.lost_from, report.lost_to)
    assert report.lost_to - report.lost_from == 2
    assert (told.messages, report.messages) == (6, 6)  # left, secret, its redaction, two of the new topic, the job's
    letters = await letters_in(log)
    assert len(letters) == 5, "the redacted message has no letter"
    assert (1, b'{"from":"a job"}') in letters
    async with owning(log) as runner:
        assert (runner.life.state, runner.why) == (ShardState.LIVE, "")
        owner = owner_in(runner)
        row = owner.rows[KEY]
        assert row.epoch > max(fill.epochs.values())
        members = {user for user, _ in owner.shard.members_above(KEY, row, "", 99)}
        assert {BOB, EVA, "late"} <= members
        assert owner.rows[topic_key(a_topic("new"))].epoch > max(fill.epochs.values())
        assert topic_key(a_topic("lost")) not in owner.rows
        head = row.seq
        fill.epochs[MINE] = row.epoch
        await fill.message(MINE, "next")
        await until(lambda: owner.rows[KEY].seq == head + 1)
        frames = owner.history.span(row.epoch, head + 1, 10, 1 << 20).frames
        assert len(frames) == 1 and b'"seq":%d' % (head + 1) in frames[0]
        await until(lambda: not owner.history.gaps())
    with pytest.raises(NothingLost):
        await recovered(log)
    await found_in(log)


async def test_users_of_all_shards_keep_their_places_in_the_new_epoch(log: Log) -> None:
    await overtaken(log)
    await recovered(log)
    lines = lines_in(await backup_of(log))
    epochs = {line.topic_id: line.epoch for line in lines if isinstance(line, TopicLine)}
    places = {
        (type(line), line.user_id, line.seq)
        for line in lines
        if isinstance(line, CursorLine | MarkLine) and line.topic_id == MINE and line.epoch == epochs[MINE]
    }
    assert {(kind, user, seq) for kind, seq in ((CursorLine, 3), (MarkLine, 2)) for user in (BOB, EVA)} <= places
    for user in (BOB, EVA):
        users = (await shard_at_end(log, user_shard(user, 4))).users
        membership = users.membership(user, MINE)
        assert membership is not None and membership.epoch == epochs[MINE]
        head = users.heads.find(MINE)
        assert head is not None and head.epoch == epochs[MINE]


async def test_a_shard_without_any_snapshot_begins_with_what_its_log_still_has(log: Log) -> None:
    fill = await filled(log)
    for user in (BOB, EVA):
        known = MembershipRecord(MINE, fill.epochs[MINE], fill.epochs[MINE], "member")
        await log.append(LogName.INBOX, user_shard(user, 4), user.encode(), encode_inbox(known))
    assert (await shard_at_end(log, 1)).users.membership(EVA, MINE) is not None
    await raised(log, 1)
    await cut(log, fill)
    with pytest.raises(NotConfigured):
        await found_in(log)
    report = await recovered(log)
    assert (report.lost_from, report.topics, report.new_epochs) == (-1, 1, 1)
    assert (await found_in(log)).shard.logic == LOGIC
    async with owning(log) as runner:
        owner = owner_in(runner)
        assert (runner.life.state, set(owner.rows)) == (ShardState.LIVE, {topic_key(a_topic("new"))})
        users = owner.inbox.users
        inbox = (await log.bounds(LogName.INBOX, 0)).end
        await until(lambda: users.next_offset >= inbox)
        assert users.membership(BOB, MINE) is None
        assert (await shard_at_end(log, 1)).users.membership(EVA, MINE) is None, "the topic is gone"
        assert users.membership(BOB, OTHER) is not None, "the other shards know of whom they have members"
    with pytest.raises(NothingLost):
        await recovered(log)


async def test_a_chain_of_snapshots_with_a_hole_is_used_up_to_the_hole(log: Log) -> None:
    fill = await filled(log)
    await raised(log, 0)
    await fill.message(MINE, "behind the base")
    found = await shard_at_end(log, 0)
    chunks = [value for value in found.writer.delta(found.shard, found.rows) if value is not None]  # never written
    await fill.message(MINE, "behind the hole")
    found.writer.touch(KEY)
    later = [value for value in found.writer.delta(found.shard, found.rows) if value is not None]
    assert chunks and later
    for value in later:
        await log.append(LogName.SNAPSHOTS, 0, None, value)
    await cut(log, fill)
    with pytest.raises(ShardLost, match="removed before anybody applied it"):
        await found_in(log)
    report = await recovered(log)
    assert report.lost_to - report.lost_from == 4
    found = await found_in(log)
    assert {topic_key(a_topic("new")), KEY} <= set(found.rows)
    assert found.shard.logic == LOGIC > 1


async def test_a_lost_inbox_is_told_again_and_no_topic_begins_again(log: Log) -> None:
    fill = await filled(log)
    known = MembershipRecord(OTHER, fill.epochs[OTHER], 0, "member")
    await log.append(LogName.INBOX, 0, BOB.encode(), encode_inbox(known))
    await snapshots(log)
    before = (await found_in(log)).rows[KEY]
    saved = (await found_in(log)).users.next_offset
    assert before.seq
    await fill.leave(OTHER, BOB)
    await log.append(LogName.MESSAGES, 0, KEY, b"not json")
    await fill.cursor(BOB, MINE, 4)
    await fill.message(MINE, "one more")
    await log.append(LogName.INBOX, 0, None, b"later")
    end = (await log.bounds(LogName.INBOX, 0)).end
    await log.truncate_before(LogName.INBOX, 0, end)
    with pytest.raises(ShardLost, match="memberships were removed"):
        await found_in(log)
    report = await recovered(log)
    assert (report.new_epochs, report.messages) == (0, 0)
    assert (report.inbox_lost_from, report.inbox_lost_to) == (saved, end)
    async with owning(log) as runner:
        owner = owner_in(runner)
        assert (runner.life.state, owner.rows[KEY].epoch) == (ShardState.LIVE, before.epoch)
        users = owner.inbox.users
        await until(lambda: (head := users.heads.find(MINE)) is not None and head.seq == before.seq + 1)
        assert users.membership(BOB, MINE) is not None
        assert users.membership(BOB, OTHER) is None, "he has left"
        end = (await log.bounds(LogName.MESSAGES, 0)).end
        await until(lambda: owner.shard.next_offset >= end)
        await owner.dead_letters.safe()
    reasons = [letter.reason async for letter in all_letters(log)]
    assert reasons.count("not_json") == 1, "what the messages behind the snapshot ask for is done by the next owner"


async def test_what_offsets_that_went_back_could_repeat_is_refused(log: Log) -> None:
    await filled(log)
    found = await shard_at_end(log, 0)
    found.shard.next_offset += 5
    await write_base(log, 0, found.shard, found.rows, pairs_of(found.users, found.letters))
    with pytest.raises(CannotRecover, match="restore the last backup"):
        await recovered(log)


async def test_a_shard_that_was_never_used_has_lost_nothing(kafka_bootstrap: str, log_prefix: str) -> None:
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=2)
    await init_kafka(options)
    async with KafkaLogOf(options) as log:
        with pytest.raises(NothingLost):
            await recovered(log)


class KafkaLogOf:
    """An open log of Kafka."""

    def __init__(self, options: LogOptions) -> None:
        self._log = KafkaLog(options)

    async def __aenter__(self) -> KafkaLog:
        await self._log.open()
        return self._log

    async def __aexit__(self, *_: object) -> None:
        await self._log.close()


class Ending(MemoryLog):
    """A log whose user ends at the append number `left`, counted down; -1: never. What was appended before is there."""

    left = -1
    user: "asyncio.Task[LossReport] | None" = None

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        if self.left == 0:
            assert self.user is not None
            self.user.cancel()
            return asyncio.get_running_loop().create_future()
        self.left -= self.left > 0
        return super().append(log, shard, key, value)


async def test_killed_at_any_append_it_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.restore_target.PLACES_AT_ONCE", 2)
    log = Ending(MemoryStore(CLOCK, RNG, 4))
    await log.open()
    fill = await overtaken(log)
    known = dict(fill.epochs)
    killed = 0
    while True:
        log.left, log.user = killed, asyncio.create_task(recovered(log))
        try:
            await log.user
            break
        except asyncio.CancelledError:
            killed += 1
        log.left = -1
        with pytest.raises(ShardLost):
            await found_in(log)
    log.left = -1
    assert killed > 20
    found = await shard_at_end(log, 0)
    assert found.rows[KEY].epoch > max(known.values())
    assert len(await letters_in(log)) == 5, "one letter a record, however often it was written"
    assert TAIL in (await letters_in(log))[0][1]
    users = (await shard_at_end(log, 1)).users
    membership, head = users.membership(EVA, MINE), users.heads.find(MINE)
    assert membership is not None and head is not None
    assert (membership.epoch, head.epoch) == (found.rows[KEY].epoch,) * 2
    [cursor] = [line for line in lines_of(Shard(), {}, users) if isinstance(line, CursorLine)]
    assert (cursor.user_id, cursor.epoch, cursor.seq) == (EVA, found.rows[KEY].epoch, 3)
    with pytest.raises(NothingLost):
        await recovered(log)


async def test_nothing_is_written_while_somebody_serves() -> None:
    log = MemoryLog(MemoryStore(CLOCK, RNG, 4))
    await log.open()
    await overtaken(log)
    ends = [(await log.bounds(name, 0)).end for name in LogName]

    async def somebody() -> None:
        raise LogUnavailable("a dispatcher runs")

    with pytest.raises(LogUnavailable):
        await recover_with_loss(log, 0, CLOCK, somebody)
    assert [(await log.bounds(name, 0)).end for name in LogName] == ends


async def test_a_dispatcher_that_starts_meanwhile_leaves_the_shard_parked() -> None:
    log = MemoryLog(MemoryStore(CLOCK, RNG, 4))
    await log.open()
    await overtaken(log)
    calls: list[None] = []

    async def later() -> None:
        calls.append(None)
        if len(calls) > 1:
            raise LogUnavailable("a dispatcher runs")

    with pytest.raises(LogUnavailable):
        await recover_with_loss(log, 0, CLOCK, later)
    with pytest.raises(ShardLost):
        await found_in(log)
