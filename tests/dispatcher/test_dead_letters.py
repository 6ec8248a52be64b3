"""Dead letters of a shard: one a record, in bounded memory, in slices, and safe before any snapshot passes them."""

import asyncio
import time
from typing import NamedTuple

import pytest

from dispatcher import dead_letters
from dispatcher.dead_letters import DeadLetters
from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from headgate.core.delivery.dead_letter_record import DeadLetter, LetterAdded, RefusedRecord, encode_letter
from headgate.core.sequencer.effects import Unusable
from headgate.core.wire.control import Actor, DeleteTopic, encode_body
from headgate.core.wire.envelope import Item, encode_bundle, encode_control
from headgate.core.wire.ids import foreign_id, id_text, keyed_id, random_id
from headgate.core.wire.message_changes import EditMessage, encode_event, event_tail
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.system import SystemRng
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.dispatcher.bed import owning
from tests.dispatcher.letters_bed import records_of
from tests.dispatcher.test_recovery import KEY, TOPIC, a_log, create


class Refused(NamedTuple):
    """A letter, and the record it is about."""

    letter: DeadLetter
    record: RefusedRecord


async def letters_of(log: FaultyLog) -> list[Refused]:
    found = [added.letter for added in await records_of(log) if isinstance(added, LetterAdded)]
    return [Refused(letter, letter.record) for letter in found if letter.record is not None]


def large_batch(epoch: int, name: int) -> bytes:
    tail = b'"message_id":"x","publisher_id":"p","payload":"' + b"x" * 380 + b'"}'
    return encode_bundle([Item(keyed_id(KEY, "p", f"{name}.{n}"), 0, tail) for n in range(1_000)], epoch)


async def test_one_letter_a_record_with_its_value_once_whatever_its_batch_holds() -> None:
    log = await a_log()
    epoch = await create(log)
    batches = [large_batch(epoch, n) for n in range(3)]
    async with owning(log) as runner:
        delete = encode_control(encode_body(DeleteTopic(TOPIC)), epoch, random_id(KEY, SystemRng().entropy(12)))
        ends = [log.append(LogName.MESSAGES, 0, KEY, value) for value in (delete, *batches)]
        places = [end.result() for end in ends]
        assert runner.owner is not None
        async with asyncio.timeout(5):
            while runner.owner.shard.next_offset <= places[-1].offset:
                await asyncio.sleep(0.01)
            await runner.owner.dead_letters.safe()
    letters = await letters_of(log)
    assert [record.items for _, record in letters] == [1_000] * 3
    assert [letter.id for letter, _ in letters] == [id_text(foreign_id(KEY, 0, place.offset)) for place in places[1:]]
    assert {(letter.reason, letter.topic, letter.seq) for letter, _ in letters} == {("no_topic", TOPIC, 0)}
    assert [record.value for _, record in letters] == batches
    assert sum(len(encode_letter(LetterAdded(letter))) for letter, _ in letters) < 2 * sum(map(len, batches))


async def test_the_letter_of_an_event_does_not_keep_what_a_redaction_could_not_reach() -> None:
    log = await a_log()
    epoch = await create(log)
    record_id, change = random_id(KEY, SystemRng().entropy(12)), EditMessage(1, 1, 1, Actor("bob"))
    event = encode_event(change, event_tail(record_id, change, b'"hunter2"'), epoch, record_id)  # at logic 1
    async with owning(log) as runner:
        place = await log.append(LogName.MESSAGES, 0, KEY, event)
        assert runner.owner is not None
        async with asyncio.timeout(5):
            while runner.owner.shard.next_offset <= place.offset:
                await asyncio.sleep(0.01)
            await runner.owner.dead_letters.safe()
    ((letter, record),) = await letters_of(log)
    assert (letter.reason, record.value, record.cut) == ("corrupt", None, True)


def dead(offset: int, size: int = 10) -> Record:
    return Record(offset, 1, b"k", b"x" * size)


async def test_reading_pauses_while_the_waiting_letters_are_at_their_bytes_and_goes_on_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letters, "RETRY_S", 0.02)
    monkeypatch.setattr(dead_letters, "WAITING_BYTES", 3 * (256 + 400_000))
    log = await a_log()
    log.reach = Reach.REFUSED
    letters = DeadLetters(log, 0)
    for offset in range(2):
        letters.add(dead(offset, 400_000), Unusable(1_000, "no_topic", ""))
    await letters.room()
    letters.add(dead(2, 400_000), Unusable(1_000, "no_topic", ""))
    paused = asyncio.ensure_future(letters.room())
    await asyncio.sleep(0.1)
    assert not paused.done()
    log.reach = Reach.OK
    await asyncio.wait_for(paused, 5)
    await asyncio.wait_for(letters.safe(), 5)
    assert [record.offset for _, record in await letters_of(log)] == [0, 1, 2]


async def test_small_letters_are_bounded_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "WAITING_LETTERS", 100)
    log = await a_log()
    log.reach = Reach.REFUSED
    letters = DeadLetters(log, 0)
    for offset in range(150):
        letters.add(dead(offset), Unusable(1, "corrupt", ""))
        assert letters.is_full == (offset >= 99)


async def test_a_shard_reads_no_further_while_its_dead_letters_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letters, "RETRY_S", 0.02)
    monkeypatch.setattr(dead_letters, "WAITING_LETTERS", 10)
    log = await a_log()
    async with owning(log) as runner:
        owner = runner.owner
        assert owner is not None
        written = owner.dead_letters._log = await a_log()
        start = (await written.bounds(LogName.DEAD_LETTERS, 0)).end
        written.reach = Reach.REFUSED
        appends = [log.append(LogName.MESSAGES, 0, KEY, b"\xff" * 70_000) for _ in range(200)]
        end = appends[-1].result().offset + 1
        await asyncio.sleep(0.3)
        assert owner.shard.next_offset < end - 150, "it has not read on"
        assert len(owner.dead_letters._waiting) < 15
        written.reach = Reach.OK
        async with asyncio.timeout(10):
            while owner.shard.next_offset < end:
                await asyncio.sleep(0.01)
            await owner.dead_letters.safe()
        assert (await written.bounds(LogName.DEAD_LETTERS, 0)).end == start + 200


async def test_a_burst_of_the_largest_letters_never_holds_the_loop() -> None:
    log = await a_log()
    letters = DeadLetters(log, 0)
    for offset in range(10):
        letters.add(dead(offset, 512 * 1024), Unusable(1_000, "no_topic", ""))
    longest = 0.0
    safe = asyncio.ensure_future(letters.safe())
    while not safe.done():
        started = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - started)
    assert longest < 0.02
    assert len(await letters_of(log)) == 10


async def test_a_snapshot_waits_for_the_dead_letters_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a crash the log is read from the snapshot on: a letter before it that is not in the log would be lost."""
    monkeypatch.setattr(dead_letters, "RETRY_S", 0.02)
    options = ShardOptions(snapshots=SnapshotOptions(quiet_offsets=1))
    log = await a_log()
    async with owning(log, options) as runner:
        owner = runner.owner
        assert owner is not None
        blocked = owner.dead_letters._log = await a_log()
        blocked.reach = Reach.REFUSED
        await log.append(LogName.MESSAGES, 0, KEY, b"\xffnot JSON")
        await asyncio.sleep(1.0)
        snapshots = await log.bounds(LogName.SNAPSHOTS, 0)
        assert snapshots.first == snapshots.end, "a snapshot passed a dead letter that is not in the log"
        safe = asyncio.ensure_future(owner.dead_letters.safe())
        await asyncio.sleep(0.01)
        assert not safe.done()
        blocked.reach = Reach.OK
        async with asyncio.timeout(10):
            await safe
            while (await log.bounds(LogName.SNAPSHOTS, 0)).end == snapshots.end:
                await asyncio.sleep(0.02)


async def test_safe_does_not_wait_for_letters_that_come_later() -> None:
    log = await a_log()
    log.latency = lambda _log, _shard: 0.05
    letters = DeadLetters(log, 0)
    letters.add(dead(0), Unusable(1, "corrupt", ""))
    safe = asyncio.ensure_future(letters.safe())
    for offset in range(1, 20):
        await asyncio.sleep(0.01)
        letters.add(dead(offset), Unusable(1, "corrupt", ""))
        if safe.done():
            break
    assert safe.done()
    assert letters._waiting


async def test_a_cancelled_append_is_tried_again_until_the_shard_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "RETRY_S", 0.02)
    log = await a_log()
    letters = DeadLetters(log, 0)
    tried: list[asyncio.Future[Appended]] = []

    def cancelled(*_: object) -> asyncio.Future[Appended]:
        tried.append(asyncio.get_running_loop().create_future())
        tried[-1].cancel()
        return tried[-1]

    append = log.append
    monkeypatch.setattr(log, "append", cancelled)
    letters.add(Record(7, 1, KEY, b"x"), Unusable(1, "no_topic", ""))
    await asyncio.sleep(0.1)
    assert len(tried) > 1
    letters.close()
    count = len(tried)
    await asyncio.sleep(0.1)
    assert len(tried) == count, "the next owner makes it again"
    monkeypatch.setattr(log, "append", append)
    again = DeadLetters(log, 0)
    again.add(Record(7, 1, KEY, b"x"), Unusable(1, "no_topic", ""))
    await again.safe()
    assert [record.offset for _, record in await letters_of(log)] == [7]
