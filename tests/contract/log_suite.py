"""What every log adapter must do (the port `Log`), as checks over a log handed in; knows no adapter."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.logs.embedded import MAX_RECORD_BYTES
from headgate.runtime.logs.shard_config import parse_config
from headgate.runtime.ports import AppendUnknown, Log, LogUnavailable, OffsetGone, Reader, RecordTooLarge

PATIENCE_S = 15.0


class SystemClock:
    """The port `Clock` over the real clocks."""

    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SystemRng:
    """The port `Rng` over the real randomness."""

    def random(self) -> float:
        return secrets.randbelow(1 << 53) / (1 << 53)

    def entropy(self, count: int) -> bytes:
        return secrets.token_bytes(count)


@dataclass
class Rig:
    """An adapter under test: `make` returns an unopened handle, each of the same log when it is durable."""

    make: Callable[[], Log]
    shards: int
    embedded: bool

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Log]:
        log = self.make()
        await log.open()
        try:
            yield log
        finally:
            await log.close()

    def log(self) -> AbstractAsyncContextManager[Log]:
        return self.opened()


async def take(reader: Reader, count: int, patience_s: float = PATIENCE_S) -> list[Record]:
    """Reads until `count` records are there."""
    records: list[Record] = []
    deadline = time.monotonic() + patience_s
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records after {patience_s} s"
        batch = await reader.read(count - len(records), 1.0)
        assert not batch.records or batch.next_offset > batch.records[-1].offset
        records += batch.records
    return records


async def read_from(log: Log, name: LogName, shard: int, offset: int, count: int) -> list[Record]:
    """Opens a reader, takes `count` records, closes it."""
    reader = await log.reader(name, shard, offset)
    try:
        return await take(reader, count)
    finally:
        await reader.close()


async def fill(log: Log, name: LogName, shard: int, count: int, first: int = 0) -> list[Appended]:
    """Appends `count` numbered records at once and waits for all."""
    futures = [log.append(name, shard, b"k%d" % i, b"v%d" % i) for i in range(first, first + count)]
    return await asyncio.gather(*futures)


class LogContract:
    """The suite. A subclass gives the fixture `rig`."""

    async def test_a_fresh_message_log_begins_with_its_config_record(self, rig: Rig) -> None:
        async with rig.log() as log:
            assert log.shards == rig.shards
            for shard in range(log.shards):
                bounds = await log.bounds(LogName.MESSAGES, shard)
                (record,) = await read_from(log, LogName.MESSAGES, shard, bounds.first, 1)
                config = parse_config(record)
                assert config is not None
                assert (config.cluster_id, config.generation) == (log.cluster_id, 1)
                assert (config.shards, config.shard) == (log.shards, shard)
                assert bounds.end == bounds.first + 1

    async def test_all_logs_are_there_and_the_rest_is_empty(self, rig: Rig) -> None:
        async with rig.log() as log:
            for name in set(LogName) - {LogName.MESSAGES}:
                bounds = await log.bounds(name, 0)
                assert bounds.first == bounds.end, name

    async def test_records_stand_in_the_order_of_the_calls_at_the_acknowledged_offsets(self, rig: Rig) -> None:
        async with rig.log() as log:
            before = await log.bounds(LogName.MESSAGES, 1)
            acked = await fill(log, LogName.MESSAGES, 1, 500)
            records = await read_from(log, LogName.MESSAGES, 1, before.end, 500)
            assert [r.value for r in records] == [b"v%d" % i for i in range(500)]
            assert [(r.offset, r.ts) for r in records] == [tuple(a) for a in acked]
            assert [a.offset for a in acked] == list(range(before.end, before.end + 500))
            assert (await log.bounds(LogName.MESSAGES, 1)).end == acked[-1].offset + 1

    async def test_timestamps_are_unix_milliseconds_of_the_append(self, rig: Rig) -> None:
        async with rig.log() as log:
            before = time.time() * 1000
            appended = await log.append(LogName.INBOX, 0, b"k", b"v")
            assert before - 1000 <= appended.ts <= time.time() * 1000 + 1000

    async def test_futures_end_in_order(self, rig: Rig) -> None:
        async with rig.log() as log:
            ended: list[int] = []
            futures = [log.append(LogName.INBOX, 0, None, b"%d" % i) for i in range(50)]
            for i, future in enumerate(futures):
                future.add_done_callback(partial(lambda i, _: ended.append(i), i))
            await asyncio.gather(*futures)
            await asyncio.sleep(0)
            assert ended == list(range(50))

    async def test_a_waiting_reader_wakes_with_the_append(self, rig: Rig) -> None:
        async with rig.log() as log:
            await fill(log, LogName.INBOX, 0, 1)  # the first contact with a fresh log is slow
            reader = await log.reader(LogName.INBOX, 0, (await log.bounds(LogName.INBOX, 0)).end)
            assert not (await reader.read(10, 0.2)).records
            delays = []
            for i in range(3):
                waiting = asyncio.ensure_future(take(reader, 1))
                await asyncio.sleep(0.05)
                assert not waiting.done()
                start = time.monotonic()
                await log.append(LogName.INBOX, 0, None, b"%d" % i)
                assert (await waiting)[0].value == b"%d" % i
                delays.append(time.monotonic() - start)
            await reader.close()
            assert min(delays) < 1.0

    async def test_reading_nothing_takes_the_time_given_and_returns_the_end(self, rig: Rig) -> None:
        async with rig.log() as log:
            bounds = await log.bounds(LogName.SNAPSHOTS, 0)
            reader = await log.reader(LogName.SNAPSHOTS, 0, bounds.end)
            start = time.monotonic()
            batch = await reader.read(10, 0.3)
            assert 0.25 < time.monotonic() - start < 5
            assert list(batch.records) == []
            assert tuple(batch[1:3]) in {(bounds.end, bounds.end), tuple(bounds)}
            await reader.close()

    async def test_a_reader_may_begin_at_any_offset(self, rig: Rig) -> None:
        async with rig.log() as log:
            acked = await fill(log, LogName.INBOX, 1, 20)
            for at in (0, 7, 19):
                (record,) = await read_from(log, LogName.INBOX, 1, acked[at].offset, 1)
                assert record.value == b"v%d" % at

    async def test_a_read_returns_no_more_than_asked_for_and_goes_on_there(self, rig: Rig) -> None:
        async with rig.log() as log:
            acked = await fill(log, LogName.INBOX, 0, 30)
            reader = await log.reader(LogName.INBOX, 0, acked[0].offset)
            values: list[bytes | None] = []
            while len(values) < 30:
                batch = await reader.read(7, 5.0)
                assert len(batch.records) <= 7
                assert batch.end == acked[-1].offset + 1
                values += [record.value for record in batch.records]
            assert values == [b"v%d" % i for i in range(30)]
            await reader.close()

    async def test_truncation_forgets_what_is_before_and_nothing_else(self, rig: Rig) -> None:
        async with rig.log() as log:
            acked = await fill(log, LogName.INBOX, 0, 10)
            await log.truncate_before(LogName.INBOX, 0, acked[4].offset)
            assert await log.bounds(LogName.INBOX, 0) == (acked[4].offset, acked[9].offset + 1)
            records = await read_from(log, LogName.INBOX, 0, acked[4].offset, 6)
            assert [r.value for r in records] == [b"v%d" % i for i in range(4, 10)]

    async def test_a_log_truncated_to_its_end_goes_on_from_there(self, rig: Rig) -> None:
        async with rig.log() as log:
            acked = await fill(log, LogName.INBOX, 0, 3)
            await log.truncate_before(LogName.INBOX, 0, acked[2].offset + 1)
            assert await log.bounds(LogName.INBOX, 0) == (acked[2].offset + 1,) * 2
            assert (await log.append(LogName.INBOX, 0, None, b"x")).offset == acked[2].offset + 1

    async def test_an_offset_before_the_first_is_gone(self, rig: Rig) -> None:
        async with rig.log() as log:
            acked = await fill(log, LogName.INBOX, 0, 10)
            await log.truncate_before(LogName.INBOX, 0, acked[5].offset)
            with pytest.raises(OffsetGone) as gone:
                await read_from(log, LogName.INBOX, 0, acked[0].offset, 1)
            assert (gone.value.first, gone.value.end) == (acked[5].offset, acked[9].offset + 1)

    async def test_an_offset_beyond_the_end_is_gone(self, rig: Rig) -> None:
        async with rig.log() as log:
            bounds = await log.bounds(LogName.INBOX, 0)
            with pytest.raises(OffsetGone) as gone:
                await read_from(log, LogName.INBOX, 0, bounds.end + 5, 1)
            assert (gone.value.first, gone.value.end) == bounds

    async def test_keys_and_values_are_bytes_or_none(self, rig: Rig) -> None:
        async with rig.log() as log:
            pairs = [(None, b"v"), (b"k", None), (None, None), (b"", b""), (b"\x00\xff", b"\xffHG\x00")]
            futures = [log.append(LogName.INBOX, 0, key, value) for key, value in pairs]
            acked = await asyncio.gather(*futures)
            records = await read_from(log, LogName.INBOX, 0, acked[0].offset, len(pairs))
            assert [(r.key, r.value) for r in records] == pairs

    async def test_large_records_come_through_whole(self, rig: Rig) -> None:
        async with rig.log() as log:
            values = [b"%d" % i * 400_000 for i in range(5)] + [b"x" * (MAX_RECORD_BYTES - 10)]
            acked = await asyncio.gather(*(log.append(LogName.SNAPSHOTS, 1, b"k", value) for value in values))
            records = await read_from(log, LogName.SNAPSHOTS, 1, acked[0].offset, len(values))
            assert [r.value for r in records] == values

    async def test_a_record_that_is_too_large_is_refused_and_the_log_goes_on(self, rig: Rig) -> None:
        async with rig.log() as log:
            before = await log.bounds(LogName.SNAPSHOTS, 0)
            with pytest.raises(RecordTooLarge, match="1000000"):
                await log.append(LogName.SNAPSHOTS, 0, b"k", b"x" * (MAX_RECORD_BYTES + 1))
            assert (await log.append(LogName.SNAPSHOTS, 0, b"k", b"x")).offset == before.end

    async def test_shards_do_not_mix(self, rig: Rig) -> None:
        async with rig.log() as log:
            ends = [(await log.bounds(LogName.MESSAGES, shard)).end for shard in range(log.shards)]
            await asyncio.gather(
                *(log.append(LogName.MESSAGES, i % log.shards, b"k", b"%d" % i) for i in range(40 * log.shards))
            )
            for shard, end in enumerate(ends):
                records = await read_from(log, LogName.MESSAGES, shard, end, 40)
                assert [int(r.value or b"") % log.shards for r in records] == [shard] * 40
                assert [r.offset for r in records] == list(range(end, end + 40))

    async def test_several_readers_of_one_part_see_everything(self, rig: Rig) -> None:
        async with rig.log() as log:
            end = (await log.bounds(LogName.INBOX, 1)).end
            readers = [await log.reader(LogName.INBOX, 1, end) for _ in range(3)]
            taking = [asyncio.ensure_future(take(reader, 20)) for reader in readers]
            await fill(log, LogName.INBOX, 1, 10)
            late = await log.reader(LogName.INBOX, 1, end)
            await fill(log, LogName.INBOX, 1, 10, first=10)
            for records in [*await asyncio.gather(*taking), await take(late, 20)]:
                assert [r.value for r in records] == [b"v%d" % i for i in range(20)]
            for reader in [*readers, late]:
                await reader.close()

    async def test_cancelling_the_future_does_not_take_the_record_back(self, rig: Rig) -> None:
        async with rig.log() as log:
            end = (await log.bounds(LogName.INBOX, 0)).end
            first = log.append(LogName.INBOX, 0, None, b"a")
            second = log.append(LogName.INBOX, 0, None, b"b")
            first.cancel()
            await second
            records = await read_from(log, LogName.INBOX, 0, end, 2)
            assert [r.value for r in records] == [b"a", b"b"]

    async def test_a_future_its_holder_has_ended_is_left_alone(self, rig: Rig) -> None:
        """The appender does so when its own wait is over."""
        async with rig.log() as log:
            end = (await log.bounds(LogName.INBOX, 0)).end
            future = log.append(LogName.INBOX, 0, None, b"a")
            if not future.done():
                future.set_exception(AppendUnknown("waited long enough"))
                future.exception()
            await log.append(LogName.INBOX, 0, None, b"b")
            assert [r.value for r in await read_from(log, LogName.INBOX, 0, end, 2)] == [b"a", b"b"]

    async def test_records_read_are_counted_by_log(self, rig: Rig) -> None:
        async with rig.log() as log:
            acked = await fill(log, LogName.INBOX, 0, 5)
            counted: dict[LogName, int] = getattr(log, "records_read")  # noqa: B009 - every adapter has it, the port does not
            before = dict(counted)
            await read_from(log, LogName.INBOX, 0, acked[0].offset, 5)
            assert counted == before | {LogName.INBOX: before[LogName.INBOX] + 5}

    async def test_close_finishes_what_was_handed_over(self, rig: Rig) -> None:
        log = rig.make()
        await log.open()
        futures = [log.append(LogName.MESSAGES, 0, b"k", b"%d" % i) for i in range(100)]
        await log.close()
        assert all(future.done() for future in futures)
        places = [future.result().offset for future in futures]
        assert places == list(range(places[0], places[0] + 100))
        with pytest.raises(LogUnavailable):
            await log.append(LogName.MESSAGES, 0, b"k", b"late")

    async def test_a_durable_log_keeps_everything_over_a_restart(self, rig: Rig) -> None:
        async with rig.log() as log:
            if not log.durable:
                pytest.skip("not durable")
            cluster_id = log.cluster_id
            acked = await fill(log, LogName.MESSAGES, 0, 20)
            await fill(log, LogName.INBOX, 0, 3)
            await log.truncate_before(LogName.INBOX, 0, (await log.bounds(LogName.INBOX, 0)).end)
            inbox = await log.bounds(LogName.INBOX, 0)
        async with rig.log() as log:
            assert (log.cluster_id, log.shards) == (cluster_id, rig.shards)
            records = await read_from(log, LogName.MESSAGES, 0, acked[0].offset, 20)
            assert [r.value for r in records] == [b"v%d" % i for i in range(20)]
            assert await log.bounds(LogName.INBOX, 0) == inbox
            assert (await log.append(LogName.MESSAGES, 0, b"k", b"v")).offset == acked[-1].offset + 1

    async def test_an_embedded_log_begins_at_its_creation_in_ms(self, rig: Rig) -> None:
        if not rig.embedded:
            pytest.skip("not embedded")
        before = time.time_ns() // 1_000_000
        async with rig.log() as log:
            first = (await log.bounds(LogName.MESSAGES, 0)).first
            assert before <= first <= time.time_ns() // 1_000_000 < 1 << 41

    async def test_a_lone_member_is_assigned_every_shard(self, rig: Rig) -> None:
        async with rig.log() as log:
            group = log.group("node-1")
            assert group.assigned() is None
            await group.start()
            async with asyncio.timeout(30):
                while group.assigned() != frozenset(range(log.shards)):
                    await group.changed.wait()
                    group.changed.clear()
            await group.stop()
            assert group.assigned() is None

    async def test_an_unknown_part_is_the_callers_error(self, rig: Rig) -> None:
        async with rig.log() as log:
            with pytest.raises(KeyError):
                log.append(LogName.MESSAGES, log.shards, b"k", b"v")
