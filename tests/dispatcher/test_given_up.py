"""A delivery that is given up, at the topic's owner: one event and one count, however often it is asked or read."""

import msgspec

from dispatcher.shard import ShardOwner
from headgate.core.delivery.dead_letter_record import LetterAdded, LetterEnded, LetterReplayed
from headgate.core.delivery.open_letters import OFFSET_KEY
from headgate.core.sequencer.rows import Tally
from headgate.core.sequencer.snapshot_writer import PairKey
from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_dead_letters import Receiver
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.dispatcher.bed import owner_in, owning, until
from tests.dispatcher.letters_bed import LettersBed
from tests.dispatcher.test_letter_log import OFTEN, has_read, letter, wrote
from tests.dispatcher.test_recovery import KEY, TOPIC, a_log, caught_up, create, fill


def given_up(owner: ShardOwner) -> int:
    return (owner.rows[KEY].tally or Tally()).dead_lettered


async def test_each_letter_is_one_event_and_one_count() -> None:
    bed = LettersBed(await a_log())
    bed.owner.events.watch(0, EventFilter((), ("dead_letter",)))
    async with bed.run():
        await bed.give_up(2, error="down")
        await bed.give_up(2, error="again")
        await bed.give_up(2, Receiver(group="workers"))
    tally = bed.row.tally
    assert tally is not None and tally.dead_lettered == 2
    first, second = [msgspec.json.decode(event.data) for batch in bed.owner.events.take() for event in batch.events]
    assert first == {
        **{"event": "dead_letter", "at": first["at"], "topic": "t", "id": first["id"], "subscriber": "bob"},
        **{"attempts": 3, "status": "DEAD_LETTER", "error": "down", "reason": "max_attempts"},
        **{"epoch": bed.row.epoch, "seq": 2, "device_id": "phone"},
    }
    assert first["id"] and second["id"] == first["id"]
    assert (second["subscriber"], second["group"]) == ("workers", "workers")


async def _letters(log: FaultyLog, epoch: int) -> int:
    """Two letters, one of them twice: replayed and given up again. Three counts."""
    first, second = letter(epoch, 1), letter(epoch, 2)
    again = LetterReplayed(first.id, TOPIC), LetterAdded(first)
    return await wrote(log, LetterAdded(first), LetterAdded(first), LetterAdded(second), *again)


async def test_a_new_owner_counts_what_no_snapshot_has_and_nothing_twice() -> None:
    log = await a_log()
    epoch = await create(log)
    async with owning(log) as runner:
        await fill(log, 0, 3, epoch)
        await caught_up(runner, 3)
        await has_read(runner, await _letters(log, epoch))
        assert given_up(owner_in(runner)) == 3
    async with owning(log, OFTEN) as runner:  # killed before a snapshot: all is read again
        owner = owner_in(runner)
        await until(lambda: owner.letters.is_complete)
        assert given_up(owner) == 3
        assert owner.events.take() == []
        await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0)
        assert not owner.writer.touched(PairKey(OFFSET_KEY))
    end = await wrote(log, LetterEnded(letter(epoch, 2).id, TOPIC, "purged"), LetterAdded(letter(epoch, 3)))
    async with owning(log) as runner:
        await has_read(runner, end)
        assert given_up(owner_in(runner)) == 4


async def test_letters_of_a_topic_that_the_snapshot_does_not_have_are_counted() -> None:
    log = await a_log()
    epoch = await create(log)
    await fill(log, 0, 3, epoch)
    end = await _letters(log, epoch)
    async with owning(log) as runner:
        await has_read(runner, end)
        assert given_up(owner_in(runner)) == 3
