"""What the snapshots remember of the messages' numbers, newest first."""

from contextlib import aclosing

from dispatcher.numbers import numbers_back
from headgate.core.records import LogName
from tests.core.snapshot_bed import Bed, bundle, configured
from tests.dispatcher.test_recovery import a_log


async def test_of_two_owners_that_went_on_behind_one_snapshot_both_give_their_numbers() -> None:
    bed, other = Bed(), Bed()
    bed.feed([*configured(), bundle(2, 0, 10)])
    bed.snapshot(base=True)
    other.log = bed.log
    other.restart()
    start = bed.shard.next_offset
    bed.feed([bundle(start, 10, 20), bundle(start + 1, 30, 10)])
    other.feed([bundle(start, 10, 20)])
    bed.snapshot(base=False)
    other.snapshot(base=False)
    log = await a_log()
    for value in bed.log:
        await log.append(LogName.SNAPSHOTS, 0, None, value)
    async with aclosing(numbers_back(log, 0)) as walk:
        found = [(numbers.begin, numbers.since, numbers.offset, len(numbers.seqs)) async for numbers in walk]
    assert found == [(start, start, start + 2, 30), (start, start, start + 1, 20), (0, 0, start, 10)]
