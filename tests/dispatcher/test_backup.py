"""The order in which a backup reads the shards: some at once where they are small."""

import asyncio

import pytest

from dispatcher import backup as backup_module
from dispatcher.backup_lines import ShardLine
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_log import MemoryLog, MemoryReader
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import LogUnavailable
from tests.dispatcher.restore_bed import CLOCK, RNG, backup_of, fill_log, lines_in, state_in

SHARDS = 20


class CountedLog(MemoryLog):
    """A log that notes how many shards are read at once; that of `away` cannot be read."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(CLOCK, RNG, SHARDS))
        self.away: int | None = None
        self.most = 0
        self._reading: set[int] = set()

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> MemoryReader:
        if shard == self.away and log is LogName.INBOX:
            raise LogUnavailable("away")
        self._reading.add(shard)
        self.most = max(self.most, len(self._reading))
        await asyncio.sleep(0.01)
        self._reading.discard(shard)
        return await super().reader(log, shard, offset, background=background)


@pytest.fixture
async def log() -> CountedLog:
    log = CountedLog()
    await log.open()
    await fill_log(log)
    return log


async def test_small_shards_are_read_ahead_and_stand_in_their_order(
    log: CountedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.most = 0
    ahead = await backup_of(log)
    assert 1 < log.most <= backup_module.AHEAD
    monkeypatch.setattr(backup_module, "SMALL_ROWS", -1)
    log.most = 0
    alone = await backup_of(log)
    assert log.most == 1, "large ones fill the memory"
    for file in (ahead, alone):
        assert [line.shard for line in lines_in(file) if isinstance(line, ShardLine)] == list(range(SHARDS))
    assert state_in(ahead) == state_in(alone)


async def test_a_shard_that_cannot_be_read_ends_the_backup_and_the_reading_of_the_others(log: CountedLog) -> None:
    bounds = [(await log.bounds(LogName.INBOX, shard)) for shard in range(SHARDS)]
    log.away = max(shard for shard, found in enumerate(bounds) if found.end > found.first)
    before = asyncio.all_tasks()
    with pytest.raises(LogUnavailable):
        await backup_of(log)
    assert asyncio.all_tasks() == before
